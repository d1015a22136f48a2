"""Fit, validate, test and predict, and the run directories they work in."""

from experiments.train.run import Run

__all__ = ["Run"]
