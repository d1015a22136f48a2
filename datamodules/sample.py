"""The contract between the data and the rest of the house."""

from typing import TypedDict

from torch import Tensor

IGNORE_INDEX = 255
"""Target value of a pixel without a label."""


class Sample(TypedDict):
    """One item of any dataset; collation prepends N to every shape and turns ``name`` into a list."""

    image: Tensor  # uint8 (3, H, W), RGB; standardized on the device, where it is cheap
    target: Tensor  # uint8 (H, W), class index or IGNORE_INDEX
    valid: Tensor  # bool (H, W), false where augmentation padded: m^src of Sec. 3 (1)
    name: str  # identifies the image in messages and in files of predictions
