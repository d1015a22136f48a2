"""Images are read exactly or refused by name."""

import io
import multiprocessing
import resource
import struct
import threading
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageOps

from datamodules.annotations import LabelMap
from datamodules.io.images import image_size, in_threads, list_images, read_image, read_label_map

SaveMask = Callable[[Path, LabelMap], None]
MASK = np.array([[0, 1, 2, 255], [2, 2, 0, 1]], dtype=np.uint8)


def noise(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def test_palette_is_read_as_indices(tmp_path: Path, save_mask: SaveMask) -> None:
    save_mask(tmp_path / "mask.png", MASK)
    labels = read_label_map(tmp_path / "mask.png", 3)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, MASK)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_mask_of_8_or_16_bits_is_read(tmp_path: Path, dtype: type) -> None:
    PILImage.fromarray(MASK.astype(dtype)).save(tmp_path / "mask.png")
    labels = read_label_map(tmp_path / "mask.png", 3)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, MASK)


def test_bilevel_mask_is_read_as_0_and_1(tmp_path: Path) -> None:
    PILImage.fromarray(MASK == 2).save(tmp_path / "mask.png")
    labels = read_label_map(tmp_path / "mask.png", 2)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, [[0, 0, 1, 0], [1, 1, 0, 0]])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_mask_with_colors_is_refused_by_name(tmp_path: Path, mode: str) -> None:
    PILImage.new(mode, (4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=rf"mask\.png has mode {mode}; a mask holds one class index"):
        read_label_map(tmp_path / "mask.png", 3)


@pytest.mark.parametrize(("value", "dtype"), [(3, np.uint8), (254, np.uint8), (256, np.uint16), (511, np.uint16)])
def test_value_that_is_no_class_is_refused_by_name(tmp_path: Path, value: int, dtype: type) -> None:
    wrong = MASK.astype(dtype)
    wrong[0, 0] = value
    PILImage.fromarray(wrong).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=rf"mask\.png holds the values \[{value}\]; use 0 to 2"):
        read_label_map(tmp_path / "mask.png", 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_truncated_picture_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    PILImage.fromarray(noise()).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"cut\{suffix} cannot be read as an image.*replace or remove"):
        read_image(path)
    PILImage.fromarray(noise()[..., 0]).save(tmp_path / "mask.png")
    content = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "mask.png").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"mask\.png cannot be read as a mask"):
        read_label_map(tmp_path / "mask.png", 256)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    for read in (read_image, image_size, lambda path: read_label_map(path, 3)):
        with pytest.raises(ValueError, match=r"gone\.png cannot be read"):
            read(tmp_path / "gone.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_picture_of_any_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    picture = PILImage.fromarray(noise()).convert(mode)
    picture.save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.array(picture.convert("RGB")))
    assert image_size(tmp_path / "image.png") == (60, 40)


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    PILImage.new("RGB", (8, 8), (250, 100, 5)).save(tmp_path / "image.jpg", quality=100)
    assert abs(read_image(tmp_path / "image.jpg").astype(int) - [250, 100, 5]).max() <= 3


def test_images_are_listed_by_name_whatever_their_suffix(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.d.jpeg", "notes.txt", "a.json"):
        (tmp_path / name).touch()
    assert [path.stem for path in list_images(tmp_path)] == ["a", "b", "c.d"]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for first, second, shown in (("a.png", "a.jpg", "a"), ("u\u0308.jpg", "\u00fc.jpg", "\u00fc")):
        folder = tmp_path / shown
        folder.mkdir()
        (folder / first).touch()
        (folder / second).touch()
        with pytest.raises(ValueError, match=rf"several images named '{shown}'.*rename one"):
            list_images(folder)


def test_folder_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder .*gone; create it"):
        list_images(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"holds no images, but no files; accepted are \.jpg"):
        list_images(tmp_path)
    (tmp_path / "a.HEIC").touch()
    (tmp_path / "more").mkdir()
    with pytest.raises(ValueError, match=r"holds no images, but only \.HEIC, more/; accepted are \.jpg"):
        list_images(tmp_path)


def test_images_beside_the_missing_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ValueError, match=rf"no folder .*train; create it and move some of the 1 images of {tmp_path}"):
        list_images(tmp_path / "train")


def test_hidden_files_and_folders_are_no_images(tmp_path: Path) -> None:
    """macOS writes ._NAME.jpg beside NAME.jpg on other file systems."""
    for name in ("a.jpg", "._a.jpg", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "b.jpg").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg"]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_photographs_are_read_upright(tmp_path: Path, orientation: int, turns: int) -> None:
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :16] = 200  # the bright corner shows the orientation
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    PILImage.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    upright = np.rot90(stored, turns)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), upright)
    assert image_size(tmp_path / "photo.png") == upright.shape[1::-1]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_photographs_of_more_than_8_bits_are_refused(tmp_path: Path, dtype: type) -> None:
    """Pillow would clip their values."""
    path = tmp_path / "deep.tif"
    PILImage.fromarray(np.full((4, 4), 1000).astype(dtype)).save(path)
    with pytest.raises(ValueError, match=r"deep\.tif has more than 8 bits"):
        read_image(path)


def png(size: tuple[int, int], bits: int, color: int, row: bytes) -> bytes:
    """Return a PNG of (W, H) with equal rows, as Pillow does not write 16-bit colors."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size, bits, color, 0, 0, 0)
    pixels = zlib.compressobj(1)
    data = b"".join(pixels.compress(b"\0" + row) for _ in range(size[1])) + pixels.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_is_refused(tmp_path: Path, color: int, channels: int) -> None:
    """Pillow would keep the upper bytes only: 12-bit values would become 0 to 15."""
    path = tmp_path / "deep.png"
    row = np.full((4, channels), 4095).astype(">u2").tobytes()
    path.write_bytes(png((4, 4), 16, color, row))
    with pytest.raises(ValueError, match=r"deep\.png has more than 8 bits per channel: 16; export"):
        read_image(path)
    path.write_bytes(png((4, 4), 8, color, row[: 4 * channels]))
    assert read_image(path).shape == (4, 4, 3)


@pytest.mark.parametrize("channels", [3, 4])
def test_tiff_with_colors_of_16_bits_is_refused(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "deep.tif"
    cv2.imwrite(str(path), np.full((4, 4, channels), 4095, dtype=np.uint16))
    with pytest.raises(ValueError, match=r"deep\.tif has more than 8 bits per channel: 16; export"):
        read_image(path)
    cv2.imwrite(str(path), np.full((4, 4, channels), 40, dtype=np.uint8))
    assert (read_image(path) == 40).all()


HUGE = (13400, 13400)  # Pillow by itself refuses more than 178,956,970 pixels


def test_image_of_any_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png(HUGE, 1, 0, b"\x55" * (HUGE[0] // 8)))
    assert image_size(path) == HUGE
    labels = read_label_map(path, 2)
    assert labels.shape == HUGE
    assert (labels[::100, ::100] == 0).all()
    assert (labels[::100, 1::100] == 1).all()


def test_memory_that_does_not_suffice_is_named_with_the_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png(HUGE, 1, 0, b"\x55" * (HUGE[0] // 8)))

    def read_with_little_memory(read: Callable[[], object], message: Any) -> None:
        used = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, resource.RLIM_INFINITY))
        try:
            read()
        except ValueError as error:
            message.put(str(error))

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    context = multiprocessing.get_context("fork")
    for read in (lambda: read_image(path), lambda: read_label_map(path, 2)):
        message = context.SimpleQueue()
        reader = context.Process(target=read_with_little_memory, args=(read, message))
        reader.start()
        reader.join()
        assert not message.empty()
        assert "huge.png cannot be read as" in (text := message.get())
        assert "13400 x 13400 pixels do not fit into memory" in text


@pytest.mark.parametrize("orientation", [1, 6])
def test_huge_jpeg_is_decoded_at_a_reduced_size(tmp_path: Path, orientation: int) -> None:
    """Its blocks of 8 x 8 pixels become single ones. A smaller file is not touched."""
    blocks = np.random.default_rng(0).integers(0, 256, size=(1050, 1010), dtype=np.uint8)
    picture = PILImage.fromarray(blocks).resize((8080, 8400), PILImage.Resampling.NEAREST)
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "huge.jpg", quality=95, exif=exif)
    image = read_image(tmp_path / "huge.jpg", max_side=500)
    expected = blocks if orientation == 1 else np.rot90(blocks, 3)
    assert image.shape == (*expected.shape, 3)
    assert abs(image[..., 0].astype(int) - expected).max() <= 3
    PILImage.fromarray(noise()).save(tmp_path / "small.jpg", exif=exif)
    small = read_image(tmp_path / "small.jpg", max_side=5)
    np.testing.assert_array_equal(small, read_image(tmp_path / "small.jpg"))


def encode(rng: np.random.Generator) -> bytes:
    """Return a JPEG of random size, content, quality, layout and mode."""
    height, width = rng.integers(1, 90, size=2).tolist()
    coarse = rng.integers(0, 256, size=(height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = PILImage.fromarray((smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    picture.convert(str(rng.choice(["RGB", "RGB", "RGB", "L", "CMYK"]))).save(
        file,
        "JPEG",
        quality=int(rng.integers(5, 101)),
        subsampling=int(rng.integers(3)),
        progressive=bool(rng.integers(2)),
        optimize=bool(rng.integers(2)),
        restart_marker_blocks=4 * int(rng.integers(2)),
        comment=b"by hand" if rng.integers(2) else None,
    )
    return file.getvalue()


def test_jpegs_are_read_as_pillow_reads_them(tmp_path: Path) -> None:
    """To the pixel, although OpenCV decodes most of them. Some are truncated or damaged in the middle."""
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "image.jpg", 0
    for index in range(200):
        content = bytearray(encode(rng))
        if index % 4 == 1:
            content = content[: rng.integers(len(content))]
        elif index % 4 == 2:
            first, last = sorted(rng.integers(len(content), size=2))
            del content[first:last]
        elif index % 4 == 3:
            content += bytes(int(rng.integers(3)))
        path.write_bytes(content)
        try:
            with PILImage.open(path) as picture:
                expected = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
        except (OSError, SyntaxError):
            refused += 1
            with pytest.raises(ValueError, match="cannot be read as an image"):
                read_image(path)
            continue
        np.testing.assert_array_equal(read_image(path), expected)
        assert image_size(path) == expected.shape[1::-1]
    assert 50 < refused < 100


@pytest.mark.parametrize(("form", "orientation"), [*product(["JPEG", "PNG", "TIFF", "WEBP"], range(10))])
def test_every_orientation_is_upright_in_every_format(tmp_path: Path, form: str, orientation: int) -> None:
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.any"
    PILImage.fromarray(noise(20, 33)).save(path, form, exif=exif)
    with PILImage.open(path) as picture:
        expected = np.array(ImageOps.exif_transpose(picture))
    assert expected.shape[:2] == ((33, 20) if 5 <= orientation <= 8 else (20, 33))
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[1::-1]


def test_threads_have_ended_after_the_last_result() -> None:
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("needs /proc")
    for _ in range(20):
        threads = set(in_threads(lambda _: threading.get_native_id(), 50, "Counting"))
        assert not any((tasks / str(thread)).exists() for thread in threads)


def test_results_of_threads_are_in_order_and_errors_are_raised() -> None:
    assert list(in_threads(lambda index: index**2, 9, "Squaring")) == [index**2 for index in range(9)]
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda index: 1 // (index - 5), 9, "Dividing"))
