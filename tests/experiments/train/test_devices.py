"""A run does not train on the CPU by mistake. The files of the driver are copies of its real ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules.io.errors import InputError
from experiments.train.devices import check_devices

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU of this machine")

VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)
INFORMATION = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 42\nVideo BIOS: \t 92.00.45.00.03\n"
ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")


@pytest.fixture(autouse=True)
def no_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proc(tmp_path: Path) -> Callable[[int], Path]:
    """Write the files of a driver with some GPUs."""

    def write(gpus: int) -> Path:
        folder = tmp_path / "driver" / "nvidia"
        for number in range(gpus):
            (folder / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)
            (folder / "gpus" / f"0000:0{number}:00.0" / "information").write_text(INFORMATION)
        if gpus:
            (folder / "version").write_text(VERSION)
        return tmp_path

    return write


def test_unusable_gpus_are_named_with_driver_torch_and_remedies(proc: Callable[[int], Path]) -> None:
    with pytest.raises(InputError) as refused:
        check_devices("auto", proc(2))
    message = str(refused.value)
    assert "2 x NVIDIA A100-SXM4-40GB; driver: 535.104.05" in message
    assert f"torch {torch.__version__} with CUDA: {torch.version.cuda or 'none'}" in message
    base = torch.__version__.partition("+")[0]
    assert f"pip install torch=={base}+cu126 torchvision==0." in message  # without +cu126, pip would keep the old wheel
    assert "--trainer.accelerator=cpu" in message
    assert len(message.splitlines()) <= 5


@pytest.mark.parametrize(
    ("variable", "value", "refused"),
    [
        ("SLURM_JOB_GPUS", "0", True),  # the index of the only GPU
        ("SLURM_STEP_GPUS", "0,1", True),
        ("SLURM_GPUS_ON_NODE", "2", True),
        ("SLURM_GPUS_ON_NODE", "0", False),
        ("CUDA_VISIBLE_DEVICES", "0", True),
        ("CUDA_VISIBLE_DEVICES", "", False),
        ("CUDA_VISIBLE_DEVICES", "-1", False),
        ("CUDA_VISIBLE_DEVICES", "NoDevFiles", False),
    ],
)
def test_a_run_with_allocated_gpus_is_refused_without_files_of_a_driver(
    variable: str, value: str, refused: bool, proc: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    if not refused:
        check_devices("auto", proc(0))
        return
    with pytest.raises(InputError, match="GPUs: none listed; driver: none"):
        check_devices("auto", proc(0))


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_requested_gpu_must_exist(accelerator: str, proc: Callable[[int], Path]) -> None:
    with pytest.raises(InputError, match="torch can use no GPU"):
        check_devices(accelerator, proc(0))


def test_the_cpu_is_used_where_it_is_meant(proc: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = proc(1)
    check_devices("cpu", root)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check_devices("auto", root)
