"""DeepLab-v3+ on a timm backbone, Sec. 4.1."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.models import FeatureInfo
from torch import Tensor, nn

from datamodules.io.errors import InputError
from lightning_modules.pretrained import check_weights, find_weights


class DeepLabV3Plus(nn.Module):
    """Encoder with atrous convolution, ASPP, and a decoder that fuses low-level features at stride 4.

    With 21 classes and the default backbone it has 26,716,341 parameters.

    Args:
        num_classes: C.
        backbone: timm model name, optionally with a weight tag. "resnet34.tv_in1k" are torchvision's weights, as used
            at the time of the paper; timm's default for "resnet34" comes from a newer and stronger recipe.
        pretrained: If True, download the weights; if False, initialize randomly; or the path of a weight file.
        output_stride: Input pixels per encoder feature, 16 or 8.
        atrous_rates: Dilations of the 3 x 3 ASPP branches, for stride 16. Double them for stride 8.
        channels: Width of the ASPP branches and of the decoder.
        low_level_channels: Width of the reduced stride 4 features.

    Raises:
        InputError: The stride is not 16 or 8, the backbone is unknown or cannot be dilated, or its weights are missing
            or do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet34.tv_in1k",
        pretrained: bool | str = True,
        output_stride: int = 16,
        atrous_rates: Sequence[int] = (6, 12, 18),
        channels: int = 256,
        low_level_channels: int = 48,
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16):
            raise InputError(f"output_stride is {output_stride}; DeepLab-v3+ uses 16 or 8.")
        self.encoder = _create_encoder(backbone, pretrained, output_stride)
        low, high = self.encoder.feature_info.channels()
        self.aspp = ASPP(high, atrous_rates, channels)
        self.reduce = _conv_bn_relu(low, low_level_channels, 1)
        self.decoder = nn.Sequential(
            _conv_bn_relu(channels + low_level_channels, channels, 3),
            _conv_bn_relu(channels, channels, 3),
            nn.Conv2d(channels, num_classes, 1),
        )
        for part in (self.aspp, self.reduce, self.decoder):
            part.apply(_xavier)

    def forward(self, image: Tensor) -> Tensor:
        """Map standardized RGB images, float (N, 3, H, W), to logits (N, C, ceil(H / 4), ceil(W / 4))."""
        low, high = self.encoder(image)
        context = F.interpolate(self.aspp(high), size=low.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.decoder(torch.cat([context, self.reduce(low)], dim=1))
        return logits


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1 x 1, one 3 x 3 per rate, and an image-level branch, projected by a 1 x 1."""

    def __init__(self, in_channels: int, rates: Sequence[int], channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_conv_bn_relu(in_channels, channels, 1)])
        self.branches.extend(_conv_bn_relu(in_channels, channels, 3, dilation=rate) for rate in rates)
        self.image_level = nn.Sequential(nn.AdaptiveAvgPool2d(1), _conv_bn_relu(in_channels, channels, 1))
        self.project = _conv_bn_relu(channels * (len(rates) + 2), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H, W)."""
        outputs = [branch(x) for branch in self.branches]
        outputs.append(self.image_level(x).expand_as(outputs[0]))
        projected: Tensor = self.project(torch.cat(outputs, dim=1))
        return projected


def _conv_bn_relu(in_channels: int, out_channels: int, size: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _create_encoder(backbone: str, pretrained: bool | str, output_stride: int) -> Any:
    """Return a timm feature extractor with features at strides 4 and ``output_stride``."""
    name = backbone.split(".")[0]
    if not timm.is_model(name):
        close = timm.list_models(f"*{name[:6]}*")[:5]
        raise InputError(f"timm has no backbone {name!r}; close names: {close or timm.list_models('resnet*')[:5]}.")
    weights: dict[str, Any] = {}
    if pretrained:
        path = find_weights(backbone) if pretrained is True else Path(pretrained)
        if not path.is_file():
            raise InputError(f"pretrained={str(path)!r} is not a file; pass a weight file of {backbone}, or false.")
        check_weights(backbone, path)
        weights = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    try:
        encoder = timm.create_model(
            backbone, features_only=True, output_stride=output_stride, out_indices=(1, -1), **weights
        )
    except (TypeError, AssertionError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"Backbone {backbone!r} cannot be built with output stride {output_stride} ({error}). "
            "ResNets, ResNeXts, RegNets, EfficientNets and MobileNets can."
        ) from error
    strides = cast(FeatureInfo, encoder.feature_info).reduction()
    if strides != [4, output_stride]:
        raise InputError(f"Backbone {backbone!r} has features at strides {strides}; it needs 4 and {output_stride}.")
    return encoder
