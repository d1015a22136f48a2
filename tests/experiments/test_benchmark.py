import torch

from experiments import benchmark


def test_peak_memory_is_what_was_held_at_once() -> None:
    def step() -> None:
        first = torch.zeros(2**18)  # 1 MiB
        del first
        second, third = torch.zeros(2**18), torch.zeros(2**19)  # 3 MiB together
        del second, third

    assert benchmark.peak_memory(step, torch.device("cpu")) == 3.0


def test_both_engines_are_measured_on_the_same_input() -> None:
    result = benchmark._measure((1, 3, 16, 16), torch.device("cpu"), repeats=1)
    assert result["gradient_difference"] < 1e-5
    assert result["tensor"]["mib"] > 5 * result["shifted"]["mib"]
    lines = benchmark._lines([result])
    assert [line[1] for line in lines] == ["engine", "tensor", "shifted"]
    assert lines[1][4:] == ["1.0", "1.0"]
