"""What a run shows and leaves beside its checkpoints."""

from lightning_modules.evaluation_report import EvaluationReport
from lightning_modules.gallery import KernelGallery, PredictionGallery
from lightning_modules.prediction_writer import PredictionWriter
from lightning_modules.throughput import LabelCount, Throughput

__all__ = ["EvaluationReport", "KernelGallery", "LabelCount", "PredictionGallery", "PredictionWriter", "Throughput"]
