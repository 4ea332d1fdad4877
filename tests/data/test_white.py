"""White: one for a data set, whatever single images hold."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiff_files import tiff

from aimonk_bench.data import white as module
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import decode
from aimonk_bench.data.white import white_of
from aimonk_bench.errors import UserError


def saved(folder: Path, name: str, pixels: np.ndarray) -> ImageFile:
    path = folder / name
    kind = path.suffix
    path.write_bytes(
        tiff(pixels, 2 if pixels.shape[2] == 3 else 1) if kind == ".tif" else cv2.imencode(kind, pixels)[1]
    )
    return ImageFile(name, path, "", 1)


def grey(value: float, kind: str = "u2") -> np.ndarray:
    pixels = np.zeros((8, 8, 1), kind)
    pixels[3, 4] = value
    return pixels


@pytest.mark.parametrize(
    ("values", "kind", "white"),
    [
        ([0, 200], "u2", 255),
        ([200, 256], "u2", 1023),
        ([1020, 1030], "u2", 4095),
        ([4095, 4000], "u2", 4095),
        ([100, 4096], "u2", 16383),
        ([16384, 1], "u2", 65535),
        ([0.5, 1.0], "f4", 1),
        ([0.5, 1.5], "f4", 255),
        ([0.2, 3000.0], "f8", 4095),
        ([5, 300], "i2", 1023),
        ([5, 300], "u4", 1023),
    ],
)
def test_the_smallest_usual_white_that_holds_every_image(
    tmp_path: Path, values: list[float], kind: str, white: int
) -> None:
    for suffix in ("tif", "png") if kind == "u2" else ("tif",):
        files = [saved(tmp_path, f"{n}.{suffix}", grey(value, kind)) for n, value in enumerate(values)]
        assert white_of(files, None) == white
        assert white_of(files, 65535) == 65535


def test_eight_bit_images_are_not_decoded_and_have_no_white(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for kind in ("png", "jpg", "bmp", "gif", "tif", "webp"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"a.{kind}")
        files.append(ImageFile(f"a.{kind}", tmp_path / f"a.{kind}", "", 1))
    (tmp_path / "junk.tif").write_bytes(b"II*\0")
    files.append(ImageFile("junk.tif", tmp_path / "junk.tif", "", 1))
    monkeypatch.setattr(module, "brightest", lambda data: pytest.fail("decoded"))
    assert white_of(files, None) is None
    with pytest.raises(UserError, match=r"data\.white: found 4095.*remove"):
        white_of(files, 4095)


def test_eight_bit_images_and_refused_ones_do_not_count(tmp_path: Path) -> None:
    bright = saved(tmp_path, "bright.png", np.full((8, 8, 1), 255, np.uint8))
    negative = saved(tmp_path, "negative.tif", grey(-5, "i2"))
    huge = saved(tmp_path, "huge.tif", grey(1e6, "f4"))
    assert white_of([bright, negative, huge], None) is None
    assert white_of([bright, negative, huge, saved(tmp_path, "dim.png", grey(300))], None) == 1023


def test_formats_whose_header_does_not_say_it(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n4095\n" + np.array([7, 2000], ">u2").tobytes())
    (tmp_path / "b.ppm").write_bytes(b"P6\n1 1\n255\n" + bytes([1, 2, 255]))
    files = [ImageFile(name, tmp_path / name, "", 1) for name in ("a.pgm", "b.ppm")]
    assert white_of(files, None) == 4095
    assert white_of(files[1:], None) is None


def test_the_white_is_said_with_the_line_that_saves_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aimonk_bench")
    white_of([saved(tmp_path, "dim.png", grey(10)), saved(tmp_path, "bright.png", grey(3000))], None)
    (record,) = caplog.records
    assert all(part in record.getMessage() for part in ("2 images", "3000", "bright.png", "data: {white: 4095}"))


def test_library_messages_are_left_to_the_encoding(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    file = saved(tmp_path, "a.png", grey(3000))
    data, profile = file.path.read_bytes(), b"iCCPx\0\0" + zlib.compress(b"no profile")
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    file.path.write_bytes(data[:33] + chunk + data[33:])
    assert decode(file.path.read_bytes(), 8, "bilinear", white=4095).shape == (8, 8, 3)
    assert "libpng" in capfd.readouterr().err
    assert white_of([file], None) == 4095
    assert "libpng" not in caplog.text + capfd.readouterr().err


def test_images_of_equal_noise_stay_equal_whatever_their_brightest_pixel_is(tmp_path: Path) -> None:
    """One pixel of 1020 or 1030 decided about the scale of a whole image, and so about its label."""
    rng = np.random.default_rng(0)
    files, label = [], rng.integers(0, 2, 40)
    for n in range(40):
        pixels = rng.integers(0, 1000, (32, 32, 1)).astype(np.uint16)
        pixels[0, 0] = 1030 if label[n] else 1020
        files.append(saved(tmp_path, f"{n}.png", pixels))
    white = white_of(files, None)
    means = np.array([decode(file.path.read_bytes(), 32, "bilinear", white=white).mean() for file in files])
    positive, negative = means[label == 1], means[label == 0]
    auc = (positive[:, None] > negative).mean()
    assert 0.2 < auc < 0.8
    assert means.max() / means.min() < 1.1
