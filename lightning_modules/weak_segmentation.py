"""Training on weak labels with L = L_CE + lambda L_GCRF, Sec. 3 and 4.1."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from datamodules.sample import IGNORE_INDEX, Sample
from lightning_modules.checks import as_logits, late_start
from lightning_modules.evaluation import Best, ConfusionCounts, Evaluation
from lightning_modules.fault_tolerance.step_flags import StepFlags
from lightning_modules.inference import WHOLE_IMAGE, Inference, most_probable, resize
from lightning_modules.round_start import RoundStart
from lightning_modules.self_contained import checkpoint_content
from lightning_modules.speed import DEFAULT_SPEED, Speed
from losses.global_batch import Call, compute_losses, sum_over_processes

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class WeakSegmentation(LightningModule):
    """Trains a network with a supervised loss on labeled pixels and a regularizer on all pixels.

    Args:
        network: Maps a standardized image (N, 3, H, W) to logits (N, C, h, w), usually at a lower resolution.
        supervised_loss: Called with logits (N, C, H, W) and the target; see ``PartialCrossEntropyLoss``. A loss whose
            ``needs_histogram`` is true gets the number of labels per class first, through ``set_histogram``. A loss
            with ``sample_inputs`` is also called with these fields of the batch; see ``WhatsThePointLoss``.
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
        speed: How training is computed faster.
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
        speed: Speed = DEFAULT_SPEED,
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
        self.speed = speed
        self.flags = StepFlags()
        self.class_names = list(class_names)
        self.evaluation: Evaluation | None = None  # the last one
        self.best = Best()
        self.loaded_step = 0  # of the checkpoint that the weights come from
        self.config: Mapping[str, Any] | None = None  # of the run, kept in its checkpoints
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.counts = ConfusionCounts(len(self.class_names))

    def configure_model(self) -> None:
        """Prepare the network for the device of the trainer, if there is one."""
        if self._trainer is not None:
            self.network, self._train_network = self.speed.prepare(self.network, self.trainer)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that makes the label maps of each round."""
        return [RoundStart()]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return SGD and a polynomial decay of the learning rate, updated every step."""
        settings = {"weight_decay": self.weight_decay, "fused": self.speed.fused_optimizer or None}
        optimizer = SGD(self.parameters(), self.learning_rate, self.momentum, **settings)  # type: ignore[arg-type]
        schedule = {"scheduler": LambdaLR(optimizer, self.decay), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}  # type: ignore[typeddict-item]

    def decay(self, step: int) -> float:
        """Return (1 - step / max_steps)^power; 0 beyond ``max_steps``."""
        progress = min(step, self.trainer.max_steps) / self.trainer.max_steps
        return float((1 - progress) ** self.power)

    def on_fit_start(self) -> None:
        """Provide what the supervised loss reads. Warn if the regularizer never starts."""
        if (datamodule := getattr(self.trainer, "datamodule", None)) is not None:
            datamodule.request([name for name in self._inputs if name not in Sample.__required_keys__])
        if getattr(self.supervised_loss, "needs_histogram", False):
            self.supervised_loss.set_histogram(self.trainer.datamodule.label_histogram())  # type: ignore[attr-defined, operator]
            self.supervised_loss.to(self.device)
        late = late_start(self.regularizer_start_step, self.trainer.max_steps)
        if self.regularizer is not None and late:
            rank_zero_warn(late)

    def on_train_start(self) -> None:
        """Replace the optimizer settings of a checkpoint by those of this run."""
        schedule = self.lr_schedulers()
        if not isinstance(schedule, LambdaLR):
            return
        schedule.base_lrs = [self.learning_rate] * len(schedule.base_lrs)
        for parameter, state in schedule.optimizer.state.items():
            if (momentum := state.get("momentum_buffer")) is not None:  # of the memory layout of the earlier run
                state["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        for group in schedule.optimizer.param_groups:
            group |= {"momentum": self.momentum, "weight_decay": self.weight_decay}
            group["fused"] = self.speed.fused_optimizer or None
            group |= {"initial_lr": self.learning_rate, "lr": self.learning_rate * self.decay(schedule.last_epoch)}

    def standardize(self, image: Tensor) -> Tensor:
        """Map RGB images, uint8 (N, 3, H, W), to zero mean and unit variance, float."""
        return ((image - self.mean) / self.std).contiguous(memory_format=self.speed.memory_format)  # type: ignore[operator]

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return L_CE + lambda L_GCRF."""
        image, target = self.standardize(batch["image"]), batch["target"]
        logits = as_logits(self._train_network(image), image, len(self.class_names))
        inputs: list[Tensor] = [batch[name] for name in self._inputs]  # type: ignore[literal-required]
        calls: list[Call] = [(self.supervised_loss, (resize(logits, image.shape[-2:]), target, *inputs))]
        if self.regularizer is not None and self.global_step >= self.regularizer_start_step:
            source = batch["valid"] if self.gate_source else None
            destination = target == IGNORE_INDEX if self.gate_destination else None
            calls.append((self.regularizer, (logits.softmax(dim=1), {"rgb": image}, source, destination)))
        cross_entropy, *energy = compute_losses(calls, self.flags.exchange)
        loss = cross_entropy + self.regularizer_weight * energy[0] if energy else cross_entropy
        self._log([cross_entropy, loss, *energy])
        return loss

    @property
    def _inputs(self) -> Sequence[str]:
        """Fields of the batch that the supervised loss reads after the target."""
        return getattr(self.supervised_loss, "sample_inputs", ())

    def _log(self, losses: Sequence[Tensor]) -> None:
        """Log means over the processes in logged steps, with one sum for all of them; Lightning adds barriers."""
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            means = sum_over_processes(torch.stack(list(losses))) / self.trainer.world_size
            for name, mean in zip(("cross_entropy", "loss", "regularizer"), means, strict=False):
                self.log(f"train/{name}", mean, prog_bar=name == "loss")

    def on_validation_epoch_start(self) -> None:
        """Predict with the buffers of process 0 in all processes."""
        self.share_buffers()

    def share_buffers(self) -> None:
        """Take the buffers of process 0, which are saved. Without synchronized BatchNorm, they differ."""
        for buffer in self.network.buffers() if self.trainer.world_size > 1 else ():
            dist.broadcast(buffer, 0)

    def forward(self, image: Tensor, inference: Inference | None = None) -> Tensor:
        """Return class probabilities, (N, C, H, W), of RGB images, uint8 (N, 3, H, W), as ``inference`` or its own."""
        return (self.inference if inference is None else inference)(self._probs, image)

    def _probs(self, image: Tensor) -> Tensor:
        logits = as_logits(self.network(self.standardize(image)), image, len(self.class_names))
        return resize(logits, image.shape[-2:]).softmax(dim=1)

    def predict_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return the predicted classes, uint8 (N, H, W); IGNORE_INDEX outside the inference's crop."""
        return most_probable(self(batch["image"]))

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
        """Save the best evaluation, and what is needed to build the model again."""
        checkpoint["best"] = tuple(self.best)
        if self.config is not None:
            checkpoint |= checkpoint_content(self.config, self.class_names)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the best evaluation and the step of the weights."""
        self.best = Best(*checkpoint.get("best", ()))
        self.loaded_step = int(checkpoint["global_step"])
