"""Ways to compute the same training faster."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pytorch_lightning import Trainer
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn


@dataclass(frozen=True)
class Speed:
    """Settings that change the results by rounding only. ``presets/gpu.yaml`` sets them for GPUs.

    Args:
        compile: Compile the network for training: slow first steps, then faster ones. Evaluation is not compiled.
        channels_last: Store images, weights and activations as NHWC, which GPUs prefer in half precision.
        fused_optimizer: Update all weights in one kernel.
        tf32: Let GPUs round the factors of float32 products to 10 bits. The losses' engine for GPUs has none.
    """

    compile: bool = False
    channels_last: bool = False
    fused_optimizer: bool = False
    tf32: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory layout of images (N, 3, H, W) and of weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def prepare(self, network: nn.Module, trainer: Trainer) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
        """Return the network for a trainer, and the function that training calls.

        In training on several GPUs, BatchNorm is synchronized.
        """
        on_gpu = trainer.strategy.root_device.type == "cuda"  # the network itself is still on the CPU
        if on_gpu:
            torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
            torch.backends.cudnn.allow_tf32 = self.tf32
        if trainer.training and trainer.world_size > 1 and on_gpu:  # torch synchronizes on GPUs only
            # unlike torch's conversion, timm's keeps the activations inside its layers
            network = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        network.to(memory_format=self.memory_format)  # type: ignore[call-overload]

        def call(image: Tensor) -> Tensor:
            return network(image)  # type: ignore[no-any-return]

        # Evaluation does not share the compiled graph: its image sizes would make it dynamic, which is slower.
        return network, torch.compile(call, dynamic=False) if self.compile else call


DEFAULT_SPEED = Speed()
