"""The command ``gatedcrf``."""

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from experiments import EXPERIMENTS
from experiments.train.errors import brief

COMMANDS = {
    "fit": ("experiments.train.cli", "train a model"),
    "validate": ("experiments.train.cli", "evaluate a checkpoint on the validation images"),
    "test": (
        "experiments.train.cli",
        "evaluate a checkpoint on the test images, or the validation images where there are none",
    ),
    "predict": ("experiments.train.cli", "write the predictions of a checkpoint as indexed PNGs"),
    "reproduce": ("experiments.tables.reproduce", "run the cells of a table and print it"),
    "table": ("experiments.tables.command", "print and write the tables from finished runs"),
    "data": ("experiments.data.command", "fetch, convert, check and look at datasets"),
    "benchmark": ("experiments.benchmarks.command", "measure what the loss and the data cost"),
}


def main(args: Sequence[str] | None = None) -> None:
    """Run ``gatedcrf COMMAND ...``; bad input ends in one message and exit status 2.

    Args:
        args: Without the program's name; ``None`` is the command line.
    """
    args = sys.argv[1:] if args is None else args
    if not args or args[0] not in COMMANDS:
        width = max(map(len, COMMANDS))
        lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
        print("usage: gatedcrf COMMAND [options], with --help for the options of a command\n", *lines, sep="\n")
        sys.exit(0 if args and args[0] in ("-h", "--help") else 2)
    module, _ = COMMANDS[args[0]]
    run = import_module(module).run  # imported late: torch and Lightning take seconds
    try:
        run(list(args) if module == "experiments.train.cli" else list(args[1:]))
    except (ValueError, OSError) as error:
        where = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        root = EXPERIMENTS.parent
        ours = any(
            root / room in where.parents for room in ("losses", "datamodules", "lightning_modules", "experiments")
        )
        names_file = isinstance(error, OSError) and error.filename is not None
        if not (ours or "jsonargparse" in where.parts or names_file):
            raise  # no bad input but a defect, whose traceback matters
        sys.stderr.write(f"gatedcrf: error: {brief(str(error))}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
