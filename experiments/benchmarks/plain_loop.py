"""Training of Sec. 4.1 as a plain loop: time and memory of a step, reference for the overhead of Lightning."""

import time
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from experiments.benchmarks.measure import check_memory, if_it_fits, median_ms, peak_memory, synchronize
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.report import Result
from experiments.benchmarks.settings import WARMUP, LossSize, TrainSize, Variant
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from lightning_modules.weak_segmentation import IMAGENET_MEAN, IMAGENET_STD
from losses import GatedCRFLoss, PartialCrossEntropyLoss

STEPS = 10  # per repeat, after the warmup
BUDGET = 60.0  # seconds for the repeats of one variant


def _our_network(size: TrainSize) -> nn.Module:
    return DeepLabV3Plus(size.classes, size.backbone, pretrained=False, channels=size.channels)


def _segmentation_models_network(size: TrainSize) -> nn.Module:
    """Build the network of segmentation_models.pytorch with our settings. Its decoder is always separable.

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
"""Functions that build a network with random weights, by ``Variant.network``."""


class PlainLoop:
    """Network, losses, optimizer and schedule.

    Args:
        size: Network and batch.
        variant: Configuration of a step.
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
        self.optimizer = SGD(self.network.parameters(), 7e-3, 0.9, weight_decay=1e-4, fused=variant.fused or None)
        self.schedule = LambdaLR(self.optimizer, lambda step: (1 - min(step, steps) / steps) ** 0.9)

    def step(self, batch: Sample) -> None:
        """Train on a batch."""
        image, target, valid = (batch[key].to(self.device, non_blocking=True) for key in ("image", "target", "valid"))
        image = self.standardize(image)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.network(image).float()
        resized = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        energy = self.regularizer(logits.softmax(1), {"rgb": image}, source=valid)
        loss = self.supervised(resized, target) + 0.1 * energy
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def standardize(self, image: Tensor) -> Tensor:
        """Map uint8 (N, 3, H, W) to float32 of zero mean and unit deviation."""
        return ((image - self.mean) / self.std).contiguous(memory_format=self.memory)

    def held_mib(self) -> float:
        """Return the memory held between steps in MiB: weights, statistics and momentum."""
        momentum: list[Tensor] = [state["momentum_buffer"] for state in self.optimizer.state.values()]
        return sum(t.nbytes for t in [*self.network.parameters(), *self.network.buffers(), *momentum]) / 2**20


def seconds_per_step(loop: PlainLoop, loader: DataLoader[Sample]) -> float:
    """Train on all batches and return the mean time of a step, including data loading.

    The warmup and the last step are not timed, so ``loader`` must have at least ``WARMUP`` + 2 batches.
    """
    marks = []
    for index, batch in enumerate(loader):
        if index in (WARMUP, len(loader) - 1):
            synchronize(loop.device)
            marks.append(time.perf_counter())
        loop.step(batch)
    return (marks[1] - marks[0]) / (len(loader) - 1 - WARMUP)


def measure_steps(
    data: PhotographFolder, variants: Mapping[str, Variant], device: torch.device, repeats: int
) -> dict[str, Result | str]:
    """Return the times and the memory of each variant, or why it was not measured. The variants alternate."""
    batch = next(iter(data.loader(1)))
    rows: Result = {name: if_it_fits(partial(_start, data.size, v, batch, device)) for name, v in variants.items()}
    loops = {name: row.pop("loop") for name, row in rows.items() if not isinstance(row, str)}
    paces: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, loop in loops.items():
            if sum(step for step, _ in paces[name]) * (STEPS + WARMUP) < BUDGET:
                paces[name].append(_measure_pace(loop, data.loader(WARMUP + STEPS)))
    for name, measured in paces.items():
        step, wait = (median(times) for times in zip(*measured, strict=True))
        rows[name] |= {"step_ms": 1e3 * step, "wait_ms": 1e3 * wait, "images_per_second": data.size.batch / step}
    return rows


def _start(size: TrainSize, variant: Variant, batch: Sample, device: torch.device) -> Result | str:
    """Return a loop after its warmup, its peak memory, and the times of a step and of the CRF term on one batch."""
    predictions = LossSize((size.batch, size.classes, size.crop // 4, size.crop // 4))
    check_memory(variant.engine, predictions, device)
    try:
        loop = PlainLoop(size, variant, device, steps=90_000)
    except ModuleNotFoundError:
        return "not installed"
    for _ in range(WARMUP):
        loop.step(batch)
    loop.optimizer.zero_grad()
    mib = loop.held_mib() + peak_memory(partial(loop.step, batch), device)
    logits = torch.randn(predictions.shape, device=device, requires_grad=True)
    image, valid = loop.standardize(batch["image"].to(device)), batch["valid"].to(device)

    def term() -> None:
        loop.regularizer(logits.softmax(1), {"rgb": image}, source=valid).backward()

    term()
    times = median_ms({"resident_ms": partial(loop.step, batch), "term_ms": term}, device, 5, BUDGET / 4)
    return {"loop": loop, "mib": mib, **times}


def _measure_pace(loop: PlainLoop, loader: DataLoader[Sample]) -> tuple[float, float]:
    """Return the seconds per step, and the part of them spent waiting for data.

    Wait for the device before the next batch is requested: computation then does not count as waiting.
    """
    batches = iter(loader)
    for _ in range(WARMUP):
        loop.step(next(batches))
    synchronize(loop.device)
    start, wait = time.perf_counter(), 0.0
    for _ in range(STEPS):
        requested = time.perf_counter()
        batch = next(batches)
        wait += time.perf_counter() - requested
        loop.step(batch)
        synchronize(loop.device)
    return (time.perf_counter() - start) / STEPS, wait / STEPS
