"""Time, memory and error of every loss beside each other, as part of ``gatedcrf benchmark loss``."""

from collections.abc import Callable, Iterator
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from experiments.benchmarks.measure import if_it_fits, median_ms, peak_memory, relative_errors
from experiments.benchmarks.report import Result, format_number
from experiments.benchmarks.settings import LossSize
from losses import (
    DenseCRFLoss,
    GatedCRFLoss,
    GaussianKernel,
    NormalizedCutLoss,
    PartialCrossEntropyLoss,
    WhatsThePointLoss,
)

HEADER = ["N, C, H, W", "loss", "ms", "extra MiB", "of gradient", "error", "of a training step"]
BUDGET = 10.0  # seconds for the repeats of one loss
CHECKED = 10**8  # pairs of pixels; the reference of more of them takes long
Step = Callable[[], tuple[Tensor, Tensor]]


def measure_losses(size: LossSize, device: torch.device, repeats: int) -> Result:
    """Return the figures of each loss, or why it has none. Regularizers are computed on the logits grid.

    Losses of labels are computed at the size of the image, with a label in one of 1,000 pixels.
    """
    found: Result = {name: if_it_fits(partial(_measure, name, size, device)) for name in make_losses(size)}
    steps = {name: make_step(name, size, device) for name, figures in found.items() if isinstance(figures, dict)}
    for name, ms in median_ms(steps, device, repeats, BUDGET).items():
        found[name]["ms"] = ms
    return found


def make_losses(size: LossSize) -> dict[str, nn.Module]:
    """Return the losses with the bandwidths of their configurations."""
    return {
        "Gated CRF": GatedCRFLoss([GaussianKernel({"rgb": 0.1, "xy": size.sigma})], size.radius),
        "dense CRF": DenseCRFLoss(),
        "normalized cut": NormalizedCutLoss(),
        "kernel cut": NormalizedCutLoss(crf_weight=1050.0),
        "partial cross-entropy": PartialCrossEntropyLoss(),
        "What's the Point": WhatsThePointLoss(),
    }


def make_step(name: str, size: LossSize, device: torch.device, dtype: torch.dtype = torch.float32) -> Step:
    """Return a function that computes a loss and its gradient with respect to probabilities or logits."""
    generator = torch.Generator().manual_seed(0)
    loss, (n, classes, height, width) = make_losses(size)[name], size.shape
    labeled = isinstance(loss, PartialCrossEntropyLoss | WhatsThePointLoss)
    if labeled:
        height, width = size.stride * height, size.stride * width
    given = torch.randn(n, classes, height, width, generator=generator)
    given = (given if labeled else given.softmax(1)).to(device, dtype).requires_grad_()
    inputs: list[object] = [{"rgb": torch.randn(n, 3, height, width, generator=generator).mul(0.3).to(device, dtype)}]
    if labeled:
        target = torch.randint(1000 * classes, (n, height, width), generator=generator).clamp(max=255)
        inputs = [torch.where(target < classes, target, 255).to(device, torch.uint8)]
    if isinstance(loss, WhatsThePointLoss):
        valid, tags = (
            torch.ones(shape, dtype=torch.bool, device=device) for shape in ((n, height, width), (n, classes))
        )
        objectness = torch.rand(n, height, width, generator=generator).to(device, dtype)
        inputs += [valid, tags, objectness, torch.zeros(n, height, width, dtype=torch.uint8, device=device)]

    def step() -> tuple[Tensor, Tensor]:
        value = loss(given, *inputs)
        (gradient,) = torch.autograd.grad(value, given)
        return value.detach(), gradient

    return step


def _measure(name: str, size: LossSize, device: torch.device) -> Result:
    step = make_step(name, size, device)
    step()
    mib = peak_memory(step, device)
    given = step()[1].shape
    figures: Result = {"mib": mib, "times_gradient": mib * 2**20 / (4 * prod(given))}
    pixels = size.shape[2] * size.shape[3]
    if size.shape[0] * pixels**2 <= CHECKED:
        exact, gradient = make_step(name, size, device, torch.float64)()
        figures["error"] = max(relative_errors(step(), (exact.item(), gradient.cpu())).values())
    return figures


def to_rows(measured: Result) -> Iterator[list[str]]:
    """Yield a row per loss of a measured size."""
    step = measured["training_step_ms"]
    for name, figures in measured.get("losses", {}).items():
        row = [", ".join(map(str, measured["size"]["shape"])), name]
        if isinstance(figures, str):
            yield [*row, figures, "", "", "", ""]
            continue
        yield [
            *row,
            format_number(figures["ms"]),
            f"{figures['mib']:.1f}",
            f"{figures['times_gradient']:.2f}",
            f"{figures['error']:.0e}" if "error" in figures else "",
            "" if isinstance(step, str) else f"{100 * figures['ms'] / (step + figures['ms']):.2f} %",
        ]
