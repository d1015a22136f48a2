"""Label maps made from images and weak labels, which the paper calls proposals or fake labels."""

from datamodules.proposals.boxes import BoxInnerLabels, BoxLabels
from datamodules.proposals.generator import LabelGenerator
from datamodules.proposals.grabcut import GrabCutConsensusLabels, GrabCutLabels
from datamodules.proposals.options import Proposals
from datamodules.proposals.recursive import RecursiveBoxes
from datamodules.proposals.scribblesup import ScribbleSupLabels

__all__ = [
    "BoxInnerLabels",
    "BoxLabels",
    "GrabCutConsensusLabels",
    "GrabCutLabels",
    "LabelGenerator",
    "Proposals",
    "RecursiveBoxes",
    "ScribbleSupLabels",
]
