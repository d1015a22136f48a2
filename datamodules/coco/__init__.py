"""Images with COCO annotations."""

from datamodules.coco.datamodule import CocoDataModule

__all__ = ["CocoDataModule"]
