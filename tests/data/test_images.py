"""Decoding, with Pillow, NumPy block means and known values as oracles."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tiff_files import tiff

from aimonk_bench.data import headers, images
from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.images import decode, squash

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
    data = encode(pixels, "png") if kind == "png" else tiff(np.ascontiguousarray(pixels[..., [2, 1, 0, 3]]), extra=[2])
    result = decode(data, 8, "bilinear", white=65535)
    np.testing.assert_array_equal(np.unique(result.reshape(-1, 3), axis=0), [[255, 204, 204]])


@pytest.mark.parametrize("kind", ["TIFF", "JPEG2000"])
def test_grey_with_alpha_is_seen_on_white(colours: Image.Image, kind: str) -> None:
    data = encode(colours.convert("LA"), kind)
    expected = on_white(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(decode(data, EDGE, "bilinear") - expected).max() <= 1
    assert (expected[:, 0] == 255).all()  # transparent at the left


def test_premultiplied_grey(colours: Image.Image) -> None:
    grey, alpha = np.split(np.asarray(colours.convert("LA")).astype(int), 2, axis=2)
    pixels = np.concatenate([grey * alpha // 255, alpha], axis=2).astype(np.uint8)
    expected = grey * alpha // 255 + 255 - alpha
    assert np.abs(decode(tiff(pixels, 1, extra=[1]), EDGE, "bilinear") - expected).max() <= 1


@pytest.mark.parametrize(("bits", "value"), [(1, 0), (1, 1), (2, 2), (4, 9), (8, 100)])
def test_a_grey_png_may_name_a_transparent_value(bits: int, value: int) -> None:
    levels = np.arange(EDGE * EDGE).reshape(EDGE, EDGE) % 2**bits
    data = grey_png(levels, bits, value)
    expected = np.where(levels == value, 255, levels * (255 // (2**bits - 1)))[..., None].repeat(3, 2)
    np.testing.assert_array_equal(decode(data, EDGE, "bilinear"), expected)
    if bits in (1, 8):  # of 2 and 4 bits Pillow compares the scaled value, against the standard
        np.testing.assert_array_equal(on_white(Image.open(io.BytesIO(data))), expected)


def test_a_transparent_value_of_sixteen_bits() -> None:
    levels = np.arange(EDGE * EDGE).reshape(EDGE, EDGE)
    expected = np.where(levels == 1000, 255, np.rint(levels * (255 / 4095)))[..., None].repeat(3, 2)
    np.testing.assert_array_equal(decode(grey_png(levels, 16, 1000), EDGE, "bilinear", white=4095), expected)


def grey_png(levels: np.ndarray, bits: int, transparent: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = levels.shape
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in levels]
    else:
        shifts = np.arange(8 - bits, -1, -bits)
        rows = [(row.reshape(-1, 8 // bits) << shifts).sum(1).astype(np.uint8).tobytes() for row in levels]
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    key = chunk(b"tRNS", struct.pack(">H", transparent))
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("extra", [None, [0], [1], [2]])
@pytest.mark.parametrize("depth", ["u1", "u2", "f4"])
def test_a_fourth_band_is_alpha_where_the_tiff_declares_it(depth: str, extra: list[int] | None) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100, (EDGE, EDGE, 4))
    values[..., 3] = rng.integers(100, 256, (EDGE, EDGE))  # colours of a multiplied image are at most alpha
    whole = {"u1": 255, "u2": 65535, "f4": 1}[depth]
    pixels = (values / 255 * whole).astype(depth) if depth == "f4" else (values * (whole // 255)).astype(depth)
    colour, alpha = values[..., :3], values[..., 3:] / 255
    multiplied = colour if extra == [1] else colour * alpha
    expected = multiplied + 255 * (1 - alpha) if extra in ([1], [2]) else colour
    notes: list[str] = []
    white = None if depth == "u1" else whole
    result = decode(tiff(pixels, extra=extra), EDGE, "bilinear", white=white, notes=notes)
    assert np.abs(result - expected).max() <= 1.01
    assert len(notes) == (extra in (None, [0]))
    assert all("fourth band" in note for note in notes)


def test_cmyk_is_converted_and_named(colours: Image.Image) -> None:
    for kind in ("TIFF", "JPEG"):
        notes: list[str] = []
        data = encode(colours.convert("RGB").convert("CMYK"), kind)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(decode(data, EDGE, "bilinear", notes=notes) - expected).max() <= 4
        assert len(notes) == 1
        assert "CMYK" in notes[0]


@pytest.mark.parametrize(
    ("shape", "depth", "photometric", "message"),
    [
        ((8, 8, 2), "u2", 1, "2 bands.* save it with one band"),
        ((8, 8, 3), "u1", 1, "3 bands.* three of them as RGB"),
        ((8, 8, 4), "u1", 0, "4 bands.* three of them as RGB"),
        ((8, 8, 5), "u2", 2, "5 bands"),
        ((8, 8, 4), "u2", 5, "CMYK"),
        ((8, 8, 3), "u2", 8, "CIELAB"),
        ((8, 8, 1), "u2", 0, "0 is white"),
        ((8, 8, 1), "f4", 0, "0 is white"),
    ],
)
def test_tiffs_that_opencv_would_misread_are_named(
    shape: tuple[int, int, int], depth: str, photometric: int, message: str
) -> None:
    with pytest.raises(UndecodableImage, match=message):
        decode(tiff(np.ones(shape, depth), photometric), 8, "bilinear", white=65535)


def test_a_tiff_that_would_take_too_much_memory_is_refused_before_it_is_decoded() -> None:
    content = tiff(np.ones((8, 8, 4)), extra=[2])
    for tag in (256, 257):  # width and height: fewer pixels than are decoded of 8 bits
        content = content.replace(struct.pack("<HHII", tag, 4, 1, 8), struct.pack("<HHII", tag, 4, 1, 9000))
    with pytest.raises(UndecodableImage, match="9000 x 9000 x 4: 2592000000 bytes, at most 715827880: make it smaller"):
        decode(content, 8, "bilinear")


def test_a_second_band_that_is_not_declared_as_alpha_is_left_out() -> None:
    notes: list[str] = []
    result = decode(
        tiff(np.dstack([np.full((8, 8), 100), np.full((8, 8), 10)]).astype("u1"), 1), 8, "bilinear", notes=notes
    )
    assert (result == 100).all()
    assert len(notes) == 1
    assert "second band" in notes[0]


@pytest.mark.parametrize(("mask", "expected"), [(0, (200, 100, 40)), (0xFF000000, (255, 255, 255))])
def test_the_fourth_byte_of_a_bmp_is_alpha_where_there_is_a_mask(mask: int, expected: tuple[int, int, int]) -> None:
    body = bytes([40, 100, 200, 0]) * 64
    info = struct.pack("<IiiHHIIiiII", 108, 8, 8, 1, 32, 3, len(body), 0, 0, 0, 0)
    info += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, mask) + b"BGRs" + bytes(48)
    data = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body
    assert decode(data, 8, "bilinear").reshape(-1, 3).mean(0).tolist() == list(expected)


def test_a_portable_float_map() -> None:
    data = b"Pf\n8 8\n-1.0\n" + np.full(64, 0.5, "<f4").tobytes()
    assert (decode(data, 8, "bilinear", white=1) == 128).all()


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_decoded(kind: str) -> None:
    frames = [Image.new("RGB", (EDGE, EDGE), colour) for colour in ("red", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(decode(data, EDGE, "bilinear").astype(int) - [255, 0, 0]).max() <= 2


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


@pytest.mark.parametrize(("kind", "channels"), [("P5", 1), ("P6", 3), ("P2", 1), ("P3", 3)])
@pytest.mark.parametrize("maximum", [1, 15, 100, 254, 255])
def test_a_ppm_file_declares_its_white(kind: str, channels: int, maximum: int) -> None:
    values = np.random.default_rng(0).integers(0, maximum + 1, (EDGE, EDGE, channels)).astype(np.uint8)
    ascii_values = " ".join(map(str, values.ravel())).encode() + b"\n"
    data = f"{kind} {EDGE} {EDGE} {maximum}\n".encode() + (ascii_values if kind in ("P2", "P3") else values.tobytes())
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data, EDGE, "bilinear") - expected).max() <= 1
    assert decode(data, EDGE, "bilinear").max() == 255


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_white_scales_more_than_eight_bits(kind: str, channels: int, white: int) -> None:
    ramp = np.linspace(0, white, 256).round().astype(np.uint16)
    pixels = np.repeat(ramp.reshape(16, 16, 1), channels, axis=2)
    data = encode(pixels, kind)
    expected = np.broadcast_to(np.rint(pixels * (255 / white)), (16, 16, 3))
    np.testing.assert_array_equal(decode(data, 16, "bilinear", white=white), expected)
    assert images.brightest(data) == white
    if white > 255:
        with pytest.raises(UndecodableImage, match=rf"{white} is above data\.white, which is {white // 2}"):
            decode(data, 16, "bilinear", white=white // 2)
    with pytest.raises(UndecodableImage, match=r"set data\.white"):
        decode(data, 16, "bilinear")


@pytest.mark.parametrize("white", [1, 255, 65535])
@pytest.mark.parametrize(("kind", "channels"), [("f4", 1), ("f4", 3), ("f8", 3)])
def test_float_tiffs(kind: str, channels: int, white: int) -> None:
    pixels = (np.arange(256).reshape(16, 16, 1) / 255 * white).repeat(channels, 2).astype(kind)
    data = tiff(pixels, 2 if channels == 3 else 1)
    result = decode(data, 16, "bilinear", white=white)
    np.testing.assert_array_equal(result, np.arange(256).reshape(16, 16, 1).repeat(3, 2))
    assert images.brightest(data) == white


def test_floats_up_to_one_do_not_turn_black_beside_integers() -> None:
    with pytest.raises(UndecodableImage, match=r"0\.5 beside a data\.white of 65535"):
        decode(tiff(np.full((8, 8, 3), 0.5, np.float32)), 8, "bilinear", white=65535)


def test_eight_bits_need_no_white(colours: Image.Image) -> None:
    data = encode(colours.convert("RGB"), "PNG")
    assert images.brightest(data) is None
    assert np.array_equal(decode(data, EDGE, "bilinear", white=4095), decode(data, EDGE, "bilinear"))


@pytest.mark.parametrize("value", [-1, 1e6, np.inf, np.nan])
def test_floats_without_a_known_scale_are_refused(value: float) -> None:
    pixels = np.full((8, 8, 3), 0.5, np.float32)
    pixels[2, 3, 1] = value
    with pytest.raises(UndecodableImage, match="pixel values"):
        decode(tiff(pixels), 8, "bilinear", white=65535)
    assert images.brightest(tiff(pixels)) is None


def test_numbers_of_channels_without_a_meaning_are_refused() -> None:
    for channels in (2, 5):
        with pytest.raises(UndecodableImage, match=f"{channels} channels"):
            images.opaque(np.zeros((4, 4, channels), np.uint8), premultiplied=False)


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
        with pytest.raises(UndecodableImage, match=r"(?s)pixels.*on_bad_image: skip"):
            decode(data, 224, "bilinear")


@pytest.mark.parametrize(
    ("cap", "factor"), [(640 * 480, 1), (640 * 480 - 1, 2), (320 * 240 - 1, 4), (160 * 120 - 1, 8)]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpegs_above_the_cap_are_decoded_at_a_fraction(
    mode: str, cap: int, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    smooth = Image.fromarray(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)).convert(mode)
    data = encode(smooth, "JPEG", quality=95)
    expected = decode(data, 24, "bilinear").astype(int)
    asked, flags = [], cv2.imdecode
    monkeypatch.setattr(
        cv2, "imdecode", lambda data, flag: asked.append(flags(data, flag).shape[:2]) or flags(data, flag)
    )
    monkeypatch.setattr(images, "MAX_PIXELS", cap)
    notes: list[str] = []
    assert np.abs(decode(data, 24, "bilinear", notes=notes) - expected).mean() < 2
    assert asked == [(480 // factor, 640 // factor)]
    assert [f"1/{factor}" in note for note in notes] == [True] * (factor > 1)


def test_jpegs_that_pillow_takes_for_bombs() -> None:
    header = headers.read_header(encode(Image.new("RGB", (16, 16)), "JPEG").replace(b"\0\x10\0\x10", b"\xff\0\xff\0"))
    assert (header.width, header.height, header.progressive) == (0xFF00, 0xFF00, False)


def test_progressive_jpegs_are_capped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.new("RGB", (640, 480)), "JPEG", progressive=True)
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    monkeypatch.setattr(images, "MAX_COEFFICIENTS", 4000)
    with pytest.raises(UndecodableImage, match=r"at most 4000 in all.*on_bad_image: skip"):
        decode(data, 24, "bilinear")


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
    assert images.reduction(headers.read_header(data), 50) == factor


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_fast_is_near_to_full(mode: str, orientation: int):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    smooth = Image.fromarray(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)).convert(mode)
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(smooth, "JPEG", quality=95, exif=exif.tobytes())
    full, fast = decode(data, EDGE, "bilinear"), decode(data, EDGE, "bilinear", fast=True)
    assert images.reduction(headers.read_header(data), EDGE) == 4
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
