"""The built-in dataset."""

from datamodules.shapes.datamodule import ShapesDataModule

__all__ = ["ShapesDataModule"]
