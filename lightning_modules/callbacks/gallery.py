"""Pictures of fixed validation images: what is predicted, and the kernels of the CRF term."""

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
PANEL = 640  # pixels of a side from which on W&B gets a smaller picture


class PredictionGallery(Callback):
    """Shows evenly spread validation images over time: indexed PNGs in ``gallery`` and, with W&B, panels.

    Args:
        count: Number of images.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._panels: dict[str, Picture] = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keep image, truth and prediction side by side."""
        if not is_shown(trainer, batch_idx, self.count):
            return
        name, prediction = batch["name"][0], _array(outputs)
        save_palette_png(prediction, Path(trainer.default_root_dir) / "gallery" / f"{name}.png")
        if any(wandb_loggers(trainer)):
            parts = [_rgb(batch["image"]), colorize(_array(batch["target"])), colorize(prediction)]
            step = 1 + max(prediction.shape) // PANEL  # or the pictures of large images would fill the disk
            self._panels[name] = np.hstack([part[::step, ::step] for part in parts])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pass the panels on."""
        log_pictures(trainer, "val/gallery", self._panels)
        self._panels = {}


class KernelGallery(Callback):
    """Shows the kernels K_ab of Eq. 1 on evenly spread validation images, as the regularizer of the run sees them.

    They do not depend on the weights and are drawn once, beside the image: PNGs in ``kernels`` and, with W&B, panels.
    White is high: a neighbor that pays for a label other than that of the anchor in the center of the window.

    Args:
        count: Number of images.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._panels: dict[str, Picture] = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Draw the kernels of an image that have not been drawn yet."""
        path = Path(trainer.default_root_dir) / "kernels" / f"{batch['name'][0]}.png"
        drawn = trainer.state.fn != TrainerFn.FITTING or path.is_file()
        if drawn or not is_shown(trainer, batch_idx, self.count):
            return
        assert isinstance(pl_module, WeakSegmentation)
        panel = _draw_kernels(pl_module, batch["image"])
        if panel.size:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(panel).save(path)
            self._panels[batch["name"][0]] = panel

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pass the panels on."""
        log_pictures(trainer, "kernels", self._panels)
        self._panels = {}


def is_shown(trainer: Trainer, batch_idx: int, count: int) -> bool:
    """Return whether a validation batch is among ``count`` evenly spread ones of the process that writes."""
    batches = int(trainer.num_val_batches[0])
    shown = {k * batches // count for k in range(count)}
    return batch_idx in shown and trainer.is_global_zero and not trainer.sanity_checking


def wandb_loggers(trainer: Trainer) -> Iterator[WandbLogger]:
    """Yield the W&B loggers of a run."""
    return (logger for logger in trainer.loggers if isinstance(logger, WandbLogger))


def log_pictures(trainer: Trainer, key: str, pictures: dict[str, Any]) -> None:
    """Pass pictures by caption on to W&B, at the step at which Lightning logs this validation."""
    for logger in wandb_loggers(trainer):
        if pictures:
            logger.log_image(key, list(pictures.values()), logged_step(trainer), caption=list(pictures))


def logged_step(trainer: Trainer) -> int:
    """Return the number that Lightning logs for the last step; it counts from 0."""
    return max(trainer.global_step - 1, 0)


def _rgb(image: Tensor) -> Picture:
    return np.asarray(image[0].permute(1, 2, 0).cpu())


def _draw_kernels(module: WeakSegmentation, image: Tensor) -> Picture:
    """Return what of an image the windows cover, and a grey value per cell beside it; both may be nothing."""
    draw = getattr(module.regularizer, "draw_kernels", None)
    if draw is None:
        return np.empty(0, dtype=np.uint8)
    standardized = module.standardize(image)
    piece = standardized[..., :128, :128]  # tells the stride; all of a large image may not fit
    grid = module.network(piece).shape[-2:]
    size = [n * m // k for n, m, k in zip(image.shape[-2:], grid, piece.shape[-2:], strict=True)]
    stride = min(n // m for n, m in zip(image.shape[-2:], size, strict=True))
    cells = (255 * draw({"rgb": standardized}, size)[0]).round().to(torch.uint8)
    grey = np.asarray(cells.repeat_interleave(stride, 0).repeat_interleave(stride, 1).cpu())
    return np.hstack([_rgb(image)[: grey.shape[0], : grey.shape[1]], np.repeat(grey[..., None], 3, axis=2)])


def _array(labels: Tensor) -> Picture:
    return np.asarray(labels[0].cpu())
