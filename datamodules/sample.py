"""The contract between datasets and training."""

from typing import NotRequired, TypedDict

from torch import Tensor

IGNORE_INDEX = 255
"""Target value of a pixel without a label."""


class Sample(TypedDict):
    """One item of any dataset. Collation prepends N to every shape and makes ``name`` a list."""

    image: Tensor  # uint8 (3, H, W), RGB; standardized later, on the device
    target: Tensor  # uint8 (H, W), class index or IGNORE_INDEX
    valid: Tensor  # bool (H, W), false in padding: m^src of Sec. 3 (1)
    name: str  # used in messages and as file name of the prediction
    # only if the loss names them in ``sample_inputs``
    tags: NotRequired[Tensor]  # bool (C,), the classes of the whole image
    objectness: NotRequired[Tensor]  # float32 (H, W) in [0, 1], 0 in padding
    ranks: NotRequired[Tensor]  # uint8 (H, W), order of the clicks from 0 on, or IGNORE_INDEX
