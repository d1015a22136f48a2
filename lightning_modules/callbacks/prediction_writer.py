"""Predictions as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from datamodules.sample import Sample
from lightning_modules.palette import save_palette_png


class PredictionWriter(Callback):
    """``gatedcrf predict``: writes each prediction as an indexed PNG, named after its image.

    That is what the server of VOC takes. Where the dataset has other ids than class indices, as Cityscapes has, they
    are written too, to ``labelIds``, for its server. Each process writes its own share of the images.

    Args:
        of_evaluations: Write those of ``gatedcrf validate`` and ``test`` too, to ``predictions``.
    """

    def __init__(self, of_evaluations: bool = False) -> None:
        self.of_evaluations = of_evaluations

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write the predictions of a batch."""
        _write(Path(trainer.default_root_dir), trainer, outputs, batch)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write the predictions of a batch, where that is asked for and nothing is trained."""
        if self.of_evaluations and trainer.state.fn != TrainerFn.FITTING:
            _write(Path(trainer.default_root_dir) / "predictions", trainer, outputs, batch)

    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment]


def _write(folder: Path, trainer: Trainer, predictions: Tensor, batch: Sample) -> None:
    label_ids = getattr(getattr(trainer, "datamodule", None), "label_ids", None)
    for name, prediction in zip(batch["name"], predictions.cpu().numpy(), strict=True):
        save_palette_png(prediction, folder / f"{name}.png")
        if label_ids is not None:
            path = folder / "labelIds" / f"{name}_pred_labelIds.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_to_label_ids(prediction, label_ids)).save(path)


def _to_label_ids(prediction: NDArray[np.uint8], label_ids: Sequence[int]) -> NDArray[np.uint8]:
    """Replace class indices; what was not predicted becomes 0, which is "unlabeled"."""
    table = np.zeros(256, dtype=np.uint8)
    table[: len(label_ids)] = label_ids
    return np.asarray(table[prediction])
