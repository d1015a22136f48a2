"""A folder of images, masks and weak labels."""

from datamodules.folder.datamodule import FolderDataModule

__all__ = ["FolderDataModule"]
