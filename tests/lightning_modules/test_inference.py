"""Inference against a loop implementation, and invariances."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.io.errors import InputError
from lightning_modules.inference import Inference

Predict = Callable[[Tensor], Tensor]
SIZES = ((17, 30), (40, 23), (64, 64))


@pytest.fixture
def predict() -> Predict:
    """A network whose output depends on the position in the window, through padding."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 9, padding=4), nn.Softmax(1)).requires_grad_(False)
    nn.init.normal_(layers[0].weight, std=0.1)
    return lambda image: layers(image.float() / 255 - 0.4)


def draw(height: int, width: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(256, (count, 3, height, width), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_default_is_one_pass(predict: Predict, size: tuple[int, int]) -> None:
    image = draw(*size)
    assert torch.equal(Inference()(predict, image), predict(image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("window", "stride"), [(16, 16), (16, 11), (20, 3), (50, 25)])
def test_windows_are_averaged_where_they_overlap(
    predict: Predict, size: tuple[int, int], window: int, stride: int
) -> None:
    image = draw(*size)
    total, seen = np.zeros((4, *size)), np.zeros(size)
    for top in starts(size[0], window, stride):
        for left in starts(size[1], window, stride):
            piece = image[:, :, top : top + window, left : left + window]
            total[:, top : top + window, left : left + window] += predict(piece)[0].numpy()
            seen[top : top + window, left : left + window] += 1
    result = Inference(window=window, stride=stride)(predict, image)[0]
    np.testing.assert_allclose(result, total / seen, rtol=1e-5)


def starts(length: int, window: int, stride: int) -> list[int]:
    """Return the starts of the windows along an axis. The last window is moved back into the image."""
    found, start = [], 0
    while start + window < length:
        found.append(start)
        start += stride
    return [*found, max(length - window, 0)]


@pytest.mark.parametrize("size", SIZES)
def test_window_as_large_as_the_image_is_the_whole_image(predict: Predict, size: tuple[int, int]) -> None:
    image = draw(*size)
    for window in (max(size), 1000):
        assert torch.equal(Inference(window=window, stride=7)(predict, image), predict(image))


def test_scales_and_mirror_images_are_averaged_at_the_size_of_the_image(predict: Predict) -> None:
    image, expected = draw(40, 23), torch.zeros(1, 4, 40, 23)
    for size in [(20, 12), (40, 23), (60, 34)]:  # 11.5 and 34.5 are rounded to even
        scaled = F.interpolate(image.float(), size, mode="bilinear")
        for view in (lambda x: x, lambda x: x.flip(3)):
            expected += F.interpolate(view(predict(view(scaled))), (40, 23), mode="bilinear") / 6
    torch.testing.assert_close(Inference(scales=[0.5, 1, 1.5], flip=True)(predict, image), expected)


@pytest.mark.parametrize("options", [{}, {"window": 12, "stride": 5}, {"crop": 25}, {"scales": [0.7, 1.4]}])
def test_flip_makes_the_prediction_of_a_mirror_image_the_mirror_image(
    predict: Predict, options: dict[str, Any]
) -> None:
    """For these sizes, the windows and the crop are symmetric in the image."""
    inference, image = Inference(**options, flip=True), draw(27, 27)
    torch.testing.assert_close(inference(predict, image.flip(3)), inference(predict, image).flip(3))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options", [{"window": 16, "stride": 9}, {"scales": [0.3, 2]}, {"window": 9, "stride": 9, "scales": [1.7, 1]}]
)
def test_constant_network_stays_constant(size: tuple[int, int], options: dict[str, Any]) -> None:
    values = torch.tensor([0.1, 0.2, 0.7]).view(1, 3, 1, 1)
    result = Inference(**options, flip=True)(lambda image: values.expand(len(image), 3, *image.shape[2:]), draw(*size))
    torch.testing.assert_close(result, values.expand(1, 3, *size))


@pytest.mark.parametrize("size", [(20, 31), (31, 21), (50, 51), (33, 60), (32, 32)])
def test_crop_sees_the_center_on_black_in_whole_pixels(predict: Predict, size: tuple[int, int]) -> None:
    """A crop of 32 instead of the authors' 512. The expected input is built pixel by pixel."""
    image, side = draw(*size).numpy(), 32
    canvas, expected = np.zeros((1, 3, side, side), dtype=np.uint8), np.zeros((1, 4, *size), dtype=np.float32)
    top, left = ((side - length) // 2 for length in size)
    inside = [
        (y, x, y + top, x + left)
        for y in range(size[0])
        for x in range(size[1])
        if 0 <= y + top < side and 0 <= x + left < side
    ]
    assert len(inside) == min(size[0], side) * min(size[1], side)
    for y, x, v, u in inside:
        canvas[..., v, u] = image[..., y, x]
    probs = predict(torch.from_numpy(canvas)).numpy()
    for y, x, v, u in inside:
        expected[..., y, x] = probs[..., v, u]
    seen: list[Tensor] = []
    result = Inference(crop=side)(lambda x: seen.append(x) or predict(x), torch.from_numpy(image))  # type: ignore[func-returns-value]
    assert np.array_equal(seen[0], canvas)
    np.testing.assert_array_equal(result, expected)


def test_images_of_a_batch_do_not_mix(predict: Predict) -> None:
    images = draw(30, 41, count=3)
    inference = Inference(window=16, stride=9, scales=[0.8, 1], flip=True)
    alone = torch.cat([inference(predict, image[None]) for image in images])
    torch.testing.assert_close(inference(predict, images), alone)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "whole image"),
        ({"crop": 512}, "512 center crop"),
        ({"flip": True}, "whole image, flip"),
        ({"scales": [0.5, 1.0]}, "whole image, scales 0.5 1"),
        (
            {"window": 769, "stride": 513, "scales": [0.5, 1, 1.5], "flip": True},
            "sliding window 769/513, scales 0.5 1 1.5, flip",
        ),
        ({"crop": 512, "window": 256, "stride": 128}, "512 center crop, sliding window 256/128"),
    ],
)
def test_name_says_everything(options: dict[str, Any], name: str) -> None:
    assert Inference(**options).name == name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0}, "crop is 0"),
        ({"window": 8}, "belong together"),
        ({"stride": 8}, "belong together"),
        ({"window": 8, "stride": 9}, "stride is 9"),
        ({"window": 8, "stride": 0}, "stride is 0"),
        ({"scales": []}, "scales is"),
        ({"scales": [1, 0]}, "scales is"),
        ({"scales": [float("nan")]}, "scales is"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Inference(**options)
