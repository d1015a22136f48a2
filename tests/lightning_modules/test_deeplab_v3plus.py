"""The network with random weights on a tiny backbone."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from datamodules.io.errors import InputError
from lightning_modules.deeplab_v3plus import DeepLabV3Plus

TINY = {"backbone": "test_resnet", "pretrained": False, "channels": 16, "low_level_channels": 8}


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("size", [(64, 96), (33, 50)])
def test_logits_are_at_stride_4_for_every_size(size: tuple[int, int], output_stride: int) -> None:
    network = DeepLabV3Plus(5, output_stride=output_stride, **TINY)
    logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5, -(-size[0] // 4), -(-size[1] // 4))


def test_default_network_has_the_size_of_the_papers_and_dilates_its_last_stage() -> None:
    network = DeepLabV3Plus(21, pretrained=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == 26_716_341
    assert {block.conv2.dilation for block in network.encoder.layer4} == {(2, 2)}
    assert {block.conv2.dilation for block in network.encoder.layer3} == {(1, 1)}
    assert [branch[0].dilation[0] for branch in network.aspp.branches] == [1, 6, 12, 18]


def test_stride_8_dilates_the_last_two_stages() -> None:
    network = DeepLabV3Plus(2, output_stride=8, **{**TINY, "backbone": "resnet10t"})
    assert [network.encoder[f"layer{i}"][0].conv2.dilation[0] for i in (2, 3, 4)] == [1, 2, 4]


def test_new_layers_are_xavier() -> None:
    """Uniform up to sqrt(6 / (fan_in + fan_out))."""
    torch.manual_seed(0)
    network = DeepLabV3Plus(5, **TINY)
    new = [m for p in (network.aspp, network.reduce, network.decoder) for m in p.modules() if isinstance(m, nn.Conv2d)]
    assert len(new) == 10
    for layer in new:
        area = layer.kernel_size[0] * layer.kernel_size[1]
        bound = (6 / (area * (layer.in_channels + layer.out_channels))) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
    assert not network.decoder[-1].bias.any()


def test_every_parameter_receives_a_gradient() -> None:
    network = DeepLabV3Plus(5, **TINY)
    network(torch.randn(2, 3, 48, 48)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_local_weight_file_is_loaded(tmp_path: Path) -> None:
    saved = timm.create_model("test_resnet", pretrained=False).state_dict()
    torch.save(saved, tmp_path / "weights.pth")
    network = DeepLabV3Plus(5, **{**TINY, "pretrained": str(tmp_path / "weights.pth")})
    loaded = network.encoder.state_dict()
    assert set(loaded) == {name for name in saved if not name.startswith("fc.")}
    assert all(torch.equal(loaded[name], saved[name]) for name in loaded)


@pytest.mark.parametrize("backbone", ["resnext50_32x4d", "regnetx_002", "efficientnet_b0", "mobilenetv3_small_050"])
def test_other_families_of_backbones_can_be_dilated(backbone: str) -> None:
    with torch.device("meta"):
        network = DeepLabV3Plus(3, **{**TINY, "backbone": backbone})
        assert network.eval()(torch.zeros(1, 3, 65, 97)).shape == (1, 3, 17, 25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vit_tiny_patch16_224"}, "'vit_tiny_patch16_224' cannot be built.*ResNets"),
        ({"backbone": "resnett34"}, "no backbone 'resnett34'; close names"),
        ({"backbone": "convnext_atto"}, r"strides \[8, 16\]"),
        ({"output_stride": 32}, "output_stride is 32"),
    ],
)
def test_unsuitable_backbone_or_stride_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DeepLabV3Plus(3, **{**TINY, **options})


def test_missing_weight_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.pth"
    with pytest.raises(InputError, match=r"nowhere\.pth.*test_resnet, or false"):
        DeepLabV3Plus(3, **{**TINY, "pretrained": str(missing)})


def test_a_file_without_the_weights_is_refused(tmp_path: Path) -> None:
    """timm would load the tensors that fit, here none, and leave the rest random, without an error."""
    weights = timm.create_model("test_resnet", pretrained=False).state_dict()
    torch.save({f"network.encoder.{name}": weight for name, weight in weights.items()}, tmp_path / "prefixed.pth")
    with pytest.raises(InputError, match=r"prefixed\.pth does not hold the weights of test_resnet"):
        DeepLabV3Plus(3, backbone="test_resnet", pretrained=str(tmp_path / "prefixed.pth"))
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"does not hold the weights of resnet10t"):
        DeepLabV3Plus(3, backbone="resnet10t", pretrained=str(tmp_path / "other.pth"))
