"""What ``gatedcrf benchmark loss`` measures: each engine, forward and backward, beside the limits of the machine."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.measure import copy_bandwidth, hardware, median_ms, memory, multiply_add_rate, peak_memory
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from losses import GatedCRFLoss, GaussianKernel, PartialCrossEntropyLoss
from losses.operator import choose_engine

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
) -> dict[str, Any]:
    """Return everything measured, as it is written to JSON.

    Args:
        sizes: Settings of the loss.
        scaled: Per dimension, settings that grow along it, of which only the time is measured.
        device: Where.
        repeats: Turns.
        log: Told what is measured next.
    """
    log("measuring copies and matrix products")
    limits = {"bytes_per_second": copy_bandwidth(device), "multiply_adds_per_second": multiply_add_rate(device)}
    engines = list(dict.fromkeys(["tensor", "shifted", choose_engine(device)]))
    result: dict[str, Any] = {"hardware": hardware(device), "limits": limits, "sizes": [], "scaling": {}}
    for size in sizes:
        log(f"measuring {size.shape}, r = {size.radius}")
        result["sizes"].append(_measure(size, device, engines, repeats, limits))
    for axis, settings in scaled.items():
        log(f"measuring how time grows with {axis}")
        result["scaling"][axis] = [_scale(size, device, engines[1:], repeats) for size in settings]
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


def _measure(
    size: Size, device: torch.device, engines: Sequence[str], repeats: int, limits: dict[str, float]
) -> dict[str, Any]:
    floor = 1e3 * max(
        traffic(size) / limits["bytes_per_second"], multiply_adds(size) / limits["multiply_adds_per_second"]
    )
    figures: dict[str, Any] = {}
    try:
        loss, gradient = _loss_and_gradient("shifted", *_inputs(size, device, torch.float64), size)
        reference = loss.item(), gradient.cpu()
        del loss, gradient
        inputs, half = _inputs(size, device, torch.float32), _inputs(size, device, torch.bfloat16)
    except torch.OutOfMemoryError:
        return {"size": size._asdict(), "floor_ms": floor, "engines": dict.fromkeys(engines, "does not fit")}
    steps = {}
    for engine in engines:
        step = partial(_loss_and_gradient, engine, *inputs, size)
        try:
            if engine == "tensor" and tensor_form_bytes(size) > 0.8 * memory(device):
                raise torch.OutOfMemoryError  # a CPU would kill the process
            mib = peak_memory(step, device)
            figures[engine] = {"mib": mib, "times_gradient": mib * 2**20 / (4 * inputs[0].numel())}
            figures[engine] |= _errors(step(), reference)
            if engine != "tensor":
                figures[engine]["bf16"] = _errors(_loss_and_gradient(engine, *half, size), reference)
            steps[engine] = step
        except torch.OutOfMemoryError:
            figures[engine] = "does not fit"
    for engine, ms in median_ms(steps, device, repeats, BUDGET).items():
        figures[engine] |= {"ms": ms, "share_of_floor": floor / ms}
    del inputs, half, steps
    return {
        "size": size._asdict(),
        "floor_ms": floor,
        "engines": figures,
        "training_step_ms": _training_step(size, device),
    }


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


def _training_step(size: Size, device: torch.device) -> float | str:
    """Return the time in ms of a step of DeepLab-v3+ on a batch of that size, without the CRF term."""
    n, classes, height, width = size.shape
    height, width = height * size.stride, width * size.stride
    if device.type == "cpu" and n * height * width > TRAINABLE:
        return "too large for a CPU"
    network = DeepLabV3Plus(classes, pretrained=False).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.007, momentum=0.9, weight_decay=1e-4)
    image = torch.randn(n, 3, height, width, device=device)
    target = torch.randint(classes, (n, height, width), device=device)
    supervised = PartialCrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        supervised(F.interpolate(network(image), size=(height, width), mode="bilinear"), target).backward()
        optimizer.step()

    try:
        step()
        return median_ms({"step": step}, device, 3, BUDGET)["step"]
    except torch.OutOfMemoryError:
        return "does not fit"


def _scale(size: Size, device: torch.device, engines: Sequence[str], repeats: int) -> dict[str, Any]:
    inputs = _inputs(size, device, torch.float32)
    steps = {engine: partial(_loss_and_gradient, engine, *inputs, size) for engine in engines}
    for step in steps.values():
        step()
    return {"size": size._asdict(), "ms": median_ms(steps, device, repeats, BUDGET / 4)}
