"""The training of Sec. 4.1 as a plain loop: what Lightning and its logging are measured against."""

import time
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from lightning_modules.weak_segmentation import IMAGENET_MEAN, IMAGENET_STD
from losses import GatedCRFLoss, PartialCrossEntropyLoss

WARM = 2  # steps before the clock starts


class Setting(NamedTuple):
    """Network and batch of a training: C, N, side of the crops and (W, H) of the image files in pixels."""

    classes: int
    batch: int
    crop: int
    image: tuple[int, int]
    suffix: str
    backbone: str = "resnet34.tv_in1k"
    channels: int = 256


def ours(setting: Setting) -> nn.Module:
    """Return the network of Sec. 4.1 with random weights."""
    return DeepLabV3Plus(setting.classes, setting.backbone, pretrained=False, channels=setting.channels)


def of_segmentation_models(setting: Setting) -> nn.Module:
    """Return segmentation_models.pytorch's network, as like ours as its options go: its decoder stays separable.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    network: nn.Module = import_module("segmentation_models_pytorch").DeepLabV3Plus(
        f"tu-{setting.backbone}",
        encoder_weights=None,
        encoder_output_stride=16,
        decoder_channels=setting.channels,
        decoder_atrous_rates=(6, 12, 18),
        decoder_aspp_separable=False,
        decoder_aspp_dropout=0.0,
        classes=setting.classes,
        upsampling=1,
    )
    return network


class Variant(NamedTuple):
    """How a step is run."""

    channels_last: bool = False
    precision: torch.dtype = torch.float32
    compiled: bool = False
    engine: str = "auto"
    network: Callable[[Setting], nn.Module] = ours


class PlainLoop:
    """Network, losses, optimizer and schedule, as a run has them.

    Args:
        setting: Network and batch.
        variant: How a step is run.
        device: Where.
        steps: Of the schedule.
    """

    def __init__(self, setting: Setting, variant: Variant, device: torch.device, steps: int) -> None:
        self.device, self.precision = device, variant.precision
        self.memory = torch.channels_last if variant.channels_last else torch.contiguous_format
        self.network = variant.network(setting).to(device).train()
        self.network.to(memory_format=self.memory)  # type: ignore[call-overload]
        if variant.compiled:
            self.network.compile()
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.supervised, self.regularizer = PartialCrossEntropyLoss(), GatedCRFLoss(engine=variant.engine)
        self.optimizer = SGD(self.network.parameters(), lr=7e-3, momentum=0.9, weight_decay=1e-4)
        self.schedule = LambdaLR(self.optimizer, lambda step: (1 - min(step, steps) / steps) ** 0.9)
        self.scaler = GradScaler(device.type, enabled=variant.precision == torch.float16)

    def step(self, batch: Sample) -> None:
        """Train on a batch."""
        image, target, valid = (batch[key].to(self.device, non_blocking=True) for key in ("image", "target", "valid"))
        image = self.standardize(image)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.network(image).float()
        resized = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        loss = self.supervised(resized, target) + 0.1 * self.energy(logits, image, valid)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()

    def standardize(self, image: Tensor) -> Tensor:
        """Map uint8 (N, 3, H, W) to float of zero mean and unit deviation."""
        return ((image - self.mean) / self.std).contiguous(memory_format=self.memory)

    def energy(self, logits: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        """Return the CRF term of float logits (N, C, h, w), a standardized image and m^src at full size."""
        energy: Tensor = self.regularizer(logits.softmax(1), {"rgb": image}, source=valid)
        return energy

    def held_mib(self) -> float:
        """Return what is kept between steps: weights, statistics and momentum, MiB."""
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        kept = [*self.network.parameters(), *self.network.buffers(), *(v for v in state if isinstance(v, Tensor))]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept) / 2**20


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_step(loop: PlainLoop, loader: DataLoader[Sample]) -> float:
    """Return the time from batch to batch, fetching included, between the first steps and the last.

    Args:
        loop: Trained over all of the loader.
        loader: Of ``WARM`` + 2 batches or more.
    """
    marks = []
    for index, batch in enumerate(loader):
        if index in (WARM, len(loader) - 1):
            synchronize(loop.device)
            marks.append(time.perf_counter())
        loop.step(batch)
    return (marks[1] - marks[0]) / (len(loader) - 1 - WARM)
