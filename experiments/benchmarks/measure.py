"""Time, memory and hardware limits of a CPU or a GPU."""

import gc
import os
import platform
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

from experiments.benchmarks.settings import LossSize

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler logs an error if there is no GPU

Step = Callable[[], object]
T = TypeVar("T")


def find_device() -> torch.device:
    """Return the GPU if there is one, and the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def hardware(device: torch.device) -> str:
    """Return the name of the device, the number of CPU threads and the version of torch."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = _read_field("/proc/cpuinfo", "model name") or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def free_memory(device: torch.device) -> int:
    """Return the available memory in bytes. On a CPU, this includes the file cache of the system."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch keeps for later is free
        return torch.cuda.mem_get_info(device)[0]
    available = _read_field("/proc/meminfo", "MemAvailable")
    if available is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 1024 * int(available.split()[0])


def _read_field(path: str, name: str) -> str | None:
    """Read a "name: value" line of a Linux status file."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith(name)), None)


def check_memory(engine: str, size: LossSize, device: torch.device) -> None:
    """Raise an error before the tensor form exhausts the memory. On a CPU, the system would kill the process.

    Raises:
        OutOfMemoryError: It needs more than 80 % of the available memory.
    """
    if engine == "tensor" and size.tensor_form_bytes() > 0.8 * free_memory(device):
        raise torch.OutOfMemoryError


def if_it_fits(measure: Callable[[], T]) -> T | str:
    """Return the result of ``measure``, or "does not fit" if it runs out of memory."""
    try:
        return measure()
    except RuntimeError as error:  # on a CPU, only the message identifies it
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
    return "does not fit"


def synchronize(device: torch.device) -> None:
    """Wait for all pending work of a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_ms(steps: Mapping[str, Step], device: torch.device, repeats: int, seconds: float) -> dict[str, float]:
    """Return the median time of each step in milliseconds.

    Steps alternate, so a temporary slowdown of the machine affects all of them.

    Args:
        steps: Functions to time, already warmed up.
        device: Device of the steps. On a GPU, CUDA events measure the time, which excludes launches from Python.
        repeats: Maximum number of measurements of each step.
        seconds: Time limit per step. A step that has exceeded it is not repeated.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            if sum(times[name]) < 1e3 * seconds:
                times[name].append(_time_ms(step, device))
    return {name: median(values) for name, values in times.items()}


def _time_ms(step: Step, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - start)
    filler = torch.empty(2**28, dtype=torch.uint8, device=device)  # larger than the cache
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    launch = 1e3 * (time.perf_counter() - start)  # only the time of Python: the device works asynchronously
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    for _ in range(int(20 * launch) + 8):  # each takes at least 0.05 ms: the device is busy until all is launched
        filler.zero_()
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end))


def limits(device: torch.device) -> dict[str, float]:
    """Measure the bytes per second of a copy and the multiply-adds per second of a matrix product.

    The copy exceeds the caches. Bytes read and bytes written both count. The product is in float32.
    """
    source = torch.ones(2**28, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    side = 4096 if device.type == "cuda" else 1536
    matrix = torch.ones(side, side, device=device)
    copy, product = (
        min(_time_ms(step, device) for _ in range(10))
        for step in (lambda: target.copy_(source), lambda: matrix @ matrix)
    )
    return {"bytes_per_second": 2e3 * source.numel() / copy, "multiply_adds_per_second": 1e3 * side**3 / product}


def peak_memory(step: Step, device: torch.device) -> float:
    """Return the peak memory of tensors during ``step``, in MiB above the memory in use before it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes: list[int] = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes, initial=0)) / 2**20


def relative_errors(computed: tuple[Tensor, Tensor], reference: tuple[float, Tensor]) -> dict[str, float]:
    """Return the relative errors of the loss and of the gradient, in the Euclidean norm."""
    loss, gradient = computed[0].item(), computed[1].cpu().double()
    return {
        "loss_error": abs(loss - reference[0]) / abs(reference[0]),
        "gradient_error": ((gradient - reference[1]).norm() / reference[1].norm()).item(),
    }
