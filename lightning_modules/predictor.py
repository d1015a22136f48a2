"""Trained models in your own script."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor, nn

from datamodules.io.errors import InputError
from datamodules.io.images import list_images, read_image
from datamodules.reduction import reduce_image, reduced_shape
from datamodules.sample import IGNORE_INDEX
from lightning_modules.inference import Inference, most_probable, resize
from lightning_modules.palette import blend
from lightning_modules.self_contained import build_network
from lightning_modules.tiles import Part, tiles
from lightning_modules.weak_segmentation import WeakSegmentation
from lightning_modules.weight_files import why_unreadable

Array = NDArray[Any]


def load(checkpoint: Path | str, device: torch.device | str | None = None) -> "Predictor":
    """Load a trained model.

    Args:
        checkpoint: A file that ``gatedcrf fit`` has written, such as ``RUN/checkpoints/best.ckpt``. Nothing else of the
            run is needed.
        device: Where to compute; ``None`` is the GPU if there is one.

    Raises:
        InputError: The file is missing or damaged, is not such a checkpoint, or its network cannot be built.
    """
    path = Path(checkpoint)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"There is no checkpoint {path}; a run writes RUN/checkpoints/best.ckpt.") from error
    except Exception as error:  # of many types
        raise InputError(f"{path} {why_unreadable(path)}. Pass a checkpoint of a run.") from error
    if not isinstance(content, dict) or "hyper_parameters" not in content or "config" not in content:
        raise InputError(f"{path} has no configuration; pass a checkpoint that this version of gatedcrf fit has saved.")
    settings, data = content["hyper_parameters"], content["config"]["data"]["init_args"]
    model = WeakSegmentation(
        build_network(settings["network"]),
        nn.Identity(),  # no loss
        settings["class_names"],
        inference=Inference(**settings["inference"]),
        mean=settings["mean"],
        std=settings["std"],
    )
    prefix = "network."
    weights = content["state_dict"].items()
    model.network.load_state_dict({name[len(prefix) :]: each for name, each in weights if name.startswith(prefix)})
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Predictor(model.to(chosen), data.get("max_side"))


class Predictor:
    """Predicts the classes of images of any size.

    Images are reduced as in training. Large images are predicted in tiles of about 1024 pixels.

    Args:
        model: The model, on its device.
        max_side: Longest side to which images were reduced in training, pixels.
    """

    def __init__(self, model: WeakSegmentation, max_side: int | None = None) -> None:
        self.model = model.eval()
        self.max_side = max_side

    @property
    def class_names(self) -> list[str]:
        """C names; the class with index k is the k-th."""
        return self.model.class_names

    @overload
    def predict(self, source: Array | PILImage.Image, probabilities: bool = False) -> Array: ...
    @overload
    def predict(self, source: Path | str, probabilities: bool = False) -> Any: ...
    def predict(self, source: Array | PILImage.Image | Path | str, probabilities: bool = False) -> Any:
        """Return the classes of each pixel at the size of the image.

        Args:
            source: An image: RGB, uint8 (H, W, 3), a Pillow image or a file. A batch: uint8 (N, H, W, 3). Or a folder.
            probabilities: Return float32 (C, H, W) or (N, C, H, W).

        Returns:
            Class indices, uint8 (H, W) or (N, H, W). For a folder, an iterator over its files, sorted by name, and
            their classes.

        Raises:
            InputError: The source is not one of these, or a file cannot be read.
        """
        if isinstance(source, (str, Path)):
            path = Path(source)
            if path.is_dir():
                return self._predict_folder(path, probabilities)
            return self.predict(read_image(path), probabilities)
        image = np.asarray(source.convert("RGB") if isinstance(source, PILImage.Image) else source)
        if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3:
            expected = "give RGB, uint8 (H, W, 3) or (N, H, W, 3), with values from 0 to 255"
            raise InputError(f"The image is {image.dtype} {image.shape}; {expected}.")
        result = self._predict_batch(image.reshape(-1, *image.shape[-3:]), probabilities)
        return result if image.ndim == 4 else result[0]

    def overlay(self, image: Array, classes: Array) -> Array:
        """Return an image, RGB uint8 (H, W, 3), under the colors of its classes, (H, W)."""
        return blend(image, classes)

    def _predict_folder(self, folder: Path, probabilities: bool) -> Iterator[tuple[Path, Array]]:
        for path in list_images(folder):
            yield path, self.predict(read_image(path), probabilities)

    def _predict_batch(self, images: Array, probabilities: bool) -> Array:
        shape = images.shape[1], images.shape[2]
        reduced = reduced_shape(shape, self.max_side)
        small = np.stack([reduce_image(image, reduced) for image in images])
        batch = torch.from_numpy(small).permute(0, 3, 1, 2)
        with torch.inference_mode():
            if probabilities:
                result = resize(self._probs(batch), shape)
            elif reduced == shape:
                result = self._classes(batch)
            else:
                result = _enlarge_classes(self._probs(batch), shape)
            return np.asarray(result)

    def _tiles(self, batch: Tensor) -> Iterator[tuple[Part, Tensor]]:
        """Yield parts of the images and their probabilities (N, C, h, w)."""
        at_once = self.model.inference.crop is not None  # which needs to know the center
        for part, (rows, columns), inner in tiles(batch.shape[-2], batch.shape[-1], at_once):
            probs = self.model(batch[..., rows, columns].to(self.model.device))
            yield part, probs[..., *inner].cpu()

    def _probs(self, batch: Tensor) -> Tensor:
        probs = torch.empty((len(batch), len(self.class_names), *batch.shape[-2:]))
        for (rows, columns), values in self._tiles(batch):
            probs[..., rows, columns] = values
        return probs

    def _classes(self, batch: Tensor) -> Tensor:
        """Return the classes, (N, H, W), without the probabilities of a whole image in memory."""
        classes = torch.empty((len(batch), *batch.shape[-2:]), dtype=torch.uint8)
        for (rows, columns), values in self._tiles(batch):
            classes[..., rows, columns] = most_probable(values)
        return classes


def _enlarge_classes(probs: Tensor, shape: tuple[int, int]) -> Tensor:
    """Enlarge probabilities (N, C, h, w) one class at a time, which saves memory. Return the classes, (N, H, W)."""
    highest = torch.zeros((len(probs), *shape))
    classes = torch.full((len(probs), *shape), IGNORE_INDEX, dtype=torch.uint8)
    for index in range(probs.shape[1]):
        values = resize(probs[:, index : index + 1], shape)[:, 0]
        classes[values > highest] = index
        torch.maximum(values, highest, out=highest)
    return classes
