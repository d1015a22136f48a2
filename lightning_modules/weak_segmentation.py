"""Training with L = L_CE + lambda L_GCRF, Sec. 3 and 4.1."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassConfusionMatrix

from datamodules.sample import IGNORE_INDEX, Sample
from lightning_modules.intersection_over_union import iou_per_class


class WeakSegmentation(LightningModule):
    """A network, a loss on the labeled pixels, and a regularizer on all of them.

    Args:
        network: Maps a standardized image (N, 3, H, W) to logits (N, C, h, w) of any smaller size.
        supervised_loss: Called with logits at full size and the target; see ``PartialCrossEntropyLoss``. With a true
            ``needs_histogram`` its ``set_histogram`` gets the labels per class first.
        class_names: C names. Set from the dataset by the command line.
        mean: Per RGB channel on the scale 0 to 255. Set from the dataset by the command line.
        std: Likewise.
        regularizer: Called with probabilities at the size of the logits, {"rgb": standardized image}, and the two
            masks; see ``GatedCRFLoss``. ``None`` trains with the supervised loss alone.
        weight: lambda.
        first_step: Steps of warm-up before the regularizer is added.
        gate_source: Pass m^src: only pixels inside the image send energy (GCRF_s).
        gate_destination: Pass m^dst: only pixels without a label receive energy (GCRF_s,d).
        learning_rate: Of the first step; it falls to 0 over ``trainer.max_steps``.
        momentum: Of SGD.
        weight_decay: Of SGD, on all parameters.
        power: Of the polynomial schedule.
        compile: Compile the network for speed; the first steps wait for it.
    """

    def __init__(
        self,
        network: nn.Module,
        supervised_loss: nn.Module,
        class_names: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        regularizer: nn.Module | None = None,
        weight: float = 0.1,
        first_step: int = 0,
        gate_source: bool = True,
        gate_destination: bool = False,
        learning_rate: float = 7e-3,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        power: float = 0.9,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.supervised_loss = supervised_loss
        self.regularizer = regularizer
        self.weight = weight
        self.first_step = first_step
        self.gate_source = gate_source
        self.gate_destination = gate_destination
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.power = power
        self.compiles_network = compile
        self.class_names = list(class_names)
        self.val_iou = torch.full((len(self.class_names),), torch.nan)  # percent, of the last evaluation
        self.validated_at = -1  # global step of the last evaluation
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.confusion = MulticlassConfusionMatrix(
            len(self.class_names), ignore_index=IGNORE_INDEX, validate_args=False
        )

    def standardize(self, image: Tensor) -> Tensor:
        """Map uint8 (N, 3, H, W) to float of zero mean and unit deviation."""
        return (image - self.mean) / self.std  # type: ignore[operator]

    def forward(self, image: Tensor) -> Tensor:
        """Return class probabilities, (N, C, H, W), of RGB images, uint8 (N, 3, H, W)."""
        logits: Tensor = self.network(self.standardize(image))
        return _resize(logits, image).softmax(dim=1)

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return L_CE + lambda L_GCRF."""
        image, target = self.standardize(batch["image"]), batch["target"]
        logits = self.network(image)
        supervised = self.supervised_loss(_resize(logits, image), target)
        self.log("train/cross_entropy", supervised, sync_dist=True)
        loss: Tensor = supervised
        if self.regularizer is not None and self.global_step >= self.first_step:
            source = batch["valid"] if self.gate_source else None
            destination = target == IGNORE_INDEX if self.gate_destination else None
            energy = self.regularizer(logits.float().softmax(dim=1), {"rgb": image}, source, destination)
            self.log("train/gated_crf", energy, sync_dist=True)
            loss = supervised + self.weight * energy
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Count the confusions of whole images and return the predicted classes, uint8 (N, H, W)."""
        prediction = self.predict_step(batch, batch_idx)
        self.confusion.update(prediction, batch["target"])
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log mIoU over the split, in percent, and per class; a class that is nowhere counts nowhere."""
        self.val_iou = 100 * iou_per_class(self.confusion.compute().cpu())  # in float64, which not every device has
        self.validated_at = self.global_step
        self.confusion.reset()
        self.log("val/miou", self.val_iou.nanmean(), prog_bar=True)
        present = {f"val/iou/{n}": v for n, v in zip(self.class_names, self.val_iou, strict=True) if not v.isnan()}
        self.log_dict(present)

    def test_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """See :meth:`validation_step`."""
        return self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """See :meth:`on_validation_epoch_end`."""
        self.on_validation_epoch_end()

    def predict_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return the predicted classes, uint8 (N, H, W)."""
        probs: Tensor = self(batch["image"])
        return probs.argmax(dim=1).to(torch.uint8)

    def decay(self, step: int) -> float:
        """Return (1 - step / max_steps)^power, 0 from ``max_steps`` on."""
        progress = min(step, self.trainer.max_steps) / self.trainer.max_steps
        return float((1 - progress) ** self.power)

    def configure_model(self) -> None:
        """Let BatchNorm see the samples of all GPUs together, and compile the network if asked to."""
        if self.trainer.world_size > 1 and self.device.type == "cuda":  # torch has no such layer for CPUs
            # torch's own conversion would lose the activations that are part of timm's layers
            self.network = convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        if self.compiles_network and self.trainer.training:
            self.network.compile()  # in place, so that checkpoints have the same names

    def on_fit_start(self) -> None:
        """Count the labels of the dataset for a loss that weighs its classes by them."""
        if getattr(self.supervised_loss, "needs_histogram", False):
            self.supervised_loss.set_histogram(self.trainer.datamodule.label_histogram())  # type: ignore[attr-defined, operator]

    def on_train_start(self) -> None:
        """Let this run's optimizer settings win over those that a checkpoint has restored."""
        if self.regularizer is not None and self.first_step >= self.trainer.max_steps:
            rank_zero_warn(
                f"The regularizer starts at step {self.first_step}, but this run ends at {self.trainer.max_steps}: "
                "lower --model.first_step."
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
    return F.interpolate(logits.float(), size=like.shape[-2:], mode="bilinear", align_corners=False)
