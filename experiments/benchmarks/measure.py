"""Time, memory and limits of a machine, on a CPU or a GPU."""

import gc
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch

from experiments.benchmarks.settings import LossSize

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports a missing GPU as an error

Step = Callable[[], object]
T = TypeVar("T")


def find_device() -> torch.device:
    """Return the GPU if there is one, and the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def hardware(device: torch.device) -> str:
    """Describe what decides the speed: the device, the number of threads and the version of torch."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = _read_field("/proc/cpuinfo", "model name") or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def free_memory(device: torch.device) -> int:
    """Return the available memory in bytes. On a CPU, caches of the system count as available."""
    if device.type == "cuda":
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
    """Refuse what would exhaust the memory: on a CPU, the system would kill the process.

    Raises:
        OutOfMemoryError: The tensor form would take more than 80 % of the available memory.
    """
    if engine == "tensor" and size.tensor_form_bytes() > 0.8 * free_memory(device):
        raise torch.OutOfMemoryError


def if_it_fits(measure: Callable[[], T]) -> T | str:
    """Return what ``measure`` returns, or "does not fit" if memory runs out."""
    try:
        return measure()
    except RuntimeError as error:  # on a CPU, only the message tells
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
    return "does not fit"


def synchronize(device: torch.device) -> None:
    """Wait for all pending work of a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_ms(steps: Mapping[str, Step], device: torch.device, repeats: int, seconds: float) -> dict[str, float]:
    """Return the median time of each step in milliseconds.

    The steps alternate, so that a slow spell of the machine affects all of them.

    Args:
        steps: What to measure, already warm.
        device: A GPU is timed by its own clock. Work is queued first, so that launching from Python is hidden.
        repeats: Most measurements of each step.
        seconds: A step whose total time exceeds this limit is not repeated again.
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
    ahead = torch.empty(2**28, dtype=torch.uint8, device=device)  # also empties the cache
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    launch = 1e3 * (time.perf_counter() - start)  # time of Python alone: the device works asynchronously
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    for _ in range(int(20 * launch) + 8):  # each takes at least 0.05 ms
        ahead.zero_()
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end))


def limits(device: torch.device) -> dict[str, float]:
    """Measure the bytes per second of a copy, read and written, and the multiply-adds per second of a matrix product.

    The copy is larger than the caches. The product is in full float32.
    """
    source = torch.ones(2**28, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    side = 4096 if device.type == "cuda" else 1536
    matrix = torch.ones(side, side, device=device)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    copy, product = (
        min(_time_ms(step, device) for _ in range(10))
        for step in (lambda: target.copy_(source), lambda: matrix @ matrix)
    )
    torch.set_float32_matmul_precision(precision)
    return {"bytes_per_second": 2e3 * source.numel() / copy, "multiply_adds_per_second": 1e3 * side**3 / product}


def peak_memory(step: Step, device: torch.device) -> float:
    """Return the peak of tensor memory during ``step``, in MiB above the memory in use before."""
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
    result = profile.profiler.kineto_results if profile.profiler else None
    events = [event for event in result.events() if event.name() == "[memory]"] if result else []
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20
