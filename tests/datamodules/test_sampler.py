"""Batches are one sequence, independent of resuming and of the number of processes."""

from itertools import chain

import pytest

from datamodules.sampler import Draw, StreamBatchSampler


def stream(**changes: int) -> list[list[Draw]]:
    return list(StreamBatchSampler(**{"length": 7, "batch_size": 4, "steps": 9, "seed": 3, **changes}))


def indices(batches: list[list[Draw]]) -> list[int]:
    return [draw.image for draw in chain.from_iterable(batches)]


def test_every_epoch_is_another_permutation() -> None:
    draws = list(chain.from_iterable(stream(steps=14)))  # 56 draws, eight epochs
    assert [(d.epoch, d.position) for d in draws] == [(k // 7, k % 7) for k in range(56)]
    epochs = [tuple(d.image for d in draws[k : k + 7]) for k in range(0, 56, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) == 8


def test_batches_are_full_and_their_number_is_the_length() -> None:
    assert [len(batch) for batch in stream()] == [4] * 9
    assert len(StreamBatchSampler(length=7, batch_size=4, steps=9)) == 9


def test_batch_larger_than_the_dataset_goes_on_with_the_next_epoch() -> None:
    (batch,) = stream(length=3, batch_size=8, steps=1)
    assert [d.epoch for d in batch] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(d.image for d in batch[:3]) == sorted(d.image for d in batch[3:6]) == [0, 1, 2]


def test_order_is_a_function_of_the_seed() -> None:
    assert stream() == stream()
    assert indices(stream(seed=4)) != indices(stream())


@pytest.mark.parametrize("start", range(10))
def test_resumed_stream_is_the_tail_of_the_uninterrupted_one(start: int) -> None:
    assert stream(start=start) == stream()[start:]


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("start", [0, 5])
def test_shares_of_the_ranks_make_up_the_batch_of_one_process(world: int, start: int) -> None:
    shares = zip(*(stream(start=start, rank=rank, world=world) for rank in range(world)), strict=True)
    assert [list(chain.from_iterable(share)) for share in shares] == stream(start=start)
