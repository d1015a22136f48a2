"""``gatedcrf benchmark loss``: time, memory and error of each engine, and of every other loss."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks import every_loss
from experiments.benchmarks.loss_plot import draw_plot
from experiments.benchmarks.measure import (
    check_memory,
    find_device,
    hardware,
    if_it_fits,
    limits,
    median_ms,
    peak_memory,
    relative_errors,
)
from experiments.benchmarks.report import Result, format_number, publish, save_json
from experiments.benchmarks.settings import LOSS_SIZES, SCALING, LossSize
from experiments.tables.report import to_markdown
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from losses import GatedCRFLoss, GaussianKernel, PartialCrossEntropyLoss
from losses.engines import choose_engine

BUDGET = 20.0  # seconds for the repeats of one engine
TRAINABLE = 2**21  # input pixels per batch; on a CPU, larger training steps take minutes or exceed the memory
HEADER = [
    *("N, C, H, W", "r", "engine", "ms", "times faster", "extra MiB", "of gradient"),
    *("share of floor", "error", "bf16", "of a training step"),
]


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
        print(f"measuring the growth with {axis}")
        result["scaling"][axis] = [_measure_time(size, device, engines[1:], options.repeats) for size in sizes]
        save_json(options.out / "loss.json", result)
    draw_plot(result, options.out / "loss.png")
    publish(options.out, "loss", result, to_text(result))


def _measure_size(
    size: LossSize, device: torch.device, engines: Sequence[str], repeats: int, limits: dict[str, float]
) -> Result:
    copy = size.traffic() / limits["bytes_per_second"]
    floor = 1e3 * max(copy, size.multiply_adds() / limits["multiply_adds_per_second"])
    figures: Result = {engine: if_it_fits(partial(_measure_engine, engine, size, device)) for engine in engines}
    steps = {engine: _make_step(engine, size, device) for engine in engines if isinstance(figures[engine], dict)}
    for engine, ms in median_ms(steps, device, repeats, BUDGET).items():
        figures[engine] |= {"ms": ms, "share_of_floor": floor / ms}
    times = if_it_fits(partial(_measure_training_step, size, device, repeats))
    step: Result = {"training_step_ms": times} if isinstance(times, str) else {**times}
    losses = every_loss.measure_losses(size, device, repeats)
    return {"size": size._asdict(), "floor_ms": floor, "engines": figures, "losses": losses, **step}


def _measure_engine(engine: str, size: LossSize, device: torch.device) -> Result:
    """Return the peak memory of an engine and its errors relative to float64."""
    check_memory(engine, size, device)
    loss, gradient = _make_step("shifted", size, device, torch.float64)()
    reference = loss.item(), gradient.cpu()
    del loss, gradient
    step = _make_step(engine, size, device)
    mib = peak_memory(step, device)
    figures: Result = {"mib": mib, "times_gradient": mib * 2**20 / (4 * prod(size.shape))}
    figures |= relative_errors(step(), reference)
    if engine != "tensor":
        figures["bf16"] = relative_errors(_make_step(engine, size, device, torch.bfloat16)(), reference)
    return figures


def _make_step(
    engine: str, size: LossSize, device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return a function that computes the loss and its gradient.

    Predictions are of ``dtype``, the image is float32 or wider. Values are the same for all engines and dtypes.
    """
    generator = torch.Generator().manual_seed(0)
    n, _, height, width = size.shape
    probs = torch.randn(size.shape, generator=generator).softmax(1).to(device, dtype).requires_grad_()
    image = torch.randn(n, 3, height, width, generator=generator).mul(0.3)
    image = image.to(device, torch.promote_types(dtype, torch.float32))
    energy = GatedCRFLoss([GaussianKernel({"rgb": 0.1, "xy": size.sigma})], size.radius, engine=engine)

    def step() -> tuple[Tensor, Tensor]:
        loss = energy(probs, {"rgb": image})
        (gradient,) = torch.autograd.grad(loss, probs)
        return loss.detach(), gradient

    return step


def _measure_training_step(size: LossSize, device: torch.device, repeats: int) -> dict[str, float] | str:
    """Return the times in ms of a DeepLab-v3+ step without the CRF term, and of the CRF term.

    As in training, the term includes the softmax and the pooling of image and mask.
    """
    n, classes, height, width = size.shape
    height, width = height * size.stride, width * size.stride
    if device.type == "cpu" and n * height * width > TRAINABLE:
        return "too large for a CPU"
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
    return median_ms({"training_step_ms": step, "term_ms": term}, device, min(repeats, 5), BUDGET)


def _measure_time(size: LossSize, device: torch.device, engines: Sequence[str], repeats: int) -> Result:
    steps = {engine: _make_step(engine, size, device) for engine in engines}
    for step in steps.values():
        step()
    return {"size": size._asdict(), "ms": median_ms(steps, device, repeats, BUDGET / 4)}


def to_text(result: Result) -> str:
    """Return the conditions and the table as Markdown."""
    limits = result["limits"]
    conditions = (
        f"{result['hardware']}. Median time of forward and backward in float32. Floor: lower bound of the time, the "
        f"longer of moving all bytes at {limits['bytes_per_second'] / 1e9:.0f} GB/s and computing all multiply-adds at "
        f"{limits['multiply_adds_per_second'] / 1e9:.0f} G/s, the measured speeds of a copy and a matrix product. "
        "Error: of the loss or the gradient, whichever is larger, relative to float64; bf16: of the gradient for "
        "bfloat16 predictions. Training step: DeepLab-v3+ with ResNet-34; the loss includes softmax and pooling."
    )
    engines = to_markdown([HEADER, *(row for size in result["sizes"] for row in _rows(size))])
    losses = [row for size in result["sizes"] for row in every_loss.to_rows(size)]
    note = (
        "Every loss, forward and backward in float32: regularizers on the logits grid, losses of labels at the size of "
        "the image, without the softmax and the pooling of the image."
    )
    return f"{conditions}\n\n{engines}" + (f"\n{note}\n\n{to_markdown([every_loss.HEADER, *losses])}" if losses else "")


def _rows(measured: Result) -> Iterator[list[str]]:
    size, engines = measured["size"], measured["engines"]
    step, term = measured["training_step_ms"], measured.get("term_ms")
    default, reference = list(engines)[-1], engines["tensor"]
    for engine, figures in engines.items():
        row = [", ".join(map(str, size["shape"])), str(size["radius"]), engine]
        if isinstance(figures, str):
            yield [*row, figures, *[""] * (len(HEADER) - 4)]
            continue
        yield [
            *row,
            format_number(figures["ms"]),
            f"{reference['ms'] / figures['ms']:.1f}" if isinstance(reference, dict) else "",
            f"{figures['mib']:.1f}",
            f"{figures['times_gradient']:.2f}",
            f"{100 * figures['share_of_floor']:.1f} %",
            f"{max(figures['gradient_error'], figures['loss_error']):.0e}",
            f"{figures['bf16']['gradient_error']:.0e}" if "bf16" in figures else "",
            f"{100 * term / (step + term):.2f} %" if engine == default and term is not None else "",
        ]
