"""Callbacks that report on a run: pictures, metrics, predictions and speed."""

from lightning_modules.callbacks.evaluation_report import EvaluationReport
from lightning_modules.callbacks.gallery import KernelGallery, PredictionGallery
from lightning_modules.callbacks.prediction_writer import PredictionWriter
from lightning_modules.callbacks.progress import Progress
from lightning_modules.callbacks.throughput import DataWait, LabelCount, Throughput

__all__ = [
    "DataWait",
    "EvaluationReport",
    "KernelGallery",
    "LabelCount",
    "PredictionGallery",
    "PredictionWriter",
    "Progress",
    "Throughput",
]
