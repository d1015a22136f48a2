"""``gatedcrf benchmark loss``: forward and backward of each engine, compared with the limits of the machine."""

import argparse
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.loss_report import draw_plot, to_text
from experiments.benchmarks.measure import (
    check_memory,
    find_device,
    hardware,
    if_it_fits,
    limits,
    median_ms,
    peak_memory,
)
from experiments.benchmarks.report import Result, publish, save_json
from experiments.benchmarks.settings import LOSS_SIZES, SCALING, LossSize
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from losses import GatedCRFLoss, GaussianKernel, PartialCrossEntropyLoss
from losses.engines import choose_engine

BUDGET = 20.0  # seconds for the repeats of one engine
TRAINABLE = 2**21  # input pixels of a batch; larger ones exceed the memory of a CPU, or take minutes


def run(options: argparse.Namespace) -> None:
    """Measure, print the table, and write loss.json, loss.md and loss.png."""
    device = find_device()
    engines = list(dict.fromkeys(["tensor", "shifted", choose_engine(device)]))
    print("measuring copies and matrix products")
    result: Result = {"hardware": hardware(device), "limits": limits(device), "sizes": [], "scaling": {}}
    for size in (LOSS_SIZES[name] for name in options.sizes):
        print(f"measuring {size.shape}, r = {size.radius}")
        result["sizes"].append(_measure_size(size, device, engines, options.repeats, result["limits"]))
        save_json(options.out / "loss.json", result)
    for axis, sizes in SCALING.items() if options.scaling else ():
        print(f"measuring how time grows with {axis}")
        result["scaling"][axis] = [_measure_time(size, device, engines[1:], options.repeats) for size in sizes]
        save_json(options.out / "loss.json", result)
    draw_plot(result, options.out / "loss.png")
    publish(options.out, "loss", result, to_text(result))


def _measure_size(
    size: LossSize, device: torch.device, engines: Sequence[str], repeats: int, limits: dict[str, float]
) -> Result:
    floor = 1e3 * max(
        size.traffic() / limits["bytes_per_second"], size.multiply_adds() / limits["multiply_adds_per_second"]
    )
    figures: Result = {engine: if_it_fits(partial(_measure_engine, engine, size, device)) for engine in engines}
    fitting = [engine for engine in engines if isinstance(figures[engine], dict)]
    if fitting:
        inputs = _make_inputs(size, device, torch.float32)
        steps = {engine: partial(_loss_and_gradient, engine, *inputs, size) for engine in fitting}
        for engine, ms in median_ms(steps, device, repeats, BUDGET).items():
            figures[engine] |= {"ms": ms, "share_of_floor": floor / ms}
    step = if_it_fits(partial(_measure_training_step, size, device, repeats))
    times = {"training_step_ms": step} if isinstance(step, str) else step
    return {"size": size._asdict(), "floor_ms": floor, "engines": figures, **times}


def _measure_engine(engine: str, size: LossSize, device: torch.device) -> Result:
    """Return the peak memory and the errors of an engine."""
    check_memory(engine, size, device)
    loss, gradient = _loss_and_gradient("shifted", *_make_inputs(size, device, torch.float64), size)
    reference = loss.item(), gradient.cpu()
    del loss, gradient
    inputs = _make_inputs(size, device, torch.float32)
    step = partial(_loss_and_gradient, engine, *inputs, size)
    mib = peak_memory(step, device)
    figures: Result = {"mib": mib, "times_gradient": mib * 2**20 / (4 * inputs[0].numel())}
    figures |= _relative_errors(step(), reference)
    if engine != "tensor":
        half = _make_inputs(size, device, torch.bfloat16)
        figures["bf16"] = _relative_errors(_loss_and_gradient(engine, *half, size), reference)
    return figures


def _make_inputs(size: LossSize, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Draw predictions of ``dtype`` and an image of at least float32, with the same values for every dtype."""
    generator = torch.Generator().manual_seed(0)
    n, _, height, width = size.shape
    probs = torch.randn(size.shape, generator=generator).softmax(1).to(device, dtype)
    image = torch.randn(n, 3, height, width, generator=generator).mul(0.3)
    return probs.requires_grad_(), image.to(device, torch.promote_types(dtype, torch.float32))


def _loss_and_gradient(engine: str, probs: Tensor, image: Tensor, size: LossSize) -> tuple[Tensor, Tensor]:
    kernels = [GaussianKernel({"rgb": 0.1, "xy": size.sigma})]
    loss = GatedCRFLoss(kernels, size.radius, engine=engine)(probs, {"rgb": image})
    (gradient,) = torch.autograd.grad(loss, probs)
    return loss.detach(), gradient


def _relative_errors(computed: tuple[Tensor, Tensor], reference: tuple[float, Tensor]) -> dict[str, float]:
    """Return the errors of the loss and, in the Euclidean norm, of the gradient."""
    loss, gradient = computed[0].item(), computed[1].cpu().double()
    return {
        "loss_error": abs(loss - reference[0]) / abs(reference[0]),
        "gradient_error": ((gradient - reference[1]).norm() / reference[1].norm()).item(),
    }


def _measure_training_step(size: LossSize, device: torch.device, repeats: int) -> Result:
    """Return the times in ms of a DeepLab-v3+ step without the CRF term, and of the CRF term.

    As in training, the term includes the softmax, and pooling of image and mask from the size of the input.
    """
    n, classes, height, width = size.shape
    height, width = height * size.stride, width * size.stride
    if device.type == "cpu" and n * height * width > TRAINABLE:
        return {"training_step_ms": "too large for a CPU"}
    network = DeepLabV3Plus(classes, pretrained=False).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.007, momentum=0.9, weight_decay=1e-4)
    image = torch.randn(n, 3, height, width, device=device)
    target = torch.randint(classes, (n, height, width), device=device)
    logits = torch.randn(size.shape, device=device, requires_grad=True)
    supervised, regularizer = PartialCrossEntropyLoss(), GatedCRFLoss(radius=size.radius)

    def step() -> None:
        optimizer.zero_grad()
        supervised(F.interpolate(network(image), size=(height, width), mode="bilinear"), target).backward()
        optimizer.step()

    def term() -> None:
        regularizer(logits.softmax(1), {"rgb": image}, source=target >= 0).backward()

    step()
    term()
    steps = {"training_step_ms": step, "term_ms": term}
    return dict(median_ms(steps, device, min(repeats, 5), BUDGET))


def _measure_time(size: LossSize, device: torch.device, engines: Sequence[str], repeats: int) -> Result:
    inputs = _make_inputs(size, device, torch.float32)
    steps = {engine: partial(_loss_and_gradient, engine, *inputs, size) for engine in engines}
    for step in steps.values():
        step()
    return {"size": size._asdict(), "ms": median_ms(steps, device, repeats, BUDGET / 4)}
