"""The parser of a command line, its error messages, and where the configuration is saved."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import yaml
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, SaveConfigCallback
from pytorch_lightning.loggers import WandbLogger

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError


class Parser(LightningArgumentParser):
    """Raises a short :class:`InputError` where jsonargparse prints the whole usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error.

        Raises:
            InputError: Always. The message names the closest known key to an unknown one.
        """
        parser = getattr(ex, "subcommand_parser", None) or self
        names = [action.dest for action in parser._actions]
        raise InputError(brief(message, {*names, *(name.rpartition(".")[2] for name in names)}))


def brief(message: str, known: Iterable[str] = ()) -> str:
    """Shorten a message of jsonargparse.

    Args:
        message: One line, or one reason per type that was tried.
        known: Names of options, to suggest the closest one to an unknown key.
    """
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    if any(line.strip() == "Errors:" for line in lines):  # one reason per member of a union; None is never meant
        start = next(i for i, line in enumerate(lines) if line.strip() == "Errors:")
        reasons = [line for line in lines[start + 1 :] if "NoneType" not in line]
        given = next((i for i, line in enumerate(reasons) if line.strip().startswith("Given value")), len(reasons))
        context = lines[:1] if lines[0].startswith("Parser key") else []
        lines = [*context, *(reason.strip().removeprefix("- ") for reason in reasons[:given])]
    if missing := re.search(r"the following arguments are required: ([\w., ]+)", message):
        names = [name.removeprefix("fit.") for name in missing[1].split(", ")]
        if names == ["data"]:
            return "No dataset is given; pass -c datasets/NAME.yaml, or --data=CLASS."
        lines = [f"--{', --'.join(names)} must be given."]
    section = re.match(r'Parser key "([\w.]+)"', lines[0])
    if section and lines[-1].endswith("must be given."):
        lines = [lines[-1].strip().replace("--", f"--{section[1]}.")]
    unknown = re.search(r"unrecognized arguments: -*([\w.]+)|Key '([\w.]+)' is not expected", message, re.IGNORECASE)
    if unknown:
        close = get_close_matches(unknown[1] or unknown[2], sorted(known), n=1, cutoff=0.7)
        lines += [f"Did you mean {close[0]}?"] if close else []
    return "\n  ".join(lines)


class SaveConfig(SaveConfigCallback):
    """Saves the configuration of an evaluation in its folder, and passes the configuration of a training to W&B."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save once, in the main process. :meth:`Run.prepare` saves the configuration of a training."""
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved = True
        text = self.parser.dump(self.config, skip_unset=False)
        if stage != "fit":
            atomic_write(Path(trainer.default_root_dir) / "config.yaml", text)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(yaml.safe_load(text), allow_val_change=True)
