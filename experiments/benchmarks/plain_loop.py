"""The training of Sec. 4.1 as a plain loop, the reference for the overhead of Lightning."""

import time
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from experiments.benchmarks.measure import synchronize
from experiments.benchmarks.settings import WARMUP, TrainSize, Variant
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from lightning_modules.weak_segmentation import IMAGENET_MEAN, IMAGENET_STD
from losses import GatedCRFLoss, PartialCrossEntropyLoss


def _our_network(size: TrainSize) -> nn.Module:
    return DeepLabV3Plus(size.classes, size.backbone, pretrained=False, channels=size.channels)


def _segmentation_models_network(size: TrainSize) -> nn.Module:
    """Build segmentation_models.pytorch's network, configured like ours. Its decoder is always separable.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    network: nn.Module = import_module("segmentation_models_pytorch").DeepLabV3Plus(
        f"tu-{size.backbone}",
        encoder_weights=None,
        encoder_output_stride=16,
        decoder_channels=size.channels,
        decoder_atrous_rates=(6, 12, 18),
        decoder_aspp_separable=False,
        decoder_aspp_dropout=0.0,
        classes=size.classes,
        upsampling=1,
    )
    return network


NETWORKS = {"ours": _our_network, "segmentation_models": _segmentation_models_network}
"""Functions that return a network with random weights."""


class PlainLoop:
    """Network, losses, optimizer and schedule of a run.

    Args:
        size: Network and batch.
        variant: How a step is run.
        device: Device of the network.
        steps: Length of the schedule.
    """

    def __init__(self, size: TrainSize, variant: Variant, device: torch.device, steps: int) -> None:
        self.device, self.precision = device, getattr(torch, variant.precision)
        self.memory = torch.channels_last if variant.channels_last else torch.contiguous_format
        self.network = NETWORKS[variant.network](size).to(device).train()
        self.network.to(memory_format=self.memory)  # type: ignore[call-overload]
        if variant.compiled:
            self.network.compile()
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.supervised, self.regularizer = PartialCrossEntropyLoss(), GatedCRFLoss(engine=variant.engine)
        self.optimizer = SGD(self.network.parameters(), lr=7e-3, momentum=0.9, weight_decay=1e-4)
        self.schedule = LambdaLR(self.optimizer, lambda step: (1 - min(step, steps) / steps) ** 0.9)

    def step(self, batch: Sample) -> None:
        """Train on a batch."""
        image, target, valid = (batch[key].to(self.device, non_blocking=True) for key in ("image", "target", "valid"))
        image = self.standardize(image)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.network(image).float()
        resized = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        loss = self.supervised(resized, target) + 0.1 * self.energy(logits, image, valid)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def standardize(self, image: Tensor) -> Tensor:
        """Map uint8 (N, 3, H, W) to float32 of zero mean and unit deviation."""
        return ((image - self.mean) / self.std).contiguous(memory_format=self.memory)

    def energy(self, logits: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        """Return the CRF term.

        Args:
            logits: float32 (N, C, h, w).
            image: Standardized, float32 (N, 3, H, W).
            valid: m^src, bool (N, H, W).
        """
        energy: Tensor = self.regularizer(logits.softmax(1), {"rgb": image}, source=valid)
        return energy

    def held_mib(self) -> float:
        """Return the memory kept between steps in MiB: weights, statistics and momentum."""
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        kept = [*self.network.parameters(), *self.network.buffers(), *(v for v in state if isinstance(v, Tensor))]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept) / 2**20


def seconds_per_step(loop: PlainLoop, loader: DataLoader[Sample]) -> float:
    """Return the mean time from batch to batch, data loading included, without the warmup and the last step.

    Args:
        loop: Trained on all batches.
        loader: At least ``WARMUP`` + 2 batches.
    """
    marks = []
    for index, batch in enumerate(loader):
        if index in (WARMUP, len(loader) - 1):
            synchronize(loop.device)
            marks.append(time.perf_counter())
        loop.step(batch)
    return (marks[1] - marks[0]) / (len(loader) - 1 - WARMUP)
