"""What a run shows and leaves beside its checkpoints."""

from lightning_modules.callbacks.evaluation_report import EvaluationReport
from lightning_modules.callbacks.gallery import KernelGallery, PredictionGallery
from lightning_modules.callbacks.prediction_writer import PredictionWriter
from lightning_modules.callbacks.throughput import LabelCount, Throughput

__all__ = ["EvaluationReport", "KernelGallery", "LabelCount", "PredictionGallery", "PredictionWriter", "Throughput"]
