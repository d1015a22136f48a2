"""Speed by a clock that advances only in the dataset and the network."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from datamodules.sample import Sample
from lightning_modules.callbacks import DataWait, LabelCount, Throughput
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
SIZES = 8 * [(12, 16)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("lightning_modules.callbacks.throughput.perf_counter", clock)
    return clock


class Slow(Dataset[Sample]):
    """A dataset whose images take a second each."""

    def __init__(self, samples: Any, clock: Clock) -> None:
        self.samples, self.clock = samples, clock

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        self.clock.now += 1
        return self.samples[index]


class SlowNetwork(nn.Module):
    """A network whose forward pass takes six seconds."""

    def __init__(self, network: nn.Module, clock: Clock) -> None:
        super().__init__()
        self.network, self.clock = network, clock

    def forward(self, image: Tensor) -> Tensor:
        self.clock.now += 6
        return self.network(image)


class Log(pl.Callback):
    """Keeps the metrics after each step."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.metrics.append({name: value.item() for name, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize("profiler", [DataWait(), None])
def test_images_per_second_and_the_share_of_waiting(
    profiler: DataWait | None, trainer: Trainer, module: Module, loader: Loader, clock: Clock
) -> None:
    """A step takes 2 seconds of waiting for two images and 6 of computing; validations are left out."""
    model, data, log = module(), loader(*SIZES), Log()
    model.network = SlowNetwork(model.network, clock)
    slow = [DataLoader(Slow(data.dataset, clock), batch_size=size) for size in (2, 1)]
    options = {"log_every_n_steps": 2, "val_check_interval": 2, "check_val_every_n_epoch": None}
    trainer(max_steps=4, profiler=profiler, callbacks=[Throughput(), log], **options).fit(model, *slow)
    assert [("throughput/images_per_s" in metrics) for metrics in log.metrics] == [False, True, True, True]
    assert log.metrics[1]["throughput/images_per_s"] == log.metrics[3]["throughput/images_per_s"] == 2 / 8
    assert log.metrics[3].get("throughput/data_wait") == (None if profiler is None else 2 / 8)
    assert "throughput/gpu_memory_gib" not in log.metrics[3]


def test_labels_of_the_logged_batch_are_counted(trainer: Trainer, module: Module, loader: Loader) -> None:
    data, log = loader(*SIZES, batch_size=2), Log()
    trainer(max_steps=4, log_every_n_steps=2, callbacks=[LabelCount(), log]).fit(module(), data)
    counts = [int((batch["target"] != 255).sum()) for batch in data]
    assert "train/labeled_pixels" not in log.metrics[0]
    for step in (1, 3):
        assert log.metrics[step]["train/labeled_pixels"] == counts[step]
        assert log.metrics[step]["train/labeled_share"] == pytest.approx(counts[step] / (2 * 12 * 16))
