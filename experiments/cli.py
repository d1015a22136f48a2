"""The command ``gatedcrf``."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

COMMANDS = {
    "fit": "train a model",
    "validate": "evaluate a checkpoint on the validation images",
    "test": "the same as validate, written to RUN/test",
    "predict": "write the predicted classes of photographs, or of the images of a dataset",
    "export": "write a model as an ONNX or torch.export file",
    "reproduce": "run the cells of a table and print it",
    "table": "print and write the tables of finished runs",
    "data": "download, convert, check and show datasets",
    "benchmark": "measure the loss, the data loader and the training step",
}
PARSERS = {"export": "deploy", "reproduce": "tables", "table": "tables", "data": "data", "benchmark": "benchmarks"}
"""Package of each command that always has its own parser."""


def main(args: Sequence[str] | None = None) -> None:
    """Run ``gatedcrf COMMAND ...``. Bad input ends in one message and exit status 2.

    Args:
        args: Command and options; ``None`` reads the command line.
    """
    args = sys.argv[1:] if args is None else list(args)
    if not args or args[0] not in COMMANDS:
        _print_usage(args)
        sys.exit(0 if args and args[0] in ("-h", "--help") else 2)
    from datamodules.io.errors import InputError

    try:
        _run(args)
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:  # a bug: its traceback matters
            raise
        sys.stderr.write(f"gatedcrf: error: {error}\n")
        sys.exit(2)


def _run(args: list[str]) -> None:
    # Modules are imported late: torch and Lightning take seconds, and help and misspelled options need neither.
    package = parser_package(args)
    if package is None:
        import_module("experiments.train.cli").run(args)
        return
    options = import_module(f"experiments.{package}.parser").parse(args)
    module, _, function = options.function.partition(":")
    getattr(import_module(module), function)(options)


def parser_package(args: Sequence[str]) -> str | None:
    """Return the package whose parser reads a command, or ``None`` for LightningCLI.

    It reads ``predict -c RUN/config.yaml``, but not ``predict CHECKPOINT IMAGES``.
    """
    predicts_files = args[0] == "predict" and (len(args) == 1 or args[1] in ("-h", "--help") or args[1][0] != "-")
    return "deploy" if predicts_files else PARSERS.get(args[0])


def _print_usage(args: Sequence[str]) -> None:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    print("usage: gatedcrf COMMAND [options]; gatedcrf COMMAND --help lists the options\n", *lines, sep="\n")
    close = get_close_matches(args[0], COMMANDS, n=1) if args else []
    if close:
        print(f"\nThere is no command {args[0]!r}. Did you mean {close[0]}?")


if __name__ == "__main__":
    main()
