"""``gatedcrf data``: fetch, convert, check and look at datasets before a long run."""

import argparse
from collections.abc import Sequence

from experiments.data import check as data_check
from experiments.data import clicks as data_clicks
from experiments.data import download as data_download
from experiments.data import import_labels as data_import
from experiments.data import show as data_show


def run(args: Sequence[str]) -> None:
    """Run a subcommand.

    Args:
        args: Command line without "data".

    Raises:
        InputError: Bad input.
        SystemExit: With status 1 if the checked dataset has a fault.
    """
    parser = argparse.ArgumentParser("gatedcrf data", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    for module in (data_check, data_show, data_download, data_import, data_clicks):
        module.add_parsers(commands)
    options, rest = parser.parse_known_args(args)
    reads_dataset = hasattr(options, "supervision")
    if unknown := [argument for argument in rest if not (reads_dataset and argument.startswith("--data."))]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.settings = rest
    options.run(options)
