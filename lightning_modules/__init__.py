"""The network, the training loop around it, and what a run leaves."""

__version__ = "0.1.0"
