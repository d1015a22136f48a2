"""Checks of a run: the output of its network, and the start of its regularizer."""

from torch import Tensor

from datamodules.io.errors import InputError


def as_logits(output: object, image: Tensor, num_classes: int) -> Tensor:
    """Return the output of a network as float32 logits. Reads no values.

    Args:
        output: Expected are logits, float (N, C, h, w), at the size of the image or smaller.
        image: Input of the network, (N, 3, H, W).
        num_classes: C.

    Raises:
        InputError: The output has another type, number of channels or size. The message says which.
    """
    if not isinstance(output, Tensor):
        held = f" with {', '.join(map(str, output))}" if isinstance(output, dict) else ""
        raise InputError(f"The network returns a {type(output).__name__}{held}; return only the logits, a tensor.")
    shape, size = tuple(output.shape), tuple(image.shape)
    if output.ndim != 4 or not output.is_floating_point():
        remedy = f"return logits, floats of shape (N, {num_classes}, h, w)"
        raise InputError(f"The network returns {output.dtype} of shape {shape} for images of {size}; {remedy}.")
    n, channels, height, width = shape
    if channels != num_classes:
        message = f"The network returns {channels} channels, but the dataset has {num_classes} classes"
        raise InputError(f"{message}; construct the network with {num_classes} classes.")
    fits = 0 < height <= size[2] and 0 < width <= size[3] and n == size[0]
    if not fits or (height - width) * (size[2] - size[3]) < 0:  # a portrait for a landscape is transposed
        remedy = "return one map per image, of the same orientation and not larger"
        raise InputError(f"The network returns logits of shape {shape} for images of {size}; {remedy}.")
    return output.float()


def late_start(start_step: int, max_steps: int) -> str:
    """Return a warning if the regularizer starts after the last step of a run, and an empty string otherwise."""
    if start_step < max_steps:
        return ""
    return (
        f"The regularizer starts at step {start_step}, but training ends at {max_steps}, so it has no effect; lower "
        "--model.regularizer_start_step."
    )
