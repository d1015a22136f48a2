"""Fit, validate, test and predict, and the run directories they work in."""
