"""Refuse to train on the CPU by mistake."""

import os
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import torch

from datamodules.io.errors import InputError

HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that hide all GPUs. SLURM sets the last one in a job without GPUs."""


def check_devices(accelerator: object, proc: Path = Path("/proc")) -> None:
    """Check that torch can use the GPUs that a run has.

    Without this check, Lightning's "auto" may train on the CPU and not say so.

    Args:
        accelerator: ``trainer.accelerator``. Only "auto", "gpu" and "cuda" are checked.
        proc: Root of the file system in which the driver lists its GPUs.

    Raises:
        InputError: torch cannot use a GPU, although GPUs are requested, allocated to the run or visible to the driver.
            The message names GPUs, driver, torch and the wheels that suit an older driver.
    """
    if accelerator not in ("auto", "gpu", "cuda") or torch.backends.mps.is_available():
        return
    models = _models(proc)
    visible = models and "CUDA_VISIBLE_DEVICES" not in os.environ
    if not (accelerator != "auto" or _allocated() or visible):
        return
    try:
        # is_available() may only ask the driver, which counts GPUs that are too new for it
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch is built without CUDA
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"trainer.accelerator is {accelerator}, but torch can use no GPU: {reason}\n{_remedies(models, proc)}"
        ) from error


def check_precision(accelerator: object, precision: object) -> None:
    """Raise :class:`InputError` if a run needs bfloat16 on a GPU that only emulates it."""
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu and str(precision).startswith("bf16") and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(f"{torch.cuda.get_device_name()} has no bfloat16; pass --trainer.precision=32-true.")


def _allocated() -> bool:
    """Return whether SLURM or the user has given GPUs to this process."""
    by_slurm = (os.environ.get(name) for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS"))
    number = os.environ.get("SLURM_GPUS_ON_NODE", "0")
    return any(by_slurm) or number not in ("", "0") or os.environ.get("CUDA_VISIBLE_DEVICES", "") not in HIDDEN


def _models(proc: Path) -> Counter[str]:
    """Count the GPUs of each model that the driver lists."""
    files = sorted(proc.glob("driver/nvidia/gpus/*/information"))
    found = (re.search(r"^Model:\s*(.+?)\s*$", file.read_text(), re.M) for file in files)
    return Counter(match[1] if match else "unknown model" for match in found)


def _remedies(models: Counter[str], proc: Path) -> str:
    gpus = ", ".join(f"{number} x {model}" for model, number in models.items())
    file = proc / "driver/nvidia/version"
    driver = re.search(r"\d+\.\d+(\.\d+)?", file.read_text()) if file.is_file() else None
    wheels = " ".join(f"{name}=={version(name).partition('+')[0]}+cu126" for name in ("torch", "torchvision"))
    return (
        f"  GPUs: {gpus or 'none listed'}; driver: {driver[0] if driver else 'none'}; torch {torch.__version__} with "
        f"CUDA: {torch.version.cuda or 'none, wheels for CPUs'}\n"
        "  Wheels with CUDA 13 need driver 580 or newer, those with CUDA 12 need 525 or newer. Install CUDA 12 with\n"
        f"  pip install {wheels} --index-url https://download.pytorch.org/whl/cu126\n"
        "  or train on the CPU on purpose with --trainer.accelerator=cpu."
    )
