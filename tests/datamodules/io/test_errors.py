"""InputError across processes, and several errors in one message."""

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
    """torch recreates errors of loader processes from their message alone; process pools pickle them."""
    batches = iter(DataLoader(Broken(), num_workers=1))
    with pytest.raises(InputError, match=r"a\.png is missing; put it there"):
        next(batches)
    assert list(batches) == []  # ends the process now; at garbage collection it would take 5 seconds
    error = pickle.loads(pickle.dumps(InputError("a.png is missing.", "missing file", Path("a.png"))))
    assert (str(error), error.kind, error.place) == ("a.png is missing.", "missing file", "a.png")


def test_one_problem_is_raised_as_it_is_and_many_are_cut_to_five() -> None:
    refuse([])
    problems = [InputError(f"{k}.png is missing.", "missing file", f"{k}.png") for k in range(7)]
    with pytest.raises(InputError, match=r"^3\.png is missing\.$"):
        refuse(problems[3:4])
    with pytest.raises(ValueError, match=r"(?s)^7 problems:\n0\.png.*\n4\.png is missing\.\n\.\.\. and 2 more"):
        refuse(problems)
    with pytest.raises(ValueError, match=r"(?s)^5 problems:\n0\.png.*\n4\.png is missing\.$"):
        refuse(problems[:5])


def test_repeated_problems_count_once() -> None:
    found = distinct([InputError("a", "x"), InputError("b", "x"), InputError("a", "x")])
    assert [str(problem) for problem in found] == ["a", "b"]
