"""Pascal VOC 2012."""

from datamodules.voc.datamodule import VOCDataModule

__all__ = ["VOCDataModule"]
