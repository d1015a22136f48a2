"""Training, evaluation and prediction by a real trainer."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import GatedCRFLoss, GaussianKernel

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
SIZE = (12, 16)


class Recorder(nn.Module):
    """A regularizer of value 7 that records its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, dict[str, Tensor], Tensor | None, Tensor | None]] = []

    def forward(self, probs: Tensor, features: dict[str, Tensor], src: Tensor | None, dst: Tensor | None) -> Tensor:
        self.calls.append((probs.detach(), features, src, dst))
        return 0 * probs.sum() + 7


class Log(pl.Callback):
    """Records the learning rate and the metrics of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.metrics.append({name: value.item() for name, value in trainer.callback_metrics.items()})


def test_learning_rate_falls_polynomially(trainer: Trainer, module: Module, loader: Loader) -> None:
    log = Log()
    trainer(max_steps=5, callbacks=[log]).fit(module(learning_rate=0.02, power=0.9), loader(SIZE, SIZE))
    assert log.rates == pytest.approx([0.02 * (1 - step / 5) ** 0.9 for step in range(5)])


def test_one_step_is_sgd_with_decay_on_every_parameter(trainer: Trainer, module: Module, loader: Loader) -> None:
    trained, start, data = module(learning_rate=0.02, weight_decay=0.1), module(), loader(SIZE)
    trainer(max_steps=1).fit(trained, data)
    image, target = next(iter(data))["image"], next(iter(data))["target"]
    standardized = (image - torch.tensor([120.0, 110, 100]).view(3, 1, 1)) / torch.tensor([60.0, 50, 40]).view(3, 1, 1)
    logits = nn.functional.interpolate(start.network(standardized), SIZE, mode="bilinear")
    nn.functional.cross_entropy(logits, target.long(), ignore_index=255).backward()
    for after, before in zip(trained.network.parameters(), start.network.parameters(), strict=True):
        torch.testing.assert_close(after, before - 0.02 * (before.grad + 0.1 * before))


def test_regularizer_joins_after_warm_up_with_its_weight(trainer: Trainer, module: Module, loader: Loader) -> None:
    log, recorder = Log(), Recorder()
    trainer(max_steps=5, log_every_n_steps=1, callbacks=[log]).fit(
        module(regularizer=recorder, regularizer_start_step=3, regularizer_weight=0.5), loader(SIZE, SIZE)
    )
    added = [metrics["train/loss"] - metrics["train/cross_entropy"] for metrics in log.metrics]
    assert added == pytest.approx([0, 0, 0, 3.5, 3.5], abs=1e-5)
    assert len(recorder.calls) == 2


@pytest.mark.parametrize("gate_destination", [False, True])
@pytest.mark.parametrize("gate_source", [False, True])
def test_regularizer_is_given_low_probabilities_the_image_and_the_gates(
    gate_source: bool, gate_destination: bool, trainer: Trainer, module: Module, loader: Loader
) -> None:
    recorder, data = Recorder(), loader(SIZE, SIZE, batch_size=2)
    model = module(regularizer=recorder, gate_source=gate_source, gate_destination=gate_destination)
    batch = next(iter(data))
    standardized = model.standardize(batch["image"])
    expected = model.network(standardized).softmax(1).detach()
    trainer(max_steps=1).fit(model, data)
    ((probs, features, source, destination),) = recorder.calls
    torch.testing.assert_close(probs, expected)
    assert probs.shape == (2, 4, 3, 4)
    assert list(features) == ["rgb"]
    assert torch.equal(features["rgb"], standardized)
    assert torch.equal(source, batch["valid"]) if gate_source else source is None
    assert torch.equal(destination, batch["target"] == 255) if gate_destination else destination is None


def test_standardization_undoes_mean_and_deviation(module: Module) -> None:
    pixel = torch.tensor([180, 60, 100], dtype=torch.uint8).view(1, 3, 1, 1)
    assert module().standardize(pixel).flatten().tolist() == [1, -1, 0]


@pytest.mark.parametrize("evaluation", ["validate", "test"])
def test_miou_is_of_the_whole_split_without_absent_classes(
    evaluation: str, trainer: Trainer, module: Module, loader: Loader
) -> None:
    """Against counts over two images of different size; class "d" is in neither target nor prediction."""
    model, data = module(), loader((12, 16), (33, 21))
    confusion = torch.zeros(16, dtype=torch.long)
    for sample in data:
        labeled = sample["target"] != 255
        prediction = model(sample["image"]).argmax(1)[labeled]
        confusion += torch.bincount(4 * sample["target"][labeled].long() + prediction, minlength=16)
    confusion = confusion.view(4, 4)
    iou = 100 * confusion.diag() / (confusion.sum(0) + confusion.sum(1) - confusion.diag())
    (metrics,) = getattr(trainer(), evaluation)(model, data, verbose=False)
    assert metrics.pop("val/miou") == pytest.approx(iou[:3].mean().item())
    assert metrics == pytest.approx({f"val/iou/{name}": iou[i].item() for i, name in enumerate("abc")})
    torch.testing.assert_close(model.evaluation.iou, iou, equal_nan=True)
    assert model.evaluation.iou.isnan().tolist() == [False, False, False, True]


def test_each_evaluation_starts_from_zero(trainer: Trainer, module: Module, loader: Loader) -> None:
    model = module()
    alone = trainer().validate(model, loader((33, 21)), verbose=False)
    trainer().validate(model, loader((12, 16)), verbose=False)
    assert trainer().validate(model, loader((33, 21)), verbose=False) == alone


def test_batch_without_labels_trains_without_nan(trainer: Trainer, module: Module, loader: Loader) -> None:
    log, data = Log(), loader(SIZE, SIZE, batch_size=2)
    for sample in data.dataset:
        sample["target"].fill_(255)
    regularizer = GatedCRFLoss([GaussianKernel({"rgb": 2.0, "xy": 6.0})], radius=2)
    model = module(regularizer=regularizer, gate_destination=True)
    before = model.network.weight.detach().clone()
    trainer(max_steps=2, log_every_n_steps=1, callbacks=[log]).fit(model, data)
    assert [metrics["train/cross_entropy"] for metrics in log.metrics] == [0, 0]
    assert log.metrics[0]["train/regularizer"] > 0
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not torch.equal(model.network.weight, before)


def test_prediction_is_uint8_at_the_size_of_the_image(trainer: Trainer, module: Module, loader: Loader) -> None:
    model, data = module(), loader((12, 16), (33, 21))
    predictions = trainer().predict(model, data)
    for prediction, sample in zip(predictions, data, strict=True):
        assert prediction.dtype == torch.uint8
        assert torch.equal(prediction, model(sample["image"]).argmax(1).to(torch.uint8))
        assert prediction.shape == sample["target"].shape
