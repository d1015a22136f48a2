"""How time, memory and the limits of a machine are measured, on a CPU or a GPU."""

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would call a missing GPU an error

Step = Callable[[], object]


def hardware(device: torch.device) -> str:
    """Return the name of the device, and what else decides its speed."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def free_memory(device: torch.device) -> int:
    """Return the bytes of memory that are free, or can be made so."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    available = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if available is None else 1024 * available


@contextmanager
def out_of_memory_as(error: Exception) -> Iterator[None]:
    """Raise ``error`` where memory runs out, for which a CPU and a GPU have errors of their own."""
    try:
        yield
    except RuntimeError as reason:  # torch.OutOfMemoryError is one
        if not isinstance(reason, torch.OutOfMemoryError) and "allocate memory" not in str(reason):
            raise
        raise error from reason


def median_ms(steps: Mapping[str, Step], device: torch.device, repeats: int, seconds: float) -> dict[str, float]:
    """Return the median time of each step in milliseconds, measured in turns, so that a slow spell hits all of them.

    Args:
        steps: What to measure, already warm.
        device: On a GPU, its own clock measures, behind a queue of work as long as Python takes to launch the step.
        repeats: Turns.
        seconds: A step that has taken that long altogether is left out of further turns.
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
    launched = 1e3 * (time.perf_counter() - start)  # what Python takes, as the device works on its own
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    for _ in range(int(20 * launched) + 8):  # each takes a twentieth of a millisecond or more
        ahead.zero_()
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end))


def copy_bandwidth(device: torch.device) -> float:
    """Return bytes per second, read and written, of a copy too large for the caches."""
    source = torch.ones(2**28, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    best = min(_time_ms(lambda: target.copy_(source), device) for _ in range(10))
    return 2e3 * source.numel() / best


def multiply_add_rate(device: torch.device) -> float:
    """Return multiply-adds per second of a matrix product in full float32."""
    side = 4096 if device.type == "cuda" else 1536
    matrix = torch.ones(side, side, device=device)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    best = min(_time_ms(lambda: matrix @ matrix, device) for _ in range(10))
    torch.set_float32_matmul_precision(precision)
    return 1e3 * side**3 / best


def peak_memory(step: Step, device: torch.device) -> float:
    """Return the most tensor memory, MiB, that was held during ``step`` beyond what was held before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        step()
    result = profile.profiler.kineto_results if profile.profiler else None
    events = [event for event in result.events() if event.name() == "[memory]"] if result else []
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20
