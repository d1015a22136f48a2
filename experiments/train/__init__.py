"""Fit, validate, test and predict."""
