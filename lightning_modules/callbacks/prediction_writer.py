"""Predictions written as PNG files."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from datamodules.sample import Sample
from lightning_modules.palette import save_palette_png


class PredictionWriter(Callback):
    """Writes each prediction of ``gatedcrf predict`` as an indexed PNG, named after its image.

    The VOC server takes these files. If the datamodule has ``label_ids``, as that of Cityscapes has, PNGs of label ids
    for its server are also written to ``labelIds``. Each process writes its share of the images.

    Args:
        of_evaluations: Also write the predictions of ``gatedcrf validate`` and ``test``, to ``predictions``.
    """

    def __init__(self, of_evaluations: bool = False) -> None:
        self.of_evaluations = of_evaluations

    def on_predict_batch_end(self, trainer: Trainer, _: LightningModule, outputs: Any, batch: Any, *__: Any) -> None:
        """Write the predictions of a batch."""
        _write(Path(trainer.default_root_dir), trainer, outputs, batch)

    def on_validation_batch_end(self, trainer: Trainer, _: LightningModule, outputs: Any, batch: Any, *__: Any) -> None:
        """Write the predictions of a batch of ``gatedcrf validate`` or ``test``, if asked to."""
        if self.of_evaluations and trainer.state.fn != TrainerFn.FITTING:
            _write(Path(trainer.default_root_dir) / "predictions", trainer, outputs, batch)

    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment]


def _write(folder: Path, trainer: Trainer, predictions: Tensor, batch: Sample) -> None:
    label_ids = getattr(getattr(trainer, "datamodule", None), "label_ids", None)
    for name, prediction in zip(batch["name"], predictions.cpu().numpy(), strict=True):
        save_palette_png(prediction, folder / f"{name}.png")
        if label_ids is not None:
            table = np.zeros(256, dtype=np.uint8)  # a pixel without a prediction becomes 0, "unlabeled"
            table[: len(label_ids)] = label_ids
            path = folder / "labelIds" / f"{name}_pred_labelIds.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(table[prediction]).save(path)
