"""``gatedcrf benchmark train``: cost of a training step, and the overhead of Lightning and logging."""

from argparse import Namespace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from experiments.benchmarks.lightning_overhead import measure_overhead
from experiments.benchmarks.measure import find_device, hardware
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.report import Result, format_number, publish, save_json
from experiments.benchmarks.settings import TRAIN_SIZES, VARIANTS, Variant
from experiments.benchmarks.train_step import measure_steps
from experiments.tables.report import to_markdown

STEP_HEADER = ["N, crop, C", "step", "images/s", "ms", "waiting for data", "CRF term", "peak MiB"]
OVERHEAD_HEADER = ["N, crop, C", "network", "plain loop, ms", "Lightning, ms", "difference, ms", "share", "of the runs"]
OVERHEAD = (
    "`gatedcrf fit` with the callbacks and loggers of base.yaml, logging every 10 steps with the progress bar of a "
    "terminal, compared with a plain loop: the same network, batches and updates in float32, in alternating runs. "
    "Share: added time relative to the plain loop, as the median and the range over pairs of runs."
)


def run(options: Namespace) -> None:
    """Measure, print the tables, and write train.json and train.md."""
    device = find_device()
    gpu = device.type == "cuda"
    sizes = options.sizes or (["voc", "cityscapes"] if gpu else ["voc_small", "folder_small"])
    variants = {name: VARIANTS[name] for name in options.rows}
    workers = (8 if gpu else 1) if options.num_workers is None else options.num_workers
    result: Result = {"hardware": hardware(device), "num_workers": workers, "sizes": {}}
    for name in sizes:
        with TemporaryDirectory() as folder:
            data = PhotographFolder(Path(folder) / "photos", TRAIN_SIZES[name], workers)
            result["sizes"][name] = _measure(data, variants, device, options)
        save_json(options.out / "train.json", result)
    publish(options.out, "train", result, to_text(result))


def _measure(data: PhotographFolder, variants: dict[str, Variant], device: torch.device, options: Namespace) -> Result:
    title = f"{data.size.batch} crops of {data.size.crop}"
    print(f"generating images for {title}")
    data.draw()
    print(f"measuring {title}: {', '.join(variants)}")
    rows = measure_steps(data, variants, device, options.repeats)
    print(f"measuring {title}: Lightning and a plain loop")
    times = measure_overhead(data, device, options.steps, options.repeats)
    return {"setting": data.size._asdict(), "rows": rows, "lightning": times}


def to_text(result: Result) -> str:
    """Return the conditions and both tables as Markdown."""
    conditions = (
        f"{result['hardware']}, {result['num_workers']} loader processes, medians of alternating measurements. "
        "A step: standardization, network, both losses, backward and SGD on crops with clicks, read from image files "
        "by the training loader. CRF term: share of its forward and backward pass in a step on a batch in memory. "
        "Peak: weights, momentum, and the memory a step adds."
    )
    sizes = list(result["sizes"].values())
    steps = [_step_row(size["setting"], name, row) for size in sizes for name, row in size["rows"].items()]
    overhead = [_overhead_row(size["setting"], size["lightning"]) for size in sizes]
    tables = to_markdown([STEP_HEADER, *steps]), to_markdown([OVERHEAD_HEADER, *overhead])
    return f"{conditions}\n\n{tables[0]}\n{OVERHEAD}\n\n{tables[1]}"


def _step_row(setting: Result, name: str, row: Result | str) -> list[str]:
    start = [_format_size(setting), name]
    if isinstance(row, str):
        return [*start, row, *[""] * (len(STEP_HEADER) - 3)]
    return [
        *start,
        format_number(row["images_per_second"]),
        format_number(row["step_ms"]),
        f"{100 * row['wait_ms'] / row['step_ms']:.1f} %",
        f"{100 * row['term_ms'] / row['resident_ms']:.1f} %",
        f"{row['mib']:,.0f}",
    ]


def _overhead_row(setting: Result, times: dict[str, list[float]]) -> list[str]:
    pairs = list(zip(times["plain_ms"], times["lightning_ms"], strict=True))
    shares = sorted(100 * (lightning / plain - 1) for plain, lightning in pairs)
    return [
        _format_size(setting),
        setting["backbone"].split(".")[0],
        format_number(median(times["plain_ms"])),
        format_number(median(times["lightning_ms"])),
        f"{median(lightning - plain for plain, lightning in pairs):.1f}",
        f"{median(shares):.1f} %",
        f"{shares[0]:.1f} to {shares[-1]:.1f} %",
    ]


def _format_size(setting: Result) -> str:
    return f"{setting['batch']}, {setting['crop']}, {setting['classes']}"
