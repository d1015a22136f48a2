"""Arguments of ``gatedcrf predict CHECKPOINT IMAGES`` and ``export``."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Args:
        args: Command line, starting with "predict" or "export".

    Returns:
        The options. ``function`` is "module:function" of the command.

    Raises:
        SystemExit: Status 2 for an unknown or invalid argument, status 0 for ``--help``.
    """
    return (_predict() if args[0] == "predict" else _export()).parse_args(args[1:])


def _predict() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gatedcrf predict",
        description="Write the predicted classes of photographs as indexed PNGs of their size.",
        epilog="gatedcrf predict -c RUN/config.yaml --ckpt_path=best predicts the images of the dataset of a run, on "
        "several devices if asked to, in the format of its server.",
        allow_abbrev=False,
    )
    parser.set_defaults(function="experiments.deploy.predict:run")
    _add_checkpoint(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGES", help="photographs, or folders of them")
    parser.add_argument("--out", type=Path, default="predictions", help="folder to write; default: %(default)s")
    parser.add_argument("--overlay", action="store_true", help="also write the images under the colors of the classes")
    text = "also write the probabilities of the classes, float16 (C, H, W), as NumPy files"
    parser.add_argument("--probabilities", action="store_true", help=text)
    return parser


def _export() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gatedcrf export",
        description="Write a model for programs without this project. Its input is RGB, uint8 (N, 3, H, W), of any "
        "size; its output are class probabilities, float32 (N, C, H, W).",
        allow_abbrev=False,
    )
    parser.set_defaults(function="experiments.deploy.export:run")
    _add_checkpoint(parser)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a photograph, on which both models are compared")
    parser.add_argument("--format", choices=["onnx", "torch.export"], default="onnx", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="file to write; default: model.onnx or model.pt2")
    return parser


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="for example RUN/checkpoints/best.ckpt")
