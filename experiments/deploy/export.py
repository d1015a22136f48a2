"""``gatedcrf export``: a model as an ONNX or torch.export file."""

import argparse
import json
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram

from datamodules.io.errors import InputError
from datamodules.io.images import read_image
from datamodules.reduction import reduce_image, reduced_shape
from lightning_modules.exported import ExportedModel
from lightning_modules.predictor import load

TOLERANCE = 1e-4  # largest difference of a probability
SUFFIXES = {"onnx": ".onnx", "torch.export": ".pt2"}


def run(options: argparse.Namespace) -> None:
    """Write the file, and compare its probabilities of an image with those of the model.

    Raises:
        InputError: The checkpoint or the image cannot be read, a package is missing, the network cannot be exported, or
            the probabilities differ.
        OSError: The file cannot be written.
    """
    suffix = SUFFIXES[options.format]
    out: Path = options.out or Path(f"model{suffix}")
    if out.suffix != suffix:
        raise InputError(f"--out={out} does not end in {suffix}, the suffix of --format={options.format}.")
    predictor = load(options.checkpoint, "cpu")
    image = read_image(options.image)
    image = reduce_image(image, reduced_shape((image.shape[0], image.shape[1]), predictor.max_side))
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    metadata = {"classes": json.dumps(predictor.class_names), "max_side": json.dumps(predictor.max_side)}
    program = _trace(ExportedModel(predictor.model), batch.shape)
    expected = predictor.predict(image, probabilities=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    write = _write_onnx if options.format == "onnx" else _write_program
    with TemporaryDirectory(dir=out.parent) as folder:
        part = Path(folder) / out.name
        error = float(abs(write(program, metadata, part, batch) - expected).max())
        if not error <= TOLERANCE:
            raise InputError(
                f"The exported model differs from the model by {error:.1e} on {options.image}, more than {TOLERANCE}. "
                "Nothing is written."
            )
        part.replace(out)
    print(f"wrote {out}, which differs from the model by at most {error:.1e} on {options.image}")


def _trace(model: ExportedModel, shape: torch.Size) -> ExportedProgram:
    """Return the program of a model for any batch and size."""
    example = torch.zeros((2, *shape[1:]), dtype=torch.uint8)  # torch.export would fix a batch of one
    sizes = {"image": {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    try:
        with torch.no_grad():
            return torch.export.export(model, (example,), dynamic_shapes=sizes)
    except Exception as error:  # of many types
        raise InputError(f"torch.export cannot trace this network for images of any size: {error}") from error


def _write_program(
    program: ExportedProgram, metadata: dict[str, str], out: Path, batch: torch.Tensor
) -> NDArray[np.float32]:
    """Write a torch.export file and return its probabilities of a batch."""
    try:
        torch.export.save(program, out, extra_files=metadata)
    except Exception as error:  # of many types
        raise InputError(f"torch.export cannot save this network: {error}") from error
    return np.asarray(torch.export.load(out).module()(batch).detach())


def _write_onnx(
    program: ExportedProgram, metadata: dict[str, str], out: Path, batch: torch.Tensor
) -> NDArray[np.float32]:
    """Write an ONNX file and return its probabilities of a batch."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, by torch
    except ImportError as error:
        raise InputError(
            f"ONNX files need more packages ({error}); install them: pip install gated-crf[export]"
        ) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            program, dynamo=True, input_names=["image"], output_names=["probabilities"], verbose=False
        )
    assert written is not None  # with dynamo
    written.model.metadata_props.update(metadata)
    written.save(out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"image": batch.numpy()})[0]
    return result
