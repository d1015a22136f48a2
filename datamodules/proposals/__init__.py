"""Label maps made from images and weak labels, which the paper calls proposals or fake labels."""

from datamodules.proposals.generator import LabelGenerator

__all__ = ["LabelGenerator"]
