"""Sizes and variants to measure. This module does not import torch, so the command line starts quickly."""

from typing import NamedTuple

WARMUP = 2  # steps that are not timed


class LossSize(NamedTuple):
    """Shape (N, C, H, W) of the predictions, r and sigma_xy in their pixels, and the output stride of the network."""

    shape: tuple[int, int, int, int]
    radius: int = 5
    sigma: float = 6.0
    stride: int = 4

    def multiply_adds(self) -> int:
        """Count the multiply-adds of the definition for an RGB image.

        Each ordered pair of neighbors costs C, and each unordered pair 3 for its kernel value.
        """
        n, classes, *sides = self.shape
        offsets = range(-self.radius, self.radius + 1)
        rows, columns = (sum(max(0, side - abs(d)) for d in offsets) for side in sides)
        pairs = n * (rows * columns - sides[0] * sides[1])
        return pairs * classes + pairs // 2 * 3

    def traffic(self) -> int:
        """Count the bytes that every engine must move: predictions, gradient and image in float32, and two gates."""
        n, classes, height, width = self.shape
        return n * height * width * (4 * (2 * classes + 3) + 2)

    def tensor_form_bytes(self) -> float:
        """Estimate the memory of the tensor form: two copies of the unfolded predictions, and buffers."""
        n, classes, height, width = self.shape
        return 2.3 * 4 * (2 * self.radius + 1) ** 2 * n * classes * height * width


LOSS_SIZES = {
    "voc8": LossSize((8, 21, 64, 64)),  # a sixth of the paper's batch
    "cityscapes2": LossSize((2, 19, 192, 192)),  # a quarter
    "voc": LossSize((48, 21, 64, 64)),  # Sec. 4.1
    "cityscapes": LossSize((8, 19, 192, 192)),
    "voc_r8": LossSize((48, 21, 64, 64), radius=8, sigma=10.0),  # Table 3
    "full": LossSize((8, 21, 256, 256), stride=1),
    "full_r11": LossSize((8, 21, 256, 256), radius=11, stride=1),
}
SCALING = {  # around "voc8"; time should be linear in N, C and H W, and quadratic in 2 r + 1
    "N": [LossSize((n, 21, 64, 64)) for n in (1, 2, 4, 8, 16, 32)],
    "C": [LossSize((8, c, 64, 64)) for c in (2, 5, 10, 21, 42, 84)],
    "H W": [LossSize((8, 21, side, side)) for side in (16, 32, 64, 128, 256)],
    "r": [LossSize((8, 21, 64, 64), radius=r) for r in (1, 2, 3, 5, 8, 11, 15)],
}


class TrainSize(NamedTuple):
    """Classes C, batch size N, side of the crops in pixels, size (W, H) and type of the images, and the network."""

    classes: int
    batch: int
    crop: int
    image: tuple[int, int]
    suffix: str
    backbone: str = "resnet34.tv_in1k"
    channels: int = 256


TRAIN_SIZES = {
    "voc": TrainSize(21, 48, 256, (500, 375), "jpg"),  # Sec. 4.1
    "cityscapes": TrainSize(19, 8, 768, (2048, 1024), "png"),
    "voc_small": TrainSize(21, 2, 256, (500, 375), "jpg"),
    "folder_small": TrainSize(4, 8, 128, (240, 180), "jpg", backbone="resnet10t", channels=64),
}


class Variant(NamedTuple):
    """Configuration of a training step. ``network`` is a key of ``plain_loop.NETWORKS``; ``fused`` is the optimizer."""

    channels_last: bool = False
    precision: str = "float32"
    fused: bool = False
    compiled: bool = False
    engine: str = "auto"
    network: str = "ours"


PRESETS = {"none": Variant(), "gpu": Variant(channels_last=True, precision="bfloat16", fused=True)}
"""What the presets of ``gatedcrf fit`` change in a step."""
VARIANTS = {
    "float32": Variant(),
    "channels_last": Variant(channels_last=True),
    "bf16": Variant(precision="bfloat16"),
    "compile": Variant(compiled=True),
    "channels_last+bf16": Variant(channels_last=True, precision="bfloat16"),
    "preset_gpu": PRESETS["gpu"],
    "channels_last+bf16+compile": Variant(channels_last=True, precision="bfloat16", compiled=True),
    "tensor_form": Variant(engine="tensor"),
    "segmentation_models": Variant(network="segmentation_models"),
}

GPU_PARTS = {"tests": 200, "loss": 160, "train": 200, "data": 40, "tune": 60, "table": 120}
"""Time limits of the parts of ``gatedcrf benchmark gpu``, seconds. With the time to stop them, they are 15 minutes."""
