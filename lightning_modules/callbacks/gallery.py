"""Pictures of fixed validation images: predictions, and the kernels of the CRF term."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from lightning_modules.palette import colorize, save_palette_png
from lightning_modules.weak_segmentation import WeakSegmentation

Picture = NDArray[np.uint8]
PANEL = 640  # side in pixels from which on W&B gets a subsampled picture


class _Gallery(Callback):
    key: str  # of the W&B panels

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._panels: dict[str, Picture] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the panels to W&B."""
        log_pictures(trainer, self.key, self._panels)
        self._panels = {}

    def _is_shown(self, trainer: Trainer, batch_idx: int) -> bool:
        """Return whether a validation batch is among ``count`` evenly spread ones of process 0."""
        batches = int(trainer.num_val_batches[0])
        shown = {k * batches // self.count for k in range(self.count)}
        return batch_idx in shown and trainer.is_global_zero and not trainer.sanity_checking


class PredictionGallery(_Gallery):
    """Writes predictions of evenly spread validation images as indexed PNGs to ``gallery``.

    W&B gets panels of image, target and prediction.

    Args:
        count: Number of images.
    """

    key = "val/gallery"

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Write the prediction and keep the panel."""
        if not self._is_shown(trainer, batch_idx):
            return
        name, prediction = batch["name"][0], _array(outputs)
        save_palette_png(prediction, Path(trainer.default_root_dir) / "gallery" / f"{name}.png")
        if any(wandb_loggers(trainer)):
            parts = [_rgb(batch["image"]), colorize(_array(batch["target"])), colorize(prediction)]
            step = 1 + max(prediction.shape) // PANEL  # large images would fill the disk
            self._panels[name] = np.hstack([part[::step, ::step] for part in parts])


class KernelGallery(_Gallery):
    """Draws the kernels K_ab of Eq. 1 on evenly spread validation images, as PNGs in ``kernels`` and W&B panels.

    Kernels do not depend on the weights, so they are drawn once. A picture shows the image and, beside it, the windows
    of its anchors. White is a high kernel value: a label other than that of the anchor is expensive there.

    Args:
        count: Number of images.
    """

    key = "kernels"

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Draw the kernels on an image if there is no picture of it yet."""
        path = Path(trainer.default_root_dir) / "kernels" / f"{batch['name'][0]}.png"
        drawn = trainer.state.fn != TrainerFn.FITTING or path.is_file()
        if drawn or not self._is_shown(trainer, batch_idx):
            return
        assert isinstance(pl_module, WeakSegmentation)
        panel = _draw_kernels(pl_module, batch["image"])
        if panel.size:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(panel).save(path)
            self._panels[batch["name"][0]] = panel


def wandb_loggers(trainer: Trainer) -> Iterator[WandbLogger]:
    """Yield the W&B loggers of a run."""
    return (logger for logger in trainer.loggers if isinstance(logger, WandbLogger))


def log_pictures(trainer: Trainer, key: str, pictures: dict[str, Any]) -> None:
    """Log pictures by caption to W&B, at the step of this validation."""
    for logger in wandb_loggers(trainer):
        if pictures:
            logger.log_image(key, list(pictures.values()), logged_step(trainer), caption=list(pictures))


def logged_step(trainer: Trainer) -> int:
    """Return the number under which Lightning logs the last step. It counts from 0."""
    return max(trainer.global_step - 1, 0)


def _rgb(image: Tensor) -> Picture:
    return np.asarray(image[0].permute(1, 2, 0).cpu())


def _draw_kernels(module: WeakSegmentation, image: Tensor) -> Picture:
    """Return the part of the image that the windows cover, and its kernels beside it; empty if no window fits."""
    draw = getattr(module.regularizer, "draw_kernels", None)
    if draw is None:
        return np.empty(0, dtype=np.uint8)
    standardized = module.standardize(image)
    piece = standardized[..., :128, :128]  # yields the stride; a large image may not fit into memory
    grid = module.network(piece).shape[-2:]
    size = [n * m // k for n, m, k in zip(image.shape[-2:], grid, piece.shape[-2:], strict=True)]
    stride = min(n // m for n, m in zip(image.shape[-2:], size, strict=True))
    cells = (255 * draw({"rgb": standardized}, size)[0]).round().to(torch.uint8)
    gray = np.asarray(cells.repeat_interleave(stride, 0).repeat_interleave(stride, 1).cpu())
    return np.hstack([_rgb(image)[: gray.shape[0], : gray.shape[1]], np.repeat(gray[..., None], 3, axis=2)])


def _array(labels: Tensor) -> Picture:
    return np.asarray(labels[0].cpu())
