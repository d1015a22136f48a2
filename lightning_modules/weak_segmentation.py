"""Training with L = L_CE + lambda L_GCRF, Sec. 3 and 4.1."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from datamodules.sample import IGNORE_INDEX, Sample
from lightning_modules.evaluation import Best, Evaluation
from lightning_modules.inference import WHOLE_IMAGE, Inference, resize

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class WeakSegmentation(LightningModule):
    """A network, a loss on the labeled pixels, and a regularizer on all of them.

    Args:
        network: Maps a standardized image (N, 3, H, W) to logits (N, C, h, w) of any smaller size.
        supervised_loss: Called with logits at full size and the target; see ``PartialCrossEntropyLoss``. With a true
            ``needs_histogram`` its ``set_histogram`` gets the labels per class first.
        class_names: C names. Set from the dataset by the command line.
        regularizer: Called with probabilities at the size of the logits, {"rgb": standardized image}, and the two
            masks; see ``GatedCRFLoss``. ``None`` trains with the supervised loss alone.
        regularizer_weight: lambda.
        regularizer_start_step: First optimizer step that adds the regularizer.
        gate_source: Pass m^src: only pixels inside the image send energy (GCRF_s).
        gate_destination: Pass m^dst: only pixels without a label receive energy (GCRF_s,d).
        learning_rate: Of the first step; it falls to 0 over ``trainer.max_steps``.
        momentum: Of SGD.
        weight_decay: Of SGD, on all parameters.
        power: Of the polynomial schedule.
        inference: How images are evaluated and predicted.
        mean: Mean of each RGB channel on the scale 0 to 255, for standardization. The default is ImageNet's, as in
            the authors' code, so that a pretrained backbone sees what it was trained on.
        std: Standard deviation of each channel, likewise.
        compile: Compile the network for speed; the first steps wait for it.
    """

    def __init__(
        self,
        network: nn.Module,
        supervised_loss: nn.Module,
        class_names: Sequence[str],
        regularizer: nn.Module | None = None,
        regularizer_weight: float = 0.1,
        regularizer_start_step: int = 0,
        gate_source: bool = True,
        gate_destination: bool = False,
        learning_rate: float = 7e-3,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        power: float = 0.9,
        inference: Inference = WHOLE_IMAGE,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.supervised_loss = supervised_loss
        self.regularizer = regularizer
        self.regularizer_weight = regularizer_weight
        self.regularizer_start_step = regularizer_start_step
        self.gate_source = gate_source
        self.gate_destination = gate_destination
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.power = power
        self.inference = inference
        self.compiles_network = compile
        self.class_names = list(class_names)
        self.evaluation: Evaluation | None = None  # the last one
        self.best = Best()  # of those during training
        self.loaded_step = 0  # that of a checkpoint whose weights these are
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.confusion = MulticlassConfusionMatrix(
            len(self.class_names), ignore_index=IGNORE_INDEX, validate_args=False
        )
        self.images = SumMetric()

    def standardize(self, image: Tensor) -> Tensor:
        """Map uint8 (N, 3, H, W) to float of zero mean and unit deviation."""
        return (image - self.mean) / self.std  # type: ignore[operator]

    def forward(self, image: Tensor) -> Tensor:
        """Return class probabilities, (N, C, H, W), of RGB images, uint8 (N, 3, H, W); see :class:`Inference`."""
        return self.inference(self._probs, image)

    def _probs(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(self.standardize(image))
        return _resize(logits, image).softmax(dim=1)

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return L_CE + lambda L_GCRF."""
        image, target = self.standardize(batch["image"]), batch["target"]
        logits = self.network(image)
        supervised = self.supervised_loss(_resize(logits, image), target)
        self.log("train/cross_entropy", supervised, sync_dist=True)
        loss: Tensor = supervised
        if self.regularizer is not None and self.global_step >= self.regularizer_start_step:
            source = batch["valid"] if self.gate_source else None
            destination = target == IGNORE_INDEX if self.gate_destination else None
            energy = self.regularizer(logits.float().softmax(dim=1), {"rgb": image}, source, destination)
            self.log("train/gated_crf", energy, sync_dist=True)
            loss = supervised + self.regularizer_weight * energy
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Count the confusions and return the predicted classes, uint8 (N, H, W)."""
        prediction = self.predict_step(batch, batch_idx)
        unseen = prediction == IGNORE_INDEX
        self.confusion.update(prediction, batch["target"].masked_fill(unseen, IGNORE_INDEX))
        self.images.update(len(prediction))
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log mIoU over the split, in percent, and per class; a class that is nowhere counts nowhere."""
        counts, images = self.confusion.compute().cpu(), int(self.images.compute())
        self.confusion.reset()
        self.images.reset()
        if self.trainer.sanity_checking:
            return
        step = max(self.global_step, self.loaded_step)  # the former is 0 where nothing is trained
        self.evaluation = found = Evaluation(self.inference.name, self.class_names, counts, images, step)
        self.best = self.best.or_better(found)
        self.log("val/miou", found.miou, prog_bar=True)
        present = {f"val/iou/{n}": v for n, v in zip(self.class_names, found.iou, strict=True) if not v.isnan()}
        self.log_dict(present)

    def test_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """See :meth:`validation_step`."""
        return self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """See :meth:`on_validation_epoch_end`."""
        self.on_validation_epoch_end()

    def predict_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return the predicted classes, uint8 (N, H, W); IGNORE_INDEX where the inference does not look."""
        confidence, classes = self(batch["image"]).max(dim=1)
        return classes.to(torch.uint8).masked_fill(confidence == 0, IGNORE_INDEX)  # type: ignore[no-any-return]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the best evaluation, so that a resumed run reports it."""
        checkpoint["best"] = tuple(self.best)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it, and remember when the weights were saved."""
        self.best = Best(*checkpoint.get("best", ()))
        self.loaded_step = int(checkpoint["global_step"])

    def decay(self, step: int) -> float:
        """Return (1 - step / max_steps)^power, 0 from ``max_steps`` on."""
        progress = min(step, self.trainer.max_steps) / self.trainer.max_steps
        return float((1 - progress) ** self.power)

    def configure_model(self) -> None:
        """Before training, let BatchNorm see the samples of all GPUs together, and compile the network if asked to."""
        if not self.trainer.training:
            return
        on_gpus = self.trainer.strategy.root_device.type == "cuda"  # the module itself is still on the CPU
        if self.trainer.world_size > 1 and on_gpus:  # torch has no such layer for CPUs
            # torch's own conversion would lose the activations that are part of timm's layers; so would doing it twice
            self.network = convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        if self.compiles_network:
            self.network.compile()  # in place, so that checkpoints have the same names

    def on_fit_start(self) -> None:
        """Count the labels of the dataset for a loss that weighs its classes by them."""
        if getattr(self.supervised_loss, "needs_histogram", False):
            self.supervised_loss.set_histogram(self.trainer.datamodule.label_histogram())  # type: ignore[attr-defined, operator]

    def on_train_start(self) -> None:
        """Let this run's optimizer settings win over those that a checkpoint has restored."""
        if self.regularizer is not None and self.regularizer_start_step >= self.trainer.max_steps:
            rank_zero_warn(
                f"The regularizer starts at step {self.regularizer_start_step}, but this run ends at "
                f"{self.trainer.max_steps}: lower --model.regularizer_start_step."
            )
        schedule = self.lr_schedulers()
        if not isinstance(schedule, LambdaLR):
            return
        schedule.base_lrs = [self.learning_rate] * len(schedule.base_lrs)
        for group in schedule.optimizer.param_groups:
            group |= {"momentum": self.momentum, "weight_decay": self.weight_decay}
            group |= {"initial_lr": self.learning_rate, "lr": self.learning_rate * self.decay(schedule.last_epoch)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD and lr (1 - step / max_steps)^power, stepped every batch."""
        optimizer = SGD(self.parameters(), self.learning_rate, self.momentum, weight_decay=self.weight_decay)
        schedule = LambdaLR(optimizer, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _resize(logits: Tensor, like: Tensor) -> Tensor:
    return resize(logits.float(), like.shape[-2:])
