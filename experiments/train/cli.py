"""``gatedcrf fit | validate | test | predict``: LightningCLI with the project's defaults."""

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_only

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.train.configuration import BASE, expand_arguments
from experiments.train.devices import check_devices, check_precision
from experiments.train.exit_status import exit_status
from experiments.train.parser import Parser, SaveConfig, brief
from experiments.train.preset import AUTO, apply_preset, describe_preset
from experiments.train.processes import end_with_main_process, name_dead_processes
from experiments.train.resume import check_weights_fit, newest_checkpoint, refuse_to_start_over
from experiments.train.run import Run
from lightning_modules.callbacks import PredictionWriter
from lightning_modules.fault_tolerance import Stopped, stop_signals
from lightning_modules.fault_tolerance.checkpoint_io import finish_writing
from lightning_modules.inference import WHOLE_IMAGE, Inference
from lightning_modules.self_contained import NO_WEIGHTS
from lightning_modules.weak_segmentation import WeakSegmentation

HARMLESS = (
    ".*Previous log files in this directory will be deleted",  # KeepingCSVLogger renames them first
    ".*dataloader is not resumable",  # StreamBatchSampler starts at the step of the checkpoint
    "The dirpath has changed from",  # evaluations have their own folder
    ".*treespec, LeafSpec",  # Lightning's own use of torch
    r".*recommended to use `self.log\('val/",  # confusions are already summed over all processes
)
"""Warnings of Lightning that do not apply here, as regular expressions."""


class CLI(LightningCLI):
    """Links dataset and model, and keeps the files of a run in its directory.

    Args:
        args: Command and options.
        parse_only: Stop after parsing.
    """

    def __init__(self, args: Sequence[str], parse_only: bool = False) -> None:
        self.command, self.parse_only = args[0], parse_only
        super().__init__(
            WeakSegmentation,
            SegmentationDataModule,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=SaveConfig,
            parser_class=Parser,
            parser_kwargs={"allow_abbrev": False},  # or a misspelled option could be taken for another one
            args=list(args),
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the called command only. Building the parsers of the others takes time."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse base.yaml, the preset, then the command line with all files expanded."""
        command, *options = args
        base, given = expand_arguments([f"--config={BASE}"]), expand_arguments(options)
        preset, given = apply_preset(given)
        self.config = parser.parse_args([command, *base, *given])
        self.config[command].preset = preset

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``predictions``, ``base`` and ``preset``, and link arguments to the seed and the dataset."""
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_argument("--base", type=list[str] | str | None, default=None, help="Files that this file changes.")
        text = "File of presets/ with fast settings, or none for exact float32; auto: gpu on a GPU, none on a CPU."
        parser.add_argument("--preset", type=str, default=AUTO, help=text)
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        parser.link_arguments("data.num_classes", "model.network.init_args.num_classes", apply_on="instantiate")
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let the hyperparameters of the checkpoint override the command line."""

    def _set_seed(self) -> None:
        if not self.parse_only:
            super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Set the folders of everything that a run writes."""
        config = self.config[self.command]
        config.base = None  # its files are merged by now
        run = Run(config.trainer.default_root_dir or "runs/unnamed")
        folder = run.path
        if self.command != "fit":
            config.ckpt_path = config.ckpt_path if self.parse_only else str(run.checkpoint(config.ckpt_path))
            for name in NO_WEIGHTS.keys() & vars(config.model.network.init_args).keys():
                config.model.network.init_args[name] = NO_WEIGHTS[name]  # the checkpoint holds the weights
            config.trainer.logger = False  # or it would overwrite the log of the run
            way = Inference(**vars(config.model.inference)).name
            name = self.command if way == WHOLE_IMAGE.name else f"{self.command} {way}"
            folder = folder / re.sub(r"[^\w.]+", "-", name)
        config.trainer.default_root_dir = str(folder)
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if "save_dir" in getattr(logger, "init_args", {}):
                logger.init_args.save_dir = str(folder)

    def resolved(self) -> dict[str, Any]:
        """Return all settings of the command, the content of config.yaml."""
        config: dict[str, Any] = yaml.safe_load(
            self._parser(self.command).dump(self.config[self.command], skip_unset=False)
        )
        return config

    def instantiate_classes(self) -> None:
        """Build datamodule, model and trainer.

        Raises:
            InputError: A constructor refuses a value, or torch cannot use the GPUs.
        """
        if self.parse_only:
            return
        trainer = self.config[self.command].trainer
        check_devices(trainer.accelerator)
        check_precision(trainer.accelerator, trainer.precision)
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:
            raise InputError(brief(str(error))) from error
        if self.command != "fit":
            check_weights_fit(self.config[self.command].ckpt_path, self.model)

    def _run_subcommand(self, subcommand: str) -> None:
        if not self.parse_only:
            with name_dead_processes(self.trainer):
                super()._run_subcommand(subcommand)

    def fit(self, **options: Any) -> None:
        """Start or continue the training."""
        run = Run(self.trainer.default_root_dir)
        checkpoints = run.path / "checkpoints"
        self._lock = rank_zero_only(run.lock)()  # held until the result is written
        if options["ckpt_path"] == "last":
            checkpoint = newest_checkpoint(checkpoints)
        else:
            checkpoint = run.checkpoint(options["ckpt_path"]) if options["ckpt_path"] else None
            refuse_to_start_over(checkpoints, checkpoint)
        if isinstance(self.trainer.val_check_interval, int):  # Lightning counts batches
            self.trainer.val_check_interval *= self.trainer.accumulate_grad_batches
        options["ckpt_path"], config = checkpoint, self.resolved()
        self.model.config = config
        run.check(config, checkpoint)  # in all processes, or the others would wait for one that refuses
        check_weights_fit(checkpoint, self.model)
        rank_zero_only(run.clean_up)()
        rank_zero_only(run.save)(config)
        describe_preset(config)
        with stop_signals.deferred():
            try:
                self.trainer.fit(**options)
            except Stopped:
                rank_zero_only(run.stopped.touch)()
                raise

    def validate(self, **options: Any) -> None:
        """Evaluate. EvaluationReport prints the table, in percent."""
        self.trainer.validate(**options | {"verbose": False})

    def test(self, **options: Any) -> None:
        """See :meth:`validate`."""
        self.trainer.test(**options | {"verbose": False})

    def after_fit(self) -> None:
        """Evaluate the final weights unless the last step did, and write result.json."""
        model, trainer, path = self.model, self.trainer, Path(self.trainer.default_root_dir)
        if trainer.global_step < trainer.max_steps:
            return
        if model.evaluation is None or model.evaluation.step != trainer.max_steps:
            trainer.validate(model, datamodule=self.datamodule, verbose=False)
            if model.best.step == trainer.max_steps:
                trainer.save_checkpoint(path / "checkpoints" / "best.ckpt")
                finish_writing(trainer)
        if trainer.is_global_zero:
            result = model.evaluation.summary() | model.best.summary() | {"steps": trainer.max_steps}
            atomic_write(path / RESULT, json.dumps(result, indent=2) + "\n")


def parse(args: Sequence[str]) -> dict[str, Any]:
    """Return the resolved configuration of a command without running it.

    Args:
        args: "fit", "validate", "test" or "predict", and its options.

    Raises:
        InputError: An option is unknown or missing, or a value has the wrong type.
    """
    return CLI(args, parse_only=True).resolved()


def run(args: Sequence[str]) -> None:
    """Run a command with the arguments of :func:`parse`.

    Raises:
        InputError: Bad input.
        SystemExit: The run was stopped, see :func:`experiments.train.exit_status.exit_status`.
    """
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    with end_with_main_process(), exit_status():
        CLI(args)
