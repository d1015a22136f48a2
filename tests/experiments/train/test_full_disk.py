"""A disk that fills up while a checkpoint is written."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import RESULT
from experiments.train.resume import find_flaw


def test_what_was_saved_survives_and_the_run_continues(
    fit: Any, small_disk: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no space for the second checkpoint in addition to the best one."""
    run = small_disk / "run"
    options = ("--trainer.callbacks.every_n_minutes=0", "--ckpt_path=last")
    with pytest.raises(SystemExit) as ended:
        fit(*options, run=run)
    assert f"No checkpoint could be saved in {run / 'checkpoints'} (No space left on device)" in str(ended.value.code)
    assert not (run / RESULT).exists()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert not any(find_flaw(path) for path in (run / "checkpoints").iterdir())
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 1
    subprocess.run(["mount", "-o", "remount,size=30m", small_disk], check=True)
    fit(*options, run=run)
    weights, others = (torch.load(path / "checkpoints/last.ckpt")["state_dict"] for path in (run, finished))
    torch.testing.assert_close(weights, others, rtol=0, atol=0)
