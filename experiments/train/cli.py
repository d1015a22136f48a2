"""``gatedcrf fit | validate | test | predict``: LightningCLI with the project's defaults."""

import json
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.train.ending import telling_status
from experiments.train.errors import brief
from experiments.train.inheritance import expand_arguments
from experiments.train.resume import check_settings, newest_checkpoint
from experiments.train.run_lock import lock
from lightning_modules.callbacks import PredictionWriter
from lightning_modules.fault_tolerance import stop_signals
from lightning_modules.inference import WHOLE_IMAGE, Inference
from lightning_modules.weak_segmentation import WeakSegmentation

HARMLESS = (
    ".*Previous log files in this directory will be deleted",  # KeepingCSVLogger puts them aside
    ".*dataloader is not resumable",  # StreamBatchSampler starts at the step of the checkpoint
    "The dirpath has changed from",  # the checkpoint of a run is evaluated in a folder of its own
    ".*treespec, LeafSpec",  # Lightning's own use of torch
    r".*recommended to use `self.log\('val/",  # confusions are counted over all processes before
)
"""Warnings of Lightning that do not apply here, as regular expressions."""


class Parser(LightningArgumentParser):
    """A parser that says what is wrong in a few lines."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the reason and, for an unknown key, the closest known one, and exit with status 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        dests = [action.dest for action in parser._actions]
        known = {*dests, *(dest.rpartition(".")[2] for dest in dests)}
        sys.stderr.write(f"gatedcrf: error: {brief(message, known)}\n")
        self.exit(2)


class SaveConfig(SaveConfigCallback):
    """Saves the resolved configuration beside the run; a resumed run gets a new file instead of an error."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml, or config.1.yaml and so on where there is one, and pass it to W&B."""
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved = True
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        names = ["config.yaml", *(f"config.{k}.yaml" for k in range(1, 10_000))]
        path = next(folder / name for name in names if not (folder / name).exists())
        text = self.parser.dump(self.config, skip_none=False)
        temporary = path.with_suffix(".part")
        temporary.write_text(text)
        temporary.replace(path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(yaml.safe_load(text), allow_val_change=True)


class CLI(LightningCLI):
    """Links the dataset to the model and keeps every run in its own directory."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line after each configuration has been replaced by the files it is based on."""
        self.config = parser.parse_args(expand_arguments(args))

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Declare ``base`` and what follows from the dataset or from the seed."""
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_argument("--base", type=list[str] | str | None, default=None, help="Files that this file changes.")
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        parser.link_arguments("data.num_classes", "model.network.init_args.num_classes", apply_on="instantiate")
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let the checkpoint's hyperparameters override the command line's."""

    def before_instantiate_classes(self) -> None:
        """Keep what a run leaves in its directory, and nothing of another run out of it."""
        config = self.config[self.subcommand]
        config.base = None  # all files are merged by now: the saved configuration stands alone
        run = Path(config.trainer.default_root_dir or "runs/unnamed")
        if self.subcommand == "fit":
            started = (run / "checkpoints").is_dir()
            if started and not config.ckpt_path:
                raise InputError(
                    f"{run} already holds a run. Continue it with --ckpt_path=last, or name another directory with "
                    "--trainer.default_root_dir."
                )
        else:
            config.ckpt_path = find_weights(config.ckpt_path, run)
            if "pretrained" in config.model.network.init_args:
                config.model.network.init_args.pretrained = False  # the checkpoint holds the weights
            config.trainer.logger = False  # or the history of the run would be logged over
            run = run / evaluation_folder(str(self.subcommand), Inference(**vars(config.model.inference)))
        config.trainer.default_root_dir = str(run)
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if "save_dir" in getattr(logger, "init_args", {}):
                logger.init_args.save_dir = str(run)

    def fit(self, **options: Any) -> None:
        """Train from where the run stands, until its end or a signal."""
        self._lock = rank_zero_only(lock)(Path(self.trainer.default_root_dir))  # until the result is written
        if options["ckpt_path"] == "last":
            options["ckpt_path"] = newest_checkpoint(Path(self.trainer.default_root_dir))
        if options["ckpt_path"]:
            check_settings(Path(options["ckpt_path"]), self.trainer, self.datamodule)
        with stop_signals.deferred():
            self.trainer.fit(**options)

    def validate(self, **options: Any) -> None:
        """Evaluate, and leave the table to the callback, which has it in percent."""
        self.trainer.validate(**options | {"verbose": False})

    def test(self, **options: Any) -> None:
        """See :meth:`validate`."""
        self.trainer.test(**options | {"verbose": False})

    def after_fit(self) -> None:
        """Evaluate the final weights if the last step did not, and leave the result."""
        if self.trainer.global_step < self.trainer.max_steps:
            return
        if self.model.evaluation is None or self.model.evaluation.step != self.trainer.max_steps:
            self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
            if self.model.best.step == self.trainer.max_steps:
                self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "checkpoints" / "best.ckpt")
        write_result(self.model, self.trainer)


def find_weights(given: str | None, run: Path) -> str:
    """Return the path of the checkpoint to evaluate.

    Args:
        given: Its path, or "best" or "last" of the run.
        run: The run directory.

    Raises:
        InputError: There is no such checkpoint; the message names those of the run.
    """
    path = run / "checkpoints" / f"{given}.ckpt" if given in ("best", "last") else Path(given or "")
    if not path.is_file():
        known = " ".join(str(file) for file in sorted(run.glob("checkpoints/*.ckpt"))) or f"none in {run}/checkpoints"
        raise InputError(f"--ckpt_path={given or ''} is no checkpoint; give best, last or a file. There are: {known}.")
    return str(path)


def evaluation_folder(command: str, inference: Inference) -> str:
    """Return where in a run its evaluation goes: each way of inference has its own folder."""
    name = command if inference.name == WHOLE_IMAGE.name else f"{command} {inference.name}"
    return re.sub(r"[^\w.]+", "-", name)


@rank_zero_only
def write_result(model: WeakSegmentation, trainer: Trainer) -> None:
    """Write the evaluation of the final weights, and the best mIoU on the way, into the run directory, in one move."""
    assert model.evaluation is not None
    result = model.evaluation.summary() | model.best.summary() | {"steps": trainer.max_steps}
    path = Path(trainer.default_root_dir) / RESULT
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    temporary.replace(path)


def run(args: Sequence[str]) -> None:
    """Run a subcommand.

    Args:
        args: "fit", "validate", "test" or "predict", and its options.

    Raises:
        InputError: Bad input that the parser cannot see.
        SystemExit: The run was stopped, see :func:`telling_status`.
    """
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    with telling_status():
        CLI(
            WeakSegmentation,
            SegmentationDataModule,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=SaveConfig,
            parser_class=Parser,
            parser_kwargs={"allow_abbrev": False},  # or a misspelled option could be taken for another
            args=list(args),
        )
