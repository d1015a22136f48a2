"""Training on weak labels with L = L_CE + lambda L_GCRF, Sec. 3 and 4.1."""

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

from datamodules.sample import IGNORE_INDEX, Sample
from lightning_modules.evaluation import Best, ConfusionCounts, Evaluation
from lightning_modules.inference import WHOLE_IMAGE, Inference, resize

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class WeakSegmentation(LightningModule):
    """Trains a network with a supervised loss on labeled pixels and a regularizer on all pixels.

    Args:
        network: Maps a standardized image (N, 3, H, W) to logits (N, C, h, w), usually at a lower resolution.
        supervised_loss: Called with logits (N, C, H, W) and the target; see ``PartialCrossEntropyLoss``. A loss whose
            ``needs_histogram`` is true gets the number of labels per class first, through ``set_histogram``.
        class_names: C names; the command line takes them from the dataset.
        regularizer: Called with probabilities (N, C, h, w), {"rgb": standardized image}, and the masks m^src and m^dst;
            see ``GatedCRFLoss``. ``None`` trains with the supervised loss alone.
        regularizer_weight: lambda.
        regularizer_start_step: First optimizer step with the regularizer.
        gate_source: Pass m^src: only pixels inside the image are sources (GCRF_s).
        gate_destination: Pass m^dst: only pixels without a label are destinations (GCRF_s,d).
        learning_rate: Initial learning rate. It decays to 0 at ``trainer.max_steps``.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD, on all parameters.
        power: Exponent of the polynomial decay.
        inference: Inference of validation, test and prediction.
        mean: Mean of each RGB channel, scale 0 to 255, for standardization. Pretrained backbones expect the default,
            ImageNet's, which the authors' code uses too.
        std: Standard deviation of each RGB channel, scale 0 to 255.
        compile: Compile the network: slow first steps, faster training.
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
        self.best = Best()
        self.loaded_step = 0  # of the checkpoint that the weights come from
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.counts = ConfusionCounts(len(self.class_names))

    def configure_model(self) -> None:
        """Synchronize BatchNorm over all GPUs, and compile the network. Runs before training only."""
        if not self.trainer.training:
            return
        on_gpus = self.trainer.strategy.root_device.type == "cuda"  # the module itself is still on the CPU
        if self.trainer.world_size > 1 and on_gpus:  # torch synchronizes BatchNorm on GPUs only
            # unlike torch's conversion, timm's keeps the activations inside its layers; converting twice would drop
            # them
            self.network = convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        if self.compiles_network:
            self.network.compile()  # in place, so that names in checkpoints stay

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return SGD and a polynomial decay of the learning rate, updated every step."""
        optimizer = SGD(self.parameters(), self.learning_rate, self.momentum, weight_decay=self.weight_decay)
        schedule = LambdaLR(optimizer, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def decay(self, step: int) -> float:
        """Return (1 - step / max_steps)^power; 0 beyond ``max_steps``."""
        progress = min(step, self.trainer.max_steps) / self.trainer.max_steps
        return float((1 - progress) ** self.power)

    def on_fit_start(self) -> None:
        """Give the label histogram to a loss that needs it. Warn if the regularizer never starts."""
        if getattr(self.supervised_loss, "needs_histogram", False):
            self.supervised_loss.set_histogram(self.trainer.datamodule.label_histogram())  # type: ignore[attr-defined, operator]
        if self.regularizer is not None and self.regularizer_start_step >= self.trainer.max_steps:
            rank_zero_warn(
                f"The regularizer starts at step {self.regularizer_start_step}, but this run ends at "
                f"{self.trainer.max_steps}: lower --model.regularizer_start_step."
            )

    def on_train_start(self) -> None:
        """Replace the optimizer settings of a checkpoint by those of this run."""
        schedule = self.lr_schedulers()
        if not isinstance(schedule, LambdaLR):
            return
        schedule.base_lrs = [self.learning_rate] * len(schedule.base_lrs)
        for group in schedule.optimizer.param_groups:
            group |= {"momentum": self.momentum, "weight_decay": self.weight_decay}
            group |= {"initial_lr": self.learning_rate, "lr": self.learning_rate * self.decay(schedule.last_epoch)}

    def standardize(self, image: Tensor) -> Tensor:
        """Map RGB images, uint8 (N, 3, H, W), to zero mean and unit variance, float."""
        return (image - self.mean) / self.std  # type: ignore[operator]

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return L_CE + lambda L_GCRF."""
        image, target = self.standardize(batch["image"]), batch["target"]
        logits = self.network(image)
        loss: Tensor = self.supervised_loss(resize(logits.float(), image.shape[-2:]), target)
        self.log("train/cross_entropy", loss, sync_dist=True)
        if self.regularizer is not None and self.global_step >= self.regularizer_start_step:
            source = batch["valid"] if self.gate_source else None
            destination = target == IGNORE_INDEX if self.gate_destination else None
            energy = self.regularizer(logits.float().softmax(dim=1), {"rgb": image}, source, destination)
            self.log("train/gated_crf", energy, sync_dist=True)
            loss = loss + self.regularizer_weight * energy
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def forward(self, image: Tensor) -> Tensor:
        """Return class probabilities, (N, C, H, W), of RGB images, uint8 (N, 3, H, W); see :class:`Inference`."""
        return self.inference(self._probs, image)

    def _probs(self, image: Tensor) -> Tensor:
        return resize(self.network(self.standardize(image)).float(), image.shape[-2:]).softmax(dim=1)

    def predict_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return the predicted classes, uint8 (N, H, W); IGNORE_INDEX outside the inference's crop."""
        confidence, classes = self(batch["image"]).max(dim=1)
        return classes.to(torch.uint8).masked_fill(confidence == 0, IGNORE_INDEX)  # type: ignore[no-any-return]

    def validation_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Count confusions and return the predicted classes, uint8 (N, H, W)."""
        prediction = self.predict_step(batch, batch_idx)
        self.counts.update(prediction, batch["target"])
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log the mIoU and the IoU per class of the whole split, percent."""
        confusion, images = self.counts.compute()
        self.counts.reset()
        if self.trainer.sanity_checking:
            return
        step = max(self.global_step, self.loaded_step)  # global_step is 0 if nothing is trained
        self.evaluation = Evaluation(self.inference.name, self.class_names, confusion.cpu(), int(images), step)
        self.best = self.best.or_better(self.evaluation)
        self.log("val/miou", self.evaluation.miou, prog_bar=True)
        per_class = zip(self.class_names, self.evaluation.iou, strict=True)
        self.log_dict({f"val/iou/{name}": value for name, value in per_class if not value.isnan()})

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the best evaluation."""
        checkpoint["best"] = tuple(self.best)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the best evaluation and the step of the weights."""
        self.best = Best(*checkpoint.get("best", ()))
        self.loaded_step = int(checkpoint["global_step"])
