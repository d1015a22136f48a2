"""Label maps made from images and weak labels, which the paper calls proposals or fake labels."""

from datamodules.proposals.boxes import BoxInnerLabels, BoxLabels
from datamodules.proposals.generator import LabelGenerator
from datamodules.proposals.grabcut import GrabCutConsensusLabels, GrabCutLabels
from datamodules.proposals.graph_cut import ScribbleSupLabels
from datamodules.proposals.objectness import frequency_tuned_saliency, read_objectness
from datamodules.proposals.options import Proposals
from datamodules.proposals.recursive import RecursiveBoxes

__all__ = [
    "BoxInnerLabels",
    "BoxLabels",
    "GrabCutConsensusLabels",
    "GrabCutLabels",
    "LabelGenerator",
    "Proposals",
    "RecursiveBoxes",
    "ScribbleSupLabels",
    "frequency_tuned_saliency",
    "read_objectness",
]
