"""Label maps of the rounds of a run: where they are, when they are made, and who waits for them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.io.errors import InputError
from datamodules.proposals import LabelGenerator, Proposals
from datamodules.proposals.rounds import ProposalRounds
from datamodules.shapes.datamodule import ShapesDataset
from datamodules.transforms import Image

IMAGES = [np.full((6, 8, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
CALLS: list[str] = []


@dataclass(frozen=True)
class Clicked(LabelGenerator):
    """All pixels get the class of the first click or, later, the predicted one."""

    offset: int = 0

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        CALLS.append("first" if probs is None else "later")
        label = labels[0].label + self.offset if probs is None else probs.argmax(0)
        return np.broadcast_to(np.asarray(label, dtype=np.uint8), image.shape[:2]).copy()


@pytest.fixture
def rounds(tmp_path: Path, arrays: Callable[..., Any]) -> ProposalRounds:
    CALLS.clear()
    labels = [[Annotation(label, np.array([[1.5, 2.5]]))] for label in (1, 2, 0)]
    dataset = arrays(IMAGES, [None] * 3, labels)
    return ProposalRounds(dataset, Clicked(), tmp_path / "cache", tmp_path / "run", 3, steps=10, num_classes=4)


def test_rounds_share_the_steps(rounds: ProposalRounds) -> None:
    assert [rounds.round_of(step) for step in range(10)] == [1, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert replace(rounds, rounds=1).round_of(9) == 1


def test_batches_of_a_step_are_in_the_same_round(rounds: ProposalRounds) -> None:
    """The second round begins with the fourth step, which is the tenth batch."""
    accumulated = replace(rounds, rounds=2, steps=5, batches_per_step=3)
    accumulated.make_first()
    accumulated.abandon()  # readers of the second round would wait
    for batch in range(15):
        with nullcontext() if batch < 9 else pytest.raises(RuntimeError, match="before round 2"):
            accumulated.read(0, batch)


def test_first_round_is_made_once_and_shared_by_runs(rounds: ProposalRounds, tmp_path: Path) -> None:
    rounds.make_first()
    assert [rounds.read(index, batch=0)[0, 0] for index in range(3)] == [1, 2, 0]
    assert CALLS == ["first"] * 3
    replace(rounds, run=tmp_path / "other").make_first()
    assert CALLS == ["first"] * 3


@pytest.mark.parametrize("change", ["generator", "labels", "interrupted"])
def test_changed_or_unfinished_label_maps_are_made_again(rounds: ProposalRounds, change: str) -> None:
    rounds.make_first()
    if change == "generator":
        other = replace(rounds, generator=Clicked(1))
    elif change == "labels":
        rounds.dataset.weak_labels(0)[0] = Annotation(3, np.array([[1.5, 2.5]]))
        other = replace(rounds)
    else:
        (rounds.folder(1) / "complete").unlink()
        (rounds.folder(1) / "image0.png").unlink()
        other = replace(rounds)
    other.make_first()
    assert len(CALLS) == {"generator": 6, "labels": 6, "interrupted": 4}[change]
    assert other.read(0, 0)[0, 0] == {"generator": 2, "labels": 3, "interrupted": 1}[change]


def test_readers_wait_until_the_round_is_complete(rounds: ProposalRounds) -> None:
    """A loader process asks for a batch of the second round while the first one is being trained."""
    read: list[int] = []
    reader = threading.Thread(target=lambda: read.append(int(rounds.read(1, batch=4)[0, 0])))
    reader.start()
    probs = np.zeros((4, 6, 8), dtype=np.float32)
    probs[3] = 1
    rounds.make(2, range(3), lambda image: probs)
    time.sleep(0.3)
    assert not read  # not all processes have made their share
    rounds.mark_complete(2)
    reader.join(timeout=10)
    assert read == [3]
    assert rounds.folder(2) == rounds.run / "proposals" / "2"


def test_readers_of_an_abandoned_run_do_not_wait(rounds: ProposalRounds) -> None:
    rounds.abandon()
    with pytest.raises(RuntimeError, match="ended before round 3"):
        rounds.read(0, batch=9)


def test_reader_whose_training_process_is_dead_does_not_wait(tmp_path: Path) -> None:
    """A loader process is the child of a training process, which is killed before the child begins to read."""
    training = multiprocessing.get_context("fork").Process(target=train_and_die, args=(tmp_path,))
    training.start()
    training.join(timeout=30)
    deadline = time.monotonic() + 30
    while not (tmp_path / "ended").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "ended").read_text() == "The run ended before round 2 began."


def train_and_die(folder: Path) -> None:
    loader = multiprocessing.get_context("fork").Process(target=load, args=(folder, os.getpid()))
    loader.start()
    while not (folder / "started").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def load(folder: Path, training: int) -> None:
    dataset = ShapesDataset(1, 32, "clicks", seed=0)
    rounds = ProposalRounds(dataset, Clicked(), folder / "cache", folder / "run", 2, steps=2, num_classes=6)
    (folder / "started").touch()
    while os.getppid() == training:
        time.sleep(0.01)
    threading.Timer(10, os._exit, [1]).start()  # instead of waiting forever
    try:
        rounds.read(0, batch=1)
    except RuntimeError as error:
        (folder / "ended").write_text(str(error))
    os._exit(0)


def test_label_maps_of_later_rounds_are_removed(rounds: ProposalRounds) -> None:
    """A run that continues in the second round keeps its label maps, but not those of a third one."""
    rounds.make_first()
    for number in (2, 3):
        rounds.make(number, range(3), lambda image: np.zeros((4, 6, 8), dtype=np.float32))
        rounds.mark_complete(number)
    rounds.discard_later(step=4)
    assert [rounds.is_complete(number) for number in (1, 2, 3)] == [True, True, False]
    assert not rounds.folder(3).exists()
    rounds.discard_later(step=0)
    assert [rounds.is_complete(number) for number in (1, 2, 3)] == [True, False, False]


def test_label_maps_are_refused_as_weak_labels(rounds: ProposalRounds) -> None:
    rounds.dataset.all_labels[1] = np.zeros((6, 8), dtype=np.uint8)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="labels of image1 are a label map"):
        rounds.make_first()


@pytest.mark.parametrize(
    ("options", "message"), [({"rounds": 0}, "rounds is 0"), ({"rounds": 2}, "without a generator")]
)
def test_options_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Proposals(**options)  # type: ignore[arg-type]
