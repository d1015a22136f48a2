"""Network, training, inference and evaluation."""

__version__ = "0.2.0.dev0"
