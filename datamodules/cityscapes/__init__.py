"""Cityscapes."""

from datamodules.cityscapes.datamodule import CityscapesDataModule

__all__ = ["CityscapesDataModule"]
