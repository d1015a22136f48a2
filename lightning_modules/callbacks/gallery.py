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
NOTHING: Picture = np.empty(0, dtype=np.uint8)
PANEL = 640  # pixels; larger panels would fill the disk and are subsampled


class _Gallery(Callback):
    key: str  # of the panels in W&B

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._batches: list[list[int]] = []  # indices of the images
        self._chosen: set[int] = set()
        self._panels: dict[int, tuple[str, Picture]] = {}  # name and panel by index

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose ``count`` evenly spaced images, whatever their order in the batches."""
        loader: Any = trainer.val_dataloaders
        batches = loader.batch_sampler or loader.sampler  # of a loader that leaves batches to its dataset
        self._batches = [list(batch) for batch in batches][: int(trainer.num_val_batches[0])]
        indices = sorted(index for batch in self._batches for index in batch)
        self._chosen = {indices[k * len(indices) // self.count] for k in range(self.count)}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """On process 0, draw the chosen images of a batch."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, WeakSegmentation)
        for place, index in enumerate(self._batches[batch_idx]):
            if index in self._chosen:
                sample = {key: values[place] for key, values in batch.items()}
                panel = self._draw(trainer, pl_module, np.asarray(outputs[place].cpu()), sample)
                if panel.size:
                    self._panels[index] = (sample["name"], panel)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the panels to W&B, in the order of the images."""
        log_pictures(trainer, self.key, dict(self._panels[index] for index in sorted(self._panels)))
        self._panels = {}

    def _draw(self, trainer: Trainer, module: WeakSegmentation, prediction: Picture, sample: Any) -> Picture:
        """Write a picture and return the panel for W&B, or ``NOTHING``."""
        raise NotImplementedError


class PredictionGallery(_Gallery):
    """Writes predictions of evenly spaced validation images as indexed PNGs to ``gallery``.

    W&B gets panels of image, target and prediction.

    Args:
        count: Number of images.
    """

    key = "val/gallery"

    def _draw(self, trainer: Trainer, module: WeakSegmentation, prediction: Picture, sample: Any) -> Picture:
        save_palette_png(prediction, Path(trainer.default_root_dir) / "gallery" / f"{sample['name']}.png")
        parts = [_rgb(sample["image"]), colorize(np.asarray(sample["target"].cpu())), colorize(prediction)]
        step = 1 + max(prediction.shape) // PANEL
        return np.hstack([part[::step, ::step] for part in parts])


class KernelGallery(_Gallery):
    """Draws the kernels K_ab of Eq. 1 on evenly spaced validation images, as PNGs in ``kernels`` and W&B panels.

    Kernels do not depend on the weights, so they are drawn once. A picture shows the image and the windows of its
    anchors side by side. White marks high kernel values, where a label that differs from the anchor's is penalized
    most.

    Args:
        count: Number of images.
    """

    key = "kernels"

    def _draw(self, trainer: Trainer, module: WeakSegmentation, prediction: Picture, sample: Any) -> Picture:
        path = Path(trainer.default_root_dir) / "kernels" / f"{sample['name']}.png"
        if trainer.state.fn != TrainerFn.FITTING or path.is_file():
            return NOTHING
        panel = _draw_kernels(module, sample["image"])
        if panel.size:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(panel).save(path)
        return panel


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


def _draw_kernels(module: WeakSegmentation, image: Tensor) -> Picture:
    """Return an image (3, H, W), cropped to whole windows, next to its kernels; empty if no window fits."""
    draw = getattr(module.regularizer, "draw_kernels", None)
    if draw is None:
        return NOTHING
    standardized = module.standardize(image[None])
    piece = standardized[..., :128, :128]  # enough to find the stride; a whole image may not fit into memory
    grid = module.network(piece).shape[-2:]
    size = [n * m // k for n, m, k in zip(image.shape[-2:], grid, piece.shape[-2:], strict=True)]
    stride = min(n // m for n, m in zip(image.shape[-2:], size, strict=True))
    cells = (255 * draw({"rgb": standardized}, size)[0]).round().to(torch.uint8)
    gray = cells.cpu().numpy().repeat(stride, axis=0).repeat(stride, axis=1)
    return np.hstack([_rgb(image)[: gray.shape[0], : gray.shape[1]], np.repeat(gray[..., None], 3, axis=2)])


def _rgb(image: Tensor) -> Picture:
    return np.asarray(image.permute(1, 2, 0).cpu())
