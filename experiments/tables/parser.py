"""Arguments of ``gatedcrf reproduce`` and ``gatedcrf table``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments import DATASETS, EXPERIMENTS

OWN = ("--seed_everything", "--ckpt_path", "--trainer.default_root_dir", "--trainer.devices", "--trainer.num_nodes")
"""Options of ``gatedcrf fit`` that each cell sets itself."""
TABLES = [path.stem for path in sorted(EXPERIMENTS.glob("table*.yaml"))]


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Parse a command line that begins with "reproduce" or "table"."""
    return _parse_table(args[1:]) if args[0] == "table" else _parse_reproduce(args[1:])


def _parse_table(args: Sequence[str]) -> argparse.Namespace:
    description = "Print and write every table that finished runs contribute to."
    parser = argparse.ArgumentParser("gatedcrf table", description=description, allow_abbrev=False)
    parser.add_argument("runs", type=Path, help="folder of runs, or that of one dataset in it")
    parser.add_argument("--tables", nargs="+", default=TABLES, help=f"names of tables (default: {' '.join(TABLES)})")
    parser.set_defaults(function="experiments.tables.report:run")
    return parser.parse_args(args)


def _parse_reproduce(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "gatedcrf reproduce",
        description="Train the unfinished cells of a table, then print and write the table and its pictures.",
        epilog="Options after -- go to `gatedcrf fit` of every cell, for example: -- --data.root=FOLDER",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("table", help=f"name of a table: {', '.join(TABLES)}, rivals, or your own NAME.yaml")
    add("--dataset", default="shapes", help=f"{', '.join(DATASETS)}, or your own datasets/NAME.yaml (default: shapes)")
    add("--protocol", choices=["paper", "authors"], default="paper", help="see protocols.yaml (default: paper)")
    add("--rows", nargs="+", default=["*"], help="names of rows, or patterns")
    add("--columns", nargs="+", default=["*"], help="names of columns, or patterns")
    add("--cells", nargs="+", default=["*"], help="patterns of row/column, for example 'clicks/*' full/pCE")
    add("--seeds", type=int, default=1, help="runs per cell, seeded 0, 1, ... (default: 1)")
    add("--max_steps", type=int, help="shorten or lengthen every run")
    add("--devices", type=int, default=1, help="devices per cell, which share its batches (default: 1)")
    add("--parallel", type=int, default=1, help="cells that train side by side on this machine (default: 1)")
    add("--launcher", choices=["local", "slurm"], default="local", help="default: local")
    add("--slurm", type=Path, help=f"settings of the jobs where they differ from {EXPERIMENTS / 'slurm.yaml'}")
    add("--runs", type=Path, default=Path("runs"), help="where the runs are kept (default: runs)")
    add("--wandb", action="store_true", help="log to W&B, one run per cell in a group per table")
    add("--dry_run", action="store_true", help="only write the configuration of each cell and print its command")
    parser.set_defaults(function="experiments.tables.reproduce:run")
    split = list(args).index("--") if "--" in args else len(args)
    options = parser.parse_args(args[:split])
    for name in ("seeds", "max_steps", "devices", "parallel"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name} is {value}; it must be at least 1")
    if options.slurm and options.launcher != "slurm":
        parser.error("--slurm needs --launcher slurm")
    if options.parallel > 1 and options.launcher == "slurm":
        parser.error(
            "--parallel needs --launcher local; jobs in the file of --slurm limits the jobs that run at a time"
        )
    options.fit_options = list(args[split + 1 :])
    for option in options.fit_options:
        if option.partition("=")[0] in OWN:
            parser.error(f"{option}: each cell has its own; use --seeds, --runs and --devices")
    if options.max_steps is not None:
        options.fit_options.append(f"--trainer.max_steps={options.max_steps}")
    return options
