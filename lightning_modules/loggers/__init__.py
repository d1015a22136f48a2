"""CSV and W&B loggers."""

from lightning_modules.loggers.csv_logger import KeepingCSVLogger
from lightning_modules.loggers.wandb_logger import ForgivingWandbLogger

__all__ = ["ForgivingWandbLogger", "KeepingCSVLogger"]
