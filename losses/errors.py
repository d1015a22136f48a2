"""The error of the losses."""


class ArgumentError(ValueError):
    """A bad argument. The message names its value and the remedy."""
