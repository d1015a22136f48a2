"""Network, training, inference and evaluation."""

__version__ = "0.1.0"
