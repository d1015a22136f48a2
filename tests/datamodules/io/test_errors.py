"""Errors that are counted by kind: across processes, and as one message."""

import pickle
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from datamodules.io.errors import InputError, distinct, refuse


class Broken(Dataset[int]):
    """Raises in the loader process."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise InputError("a.png is missing; put it there.", "missing file", Path("a.png"))


def test_error_of_another_process_keeps_its_type_and_message() -> None:
    """torch makes it anew from its message alone, pools of processes pickle it."""
    with pytest.raises(InputError, match=r"a\.png is missing; put it there"):
        next(iter(DataLoader(Broken(), num_workers=1)))
    error = pickle.loads(pickle.dumps(InputError("a.png is missing.", "missing file", Path("a.png"))))
    assert (str(error), error.kind, error.place) == ("a.png is missing.", "missing file", "a.png")


def test_one_problem_is_raised_as_it_is_and_of_many_the_first_are_shown() -> None:
    refuse([])
    problems = [InputError(f"{k}.png is missing.", "missing file", f"{k}.png") for k in range(7)]
    with pytest.raises(InputError, match=r"^3\.png is missing\.$"):
        refuse(problems[3:4])
    with pytest.raises(ValueError, match=r"(?s)^7 problems:\n0\.png.*\n4\.png is missing\.\n\.\.\. and 2 more"):
        refuse(problems)
    with pytest.raises(ValueError, match=r"(?s)^5 problems:\n0\.png.*\n4\.png is missing\.$"):
        refuse(problems[:5])


def test_what_is_found_twice_counts_once() -> None:
    found = distinct([InputError("a", "x"), InputError("b", "x"), InputError("a", "x")])
    assert [str(problem) for problem in found] == ["a", "b"]
