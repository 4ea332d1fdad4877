"""Decoding, with Pillow, NumPy block means and known values as oracles."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from aimonk_bench.data import images
from aimonk_bench.data.images import UndecodableImage, decode, squash

AIMONK = Path(os.environ.get("AIMONK_DATA", Path(__file__).parents[2] / ".data" / "aimonk"))
EDGE = 48


def encode(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    if isinstance(image, np.ndarray):
        return cv2.imencode(f".{kind}", image)[1].tobytes()
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def colours() -> Image.Image:
    """A smooth square with an alpha ramp."""
    noise = np.random.default_rng(0).integers(0, 256, (EDGE, EDGE, 4)).astype(np.uint8)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    smooth[..., 3] = np.linspace(0, 255, EDGE).astype(np.uint8)
    return Image.fromarray(smooth, "RGBA")


def on_white(image: Image.Image) -> np.ndarray:
    image = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def tiff(pixels: np.ndarray, photometric: int = 2) -> bytes:
    """An uncompressed little-endian TIFF of [H, W, C] values of any type."""
    height, width, channels = pixels.shape
    bits = struct.pack(f"<{channels}H", *[pixels.itemsize * 8] * channels)
    code = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    formats = struct.pack(f"<{channels}H", *[code] * channels)
    first = 8 + 2 + 10 * 12 + 4
    inline = channels == 1  # a single value stands in the tag itself
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, pixels.itemsize * 8 if inline else first),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
    ]
    tags += [(273, 4, 1, first + len(bits + formats)), (277, 3, 1, channels), (278, 4, 1, height)]
    tags += [(279, 4, 1, pixels.nbytes), (339, 3, channels, code if inline else first + len(bits))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + bits + formats + pixels.tobytes()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("PPM", {}),
    ],
)
def test_lossless_files_come_out_as_they_went_in(colours: Image.Image, kind: str, options: dict[str, object]) -> None:
    image = colours.convert("RGB")
    np.testing.assert_array_equal(decode(encode(image, kind, **options), EDGE, "bilinear"), np.asarray(image))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_agree_with_pillow(colours: Image.Image, mode: str) -> None:
    data = encode(colours.convert("RGB").convert(mode), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    result = decode(data, EDGE, "bilinear")
    assert result.shape == (EDGE, EDGE, 3)
    assert np.abs(result - expected).max() <= 4  # the two libraries convert colours with other roundings


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGBA", "PNG", {}),
        ("RGBA", "WEBP", {"lossless": True, "exact": True}),
        ("RGBA", "TIFF", {}),
        ("LA", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("P", "GIF", {"transparency": 3}),
    ],
)
def test_transparency_is_seen_on_white(colours: Image.Image, mode: str, kind: str, options: dict[str, object]) -> None:
    image = colours.convert("RGB").quantize(8) if mode == "P" else colours.convert(mode)
    data = encode(image, kind, **options)
    expected = on_white(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(decode(data, EDGE, "bilinear") - expected).max() <= 1


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bit_alpha_is_a_fraction_of_65535(kind: str) -> None:
    pixels = np.zeros((8, 8, 4), np.uint16)
    pixels[..., 2] = 65535  # BGRA: red
    pixels[..., 3] = 13107  # a fifth, everywhere: nothing in the file is opaque
    data = encode(pixels, "png") if kind == "png" else tiff(np.ascontiguousarray(pixels[..., [2, 1, 0, 3]]))
    np.testing.assert_array_equal(np.unique(decode(data, 8, "bilinear").reshape(-1, 3), axis=0), [[255, 204, 204]])


def test_transparency_that_opencv_drops_is_refused(colours: Image.Image) -> None:
    for data in (encode(colours.convert("L"), "PNG", transparency=100), encode(colours.convert("LA"), "TIFF")):
        with pytest.raises(UndecodableImage, match="transparency"):
            decode(data, EDGE, "bilinear")


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 mean nothing
@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGB"), ("TIFF", "L")]
)
def test_exif_orientation_is_applied_in_every_path(
    colours: Image.Image, kind: str, mode: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, object] = {"exif": exif} if kind != "TIFF" else {"tiffinfo": {274: orientation}}
    if kind == "WEBP":
        options["lossless"] = True
    data = encode(colours.convert(mode), kind, **options)
    expected = on_white(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    assert np.abs(decode(data, EDGE, "bilinear") - expected).max() <= (4 if kind == "JPEG" else 1)


def test_orientation_swaps_the_axes_of_an_oblong_image() -> None:
    stored = np.zeros((20, 60, 3), np.uint8)
    stored[:, :30] = 255  # white on the left; 6 means "turn clockwise": white on top
    exif = Image.Exif()
    exif[274] = 6
    upright = decode(encode(Image.fromarray(stored), "PNG", exif=exif), 40, "bilinear")
    assert (upright[:18] == 255).all()
    assert (upright[22:] == 0).all()


def test_unreadable_exif_leaves_the_image_as_stored(colours: Image.Image) -> None:
    image = colours.convert("RGB")
    data = encode(image, "PNG", exif=b"Exif\0\0no directory")
    np.testing.assert_array_equal(decode(data, EDGE, "bilinear"), np.asarray(image))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_white_is_that_of_the_smallest_depth_that_holds_the_image(kind: str, channels: int, bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16)
    pixels = np.repeat(ramp.reshape(16, 16, 1), channels, axis=2)
    expected = np.rint(pixels * (255 / (2**bits - 1)))
    np.testing.assert_array_equal(decode(encode(pixels, kind), 16, "bilinear"), np.broadcast_to(expected, (16, 16, 3)))


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
@pytest.mark.parametrize(("kind", "channels"), [("f4", 1), ("f4", 3), ("f8", 3)])
def test_float_tiffs(kind: str, channels: int, white: float) -> None:
    pixels = (np.arange(256).reshape(16, 16, 1) / 255 * white).repeat(channels, 2).astype(kind)
    result = decode(tiff(pixels, 2 if channels == 3 else 1), 16, "bilinear")
    np.testing.assert_array_equal(result, np.arange(256).reshape(16, 16, 1).repeat(3, 2))


@pytest.mark.parametrize("value", [-1, 1e6, np.inf, np.nan])
def test_floats_without_a_known_scale_are_refused(value: float) -> None:
    pixels = np.full((8, 8, 3), 0.5, np.float32)
    pixels[2, 3, 1] = value
    with pytest.raises(UndecodableImage, match="pixel values"):
        decode(tiff(pixels), 8, "bilinear")


def test_numbers_of_channels_without_a_meaning_are_refused() -> None:
    for channels in (2, 5):
        with pytest.raises(UndecodableImage, match=f"{channels} channels"):
            images.opaque(np.zeros((4, 4, channels), np.uint8), premultiplied=False)


def test_colours_that_opencv_would_misread_are_refused() -> None:
    with pytest.raises(UndecodableImage, match="neither grey nor RGB"):
        decode(tiff(np.ones((8, 8, 4), np.uint16), photometric=5), 8, "bilinear")  # CMYK


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_a_file_that_is_cut_off_is_refused(colours: Image.Image, kind: str) -> None:
    data = encode(colours.convert("RGB"), kind)
    for length in (len(data) // 2, len(data) - 20, 30, 3):
        with pytest.raises(UndecodableImage, match=r"\w"):
            decode(data[:length], EDGE, "bilinear")


@pytest.mark.parametrize(
    "data", [b"", b"junk" * 9, b"<html>404</html>", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II+\0" * 5]
)
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(UndecodableImage, match=r"\w"):
        decode(data, EDGE, "bilinear")


@pytest.mark.parametrize("edge", [9_500, 20_000])  # above the cap; above twice the cap, where Pillow itself refuses
@pytest.mark.parametrize("strict", [False, True])
def test_pixels_are_capped_before_opencv_is_asked(edge: int, strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", edge, edge, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV was asked"))
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")  # Pillow only warns between one and two caps
        with pytest.raises(UndecodableImage, match="pixels"):
            decode(data, 224, "bilinear")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_give_an_image_or_the_declared_error(data: st.DataObject) -> None:
    square = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"]))
    content = bytearray(encode(square, kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UndecodableImage):
        assert decode(bytes(content), 16, "bilinear").shape == (16, 16, 3)


@given(st.integers(1, 5), st.integers(1, 5))
def test_shrinking_is_the_mean_over_blocks(tall: int, wide: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8 * tall, 8 * wide, 3)).astype(np.uint8)
    blocks = pixels.reshape(8, tall, 8, wide, 3).mean((1, 3))
    assert np.abs(squash(pixels, 8, "bilinear") - blocks).max() <= 0.51


def test_shrinking_a_photograph_is_close_to_pillow() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3)).astype(np.uint8)
    photograph = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    area = squash(photograph, 224, "bilinear").astype(int)
    reference = np.asarray(Image.fromarray(photograph).resize((224, 224), Image.Resampling.BILINEAR))
    plain = cv2.resize(photograph, (224, 224), interpolation=cv2.INTER_LINEAR)
    assert np.abs(area - reference).mean() < 4
    assert np.abs(area - reference).mean() < np.abs(plain.astype(int) - reference).mean()


@pytest.mark.parametrize("turned", [False, True])
def test_an_axis_that_shrinks_does_not_alias_when_the_other_grows(turned: bool) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (4, 32))  # 4 x 64; bilinear alone would pick single columns
    result = squash(stripes.T if turned else stripes, 16, "bicubic")
    assert result.shape == (16, 16)
    assert set(np.unique(result)) <= {127, 128}


@pytest.mark.parametrize(("name", "method"), [("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC)])
def test_enlarging_uses_the_backbones_interpolation(name: str, method: int) -> None:
    small = np.random.default_rng(0).integers(0, 256, (10, 12, 3)).astype(np.uint8)
    np.testing.assert_array_equal(squash(small, 40, name), cv2.resize(small, (40, 40), interpolation=method))


@pytest.mark.skipif(not AIMONK.is_dir(), reason="the Aimonk images are not here")
def test_every_aimonk_image_decodes() -> None:
    kinds: dict[str, list[Path]] = {}
    for path in sorted((AIMONK / "images").iterdir()):
        assert decode(path.read_bytes(), 224, "bilinear").shape == (224, 224, 3)
        with Image.open(path) as image:
            kinds.setdefault(image.mode, []).append(path)
    assert {mode: len(paths) for mode, paths in kinds.items()} == {"RGB": 969, "RGBA": 2, "L": 1}
    for path in kinds["RGBA"] + kinds["L"]:
        with Image.open(path) as image:
            resized = Image.fromarray(on_white(image)).resize((224, 224), Image.Resampling.BOX)
        assert np.abs(decode(path.read_bytes(), 224, "bilinear").astype(int) - np.asarray(resized)).mean() < 3


def test_the_cap_is_where_pillow_warns() -> None:
    assert images.MAX_PIXELS == Image.MAX_IMAGE_PIXELS


# --- fast: large JPEGs at a fraction of their size ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "factor"), [((800, 900), 8), ((799, 900), 4), ((200, 640), 2), ((199, 640), 1), ((64, 64), 1)]
)
def test_fast_leaves_both_edges_at_least_twice_the_size(shape: tuple[int, int], factor: int):
    data = encode(Image.new("RGB", shape[::-1]), "JPEG")
    assert images.reduction(images.read_header(data), 50) == factor


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_fast_is_near_to_full(mode: str, orientation: int):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    smooth = Image.fromarray(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)).convert(mode)
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(smooth, "JPEG", quality=95, exif=exif.tobytes())
    full, fast = decode(data, EDGE, "bilinear"), decode(data, EDGE, "bilinear", fast=True)
    assert images.reduction(images.read_header(data), EDGE) == 4
    assert fast.shape == full.shape
    assert not np.array_equal(fast, full)  # or nothing was reduced
    difference = np.abs(fast.astype(int) - full)
    assert difference.mean() < 1
    assert difference.max() <= 12


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_fast_is_full_where_there_is_nothing_to_reduce(kind: str, colours: Image.Image):
    data = encode(colours.resize((640, 480)), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode(data, EDGE, "bilinear", fast=True), decode(data, EDGE, "bilinear"))
    small = encode(colours.convert("RGB"), "JPEG")
    assert np.array_equal(decode(small, EDGE, "bilinear", fast=True), decode(small, EDGE, "bilinear"))
