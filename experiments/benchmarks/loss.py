"""What ``gatedcrf benchmark loss`` measures: each engine, forward and backward, beside the limits of the machine."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.measure import (
    copy_bandwidth,
    free_memory,
    hardware,
    median_ms,
    multiply_add_rate,
    out_of_memory_as,
    peak_memory,
)
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from losses import GatedCRFLoss, GaussianKernel, PartialCrossEntropyLoss
from losses.engines import choose_engine

BUDGET = 20.0  # seconds for the turns of one engine
TRAINABLE = 2**21  # input pixels of a batch; more do not fit the memory and the patience of a CPU


class Size(NamedTuple):
    """A setting of the loss: (N, C, H, W) of the predictions, r and sigma_xy, and pixels of input per prediction."""

    shape: tuple[int, int, int, int]
    radius: int = 5
    sigma: float = 6.0
    stride: int = 4


SIZES = {
    "voc8": Size((8, 21, 64, 64)),  # a sixth of the paper's batch
    "cityscapes2": Size((2, 19, 192, 192)),  # a quarter
    "voc": Size((48, 21, 64, 64)),  # Sec. 4.1
    "cityscapes": Size((8, 19, 192, 192)),
    "voc_r8": Size((48, 21, 64, 64), radius=8, sigma=10.0),  # Table 3
    "full": Size((8, 21, 256, 256), stride=1),
    "full_r11": Size((8, 21, 256, 256), radius=11, stride=1),
}
SCALED = {  # around the first size: linear in N, C and H W, quadratic in 2 r + 1
    "N": [Size((n, 21, 64, 64)) for n in (1, 2, 4, 8, 16, 32)],
    "C": [Size((8, c, 64, 64)) for c in (2, 5, 10, 21, 42, 84)],
    "H W": [Size((8, 21, side, side)) for side in (16, 32, 64, 128, 256)],
    "r": [Size((8, 21, 64, 64), radius=r) for r in (1, 2, 3, 5, 8, 11, 15)],
}


def measure(
    sizes: Sequence[Size],
    scaled: Mapping[str, Sequence[Size]],
    device: torch.device,
    repeats: int,
    log: Callable[[str], None],
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Return everything measured, as it is written to JSON.

    Args:
        sizes: Settings of the loss.
        scaled: Per dimension, settings that grow along it, of which only the time is measured.
        device: Where.
        repeats: Turns.
        log: Told what is measured next.
        save: Given what has been measured, after every setting.
    """
    log("measuring copies and matrix products")
    limits = {"bytes_per_second": copy_bandwidth(device), "multiply_adds_per_second": multiply_add_rate(device)}
    engines = list(dict.fromkeys(["tensor", "shifted", choose_engine(device)]))
    result: dict[str, Any] = {"hardware": hardware(device), "limits": limits, "sizes": [], "scaling": {}}
    for size in sizes:
        log(f"measuring {size.shape}, r = {size.radius}")
        result["sizes"].append(_measure(size, device, engines, repeats, limits))
        save(result)
    for axis, settings in scaled.items():
        log(f"measuring how time grows with {axis}")
        result["scaling"][axis] = [_scale(size, device, engines[1:], repeats) for size in settings]
        save(result)
    return result


def multiply_adds(size: Size, depth: int = 3) -> int:
    """Return those of the definition: C per ordered pair of neighbors, and ``depth`` per unordered pair for K."""
    n, classes, height, width = size.shape
    offsets = range(-size.radius, size.radius + 1)
    rows, columns = (sum(max(0, length - abs(d)) for d in offsets) for length in (height, width))
    pairs = n * (rows * columns - height * width)
    return pairs * classes + pairs // 2 * depth


def traffic(size: Size, depth: int = 3) -> int:
    """Return the bytes that any implementation moves: float32 predictions, gradient and features, and two gates."""
    n, classes, height, width = size.shape
    return n * height * width * (4 * (2 * classes + depth) + 2)


def tensor_form_bytes(size: Size) -> float:
    """Return about what the tensor form needs: its unfolded predictions twice, and a bit."""
    n, classes, height, width = size.shape
    return 2.3 * 4 * (2 * size.radius + 1) ** 2 * n * classes * height * width


class DoesNotFitError(Exception):
    """Memory does not suffice for a size; the benchmark says so and goes on."""


def _measure(
    size: Size, device: torch.device, engines: Sequence[str], repeats: int, limits: dict[str, float]
) -> dict[str, Any]:
    floor = 1e3 * max(
        traffic(size) / limits["bytes_per_second"], multiply_adds(size) / limits["multiply_adds_per_second"]
    )
    figures: dict[str, Any] = {}
    for engine in engines:
        try:
            with out_of_memory_as(DoesNotFitError()):
                figures[engine] = _measure_engine(engine, size, device)
        except DoesNotFitError:
            figures[engine] = "does not fit"
    measured: dict[str, Any] = {"size": size._asdict(), "floor_ms": floor, "engines": figures}
    fitting = [engine for engine in engines if isinstance(figures[engine], dict)]
    if fitting:
        inputs = _inputs(size, device, torch.float32)
        steps = {engine: partial(_loss_and_gradient, engine, *inputs, size) for engine in fitting}
        for engine, ms in median_ms(steps, device, repeats, BUDGET).items():
            figures[engine] |= {"ms": ms, "share_of_floor": floor / ms}
    try:
        with out_of_memory_as(DoesNotFitError()):
            return measured | _training_step(size, device, repeats)
    except DoesNotFitError:
        return measured | {"training_step_ms": "does not fit"}


def _measure_engine(engine: str, size: Size, device: torch.device) -> dict[str, Any]:
    """Return peak memory and errors of an engine."""
    if engine == "tensor" and tensor_form_bytes(size) > 0.8 * free_memory(device):
        raise DoesNotFitError  # a CPU would end the process
    loss, gradient = _loss_and_gradient("shifted", *_inputs(size, device, torch.float64), size)
    reference = loss.item(), gradient.cpu()
    del loss, gradient
    inputs = _inputs(size, device, torch.float32)
    step = partial(_loss_and_gradient, engine, *inputs, size)
    mib = peak_memory(step, device)
    figures: dict[str, Any] = {"mib": mib, "times_gradient": mib * 2**20 / (4 * inputs[0].numel())}
    figures |= _errors(step(), reference)
    if engine != "tensor":
        half = _inputs(size, device, torch.bfloat16)
        figures["bf16"] = _errors(_loss_and_gradient(engine, *half, size), reference)
    return figures


def _inputs(size: Size, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return predictions and an image, the same values in every precision but half of the predictions."""
    generator = torch.Generator().manual_seed(0)
    n, _, height, width = size.shape
    probs = torch.randn(size.shape, generator=generator).softmax(1).to(device, dtype)
    image = torch.randn(n, 3, height, width, generator=generator).mul(0.3)
    return probs.requires_grad_(), image.to(device, torch.promote_types(dtype, torch.float32))


def _loss_and_gradient(engine: str, probs: Tensor, image: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    kernels = [GaussianKernel({"rgb": 0.1, "xy": size.sigma})]
    loss = GatedCRFLoss(kernels, size.radius, engine=engine)(probs, {"rgb": image})
    (gradient,) = torch.autograd.grad(loss, probs)
    return loss.detach(), gradient


def _errors(computed: tuple[Tensor, Tensor], reference: tuple[float, Tensor]) -> dict[str, float]:
    """Return the relative errors of the loss and, in the Euclidean norm, of the gradient."""
    loss, gradient = computed[0].item(), computed[1].cpu().double()
    return {
        "loss_error": abs(loss - reference[0]) / abs(reference[0]),
        "gradient_error": ((gradient - reference[1]).norm() / reference[1].norm()).item(),
    }


def _training_step(size: Size, device: torch.device, repeats: int) -> dict[str, Any]:
    """Return the time in ms of a step of DeepLab-v3+ without the CRF term, and of that term as a step calls it.

    As in a run, the term starts from logits, and pools the image and the mask from the size of the input.
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


def _scale(size: Size, device: torch.device, engines: Sequence[str], repeats: int) -> dict[str, Any]:
    inputs = _inputs(size, device, torch.float32)
    steps = {engine: partial(_loss_and_gradient, engine, *inputs, size) for engine in engines}
    for step in steps.values():
        step()
    return {"size": size._asdict(), "ms": median_ms(steps, device, repeats, BUDGET / 4)}
