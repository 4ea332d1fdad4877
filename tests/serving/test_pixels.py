"""Pixels are those of training: of files, and of arrays and Pillow images that hold the same."""

from __future__ import annotations

import io
import os
from pathlib import Path

import bundles
import numpy as np
import pytest
from PIL import Image

from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.images import decode
from aimonk_bench.errors import UserError
from aimonk_bench.serving import pixels
from aimonk_bench.serving.graph import Classifier, open_classifier

RNG = np.random.default_rng(0)
COLOURS = Image.fromarray(RNG.integers(0, 256, (50, 70, 3), np.uint8))
ALPHA = RNG.integers(0, 256, (50, 70), np.uint8)
DEEP = Image.fromarray(RNG.integers(0, 4096, (50, 70), np.uint16))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return open_classifier(bundles.write_bundle(tmp_path_factory.mktemp("white") / "b", white=4095))


def with_alpha(mode: str) -> Image.Image:
    image = COLOURS.convert(mode[:-1])
    image.putalpha(Image.fromarray(ALPHA))
    return image


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette(transparent: bool) -> bytes:
    return saved(COLOURS.convert("P"), transparency=3) if transparent else saved(COLOURS.convert("P"))


FILES = {
    "RGB": saved(COLOURS),
    "grey": saved(COLOURS.convert("L")),
    "one bit": saved(COLOURS.convert("1")),
    "palette": palette(False),
    "palette with a transparent colour": palette(True),
    "RGBA": saved(with_alpha("RGBA")),
    "LA": saved(with_alpha("LA")),
    "16 bits": saved(DEEP),
    "enlarged": saved(COLOURS.resize((20, 11))),
    "turned JPEG": saved(
        COLOURS, "JPEG", quality=90, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + bytes(4)
    ),
    "grey JPEG": saved(COLOURS.convert("L"), "JPEG"),
    "RGB with a transparent colour": saved(COLOURS, transparency=COLOURS.getpixel((0, 0))),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_an_array_and_a_pillow_image_give_the_same(name: str, classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(FILES[name])
    expected = decode(FILES[name], bundles.SIZE, "bilinear", white=4095)
    np.testing.assert_array_equal(pixels.of_file(tmp_path / "image", classifier, []), expected)
    item = pixels.item(Image.open(io.BytesIO(FILES[name])), 0, classifier)
    assert item.error is None
    np.testing.assert_array_equal(item.pixels, expected)


def large_jpeg(size: int, **options: object) -> bytes:
    noise = Image.fromarray(RNG.integers(0, 256, (size // 4, size // 4, 3), np.uint8))
    return saved(noise.resize((size, size), Image.Resampling.BICUBIC), "JPEG", quality=90, **options)


@pytest.mark.parametrize("form", ["buffer", "file", "MPO"])
def test_a_jpeg_that_is_only_opened_is_decoded_as_its_file(form: str, tmp_path: Path) -> None:
    """With ``decode: fast`` too, which a decoded image cannot follow."""
    fast = open_classifier(bundles.write_bundle(tmp_path / "b", decode="fast"))
    frames = [Image.open(io.BytesIO(large_jpeg(8 * bundles.SIZE))) for _ in range(2)]
    data = saved(frames[0], "MPO", save_all=True, append_images=frames[1:]) if form == "MPO" else large_jpeg(256)
    (tmp_path / "image.jpg").write_bytes(data)
    expected = pixels.of_file(tmp_path / "image.jpg", fast, [])
    image = Image.open(tmp_path / "image.jpg" if form == "file" else io.BytesIO(data))
    np.testing.assert_array_equal(pixels.item(image, 0, fast).pixels, expected)
    np.testing.assert_array_equal(pixels.item(image, 0, fast).pixels, expected)  # and may be used again
    decoded = decode(data, bundles.SIZE, "bilinear")
    assert np.abs(decoded.astype(int) - expected).max() > 0
    if form == "MPO":
        image.seek(1)
        other = pixels.item(image, 0, fast).pixels
        assert other is not None
        assert np.abs(other.astype(int) - expected).mean() > 5
        return
    image.load()
    np.testing.assert_array_equal(pixels.item(image, 0, fast).pixels, decoded)
    drafted = Image.open(io.BytesIO(data))
    drafted.draft("L", (64, 64))
    grey = pixels.item(drafted, 0, fast).pixels
    assert grey is not None
    assert np.ptp(grey, axis=2).max() == 0


def test_a_jpeg_whose_file_is_closed_or_cut_off_has_an_error(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(FILES["turned JPEG"])
    with Image.open(tmp_path / "image.jpg") as image:
        pass
    assert pixels.item(image, 0, classifier).error is not None
    cut = FILES["turned JPEG"][: len(FILES["turned JPEG"]) // 2]
    assert pixels.item(Image.open(io.BytesIO(cut)), 0, classifier).error is not None


def test_an_array_gives_what_its_file_gives(classifier: Classifier) -> None:
    array = np.asarray(COLOURS)
    expected = decode(FILES["RGB"], bundles.SIZE, "bilinear")
    for form in (array, np.asfortranarray(array), array[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(pixels.item(form, 0, classifier).pixels, expected)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_pillow_modes_that_no_file_has_here(mode: str, classifier: Classifier) -> None:
    item, expected = pixels.item(COLOURS.convert(mode), 0, classifier), pixels.item(COLOURS, 0, classifier).pixels
    assert item.pixels is not None
    assert expected is not None
    assert np.abs(item.pixels.astype(int) - expected.astype(int)).max() <= 6


@pytest.mark.parametrize(("mode", "plain"), [("La", "LA"), ("RGBa", "RGBA")])
def test_colours_that_are_multiplied_by_alpha(mode: str, plain: str, classifier: Classifier) -> None:
    item, expected = (pixels.item(with_alpha(plain).convert(name), 0, classifier).pixels for name in (mode, plain))
    assert item is not None
    assert expected is not None
    assert np.abs(item.astype(int) - expected.astype(int)).max() <= 2


def test_the_caller_may_use_an_array_again(classifier: Classifier) -> None:
    array = np.zeros((bundles.SIZE, bundles.SIZE, 3), np.uint8)  # of the size of the network: nothing is resized
    item = pixels.item(array, 0, classifier)
    array[:] = 255
    assert item.pixels is not None
    assert not item.pixels.any()


def test_names(classifier: Classifier, tmp_path: Path) -> None:
    COLOURS.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert pixels.item(opened, 3, classifier).name == str(tmp_path / "a.png")
    assert pixels.item(COLOURS, 3, classifier).name == "[3]"
    assert pixels.item(np.zeros((1, 1, 3), np.uint8), 4, classifier).name == "[4]"
    assert pixels.item("x/y.png", 5, classifier).path == Path("x/y.png")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), r"images\[2\]: found an array of float32 \[4, 4, 3\]"),
        (np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\], expected uint8 \[H, W, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), r"\[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
        (7, "found a int"),
        (None, "found a NoneType"),
    ],
)
def test_something_else_is_refused(image: object, words: str, classifier: Classifier) -> None:
    with pytest.raises(UserError, match=words):
        pixels.item(image, 2, classifier)


def test_a_pillow_image_that_cannot_be_read_has_an_error(classifier: Classifier) -> None:
    cut = Image.open(io.BytesIO(FILES["RGB"][:900]))
    assert "Pillow" in str(pixels.item(cut, 0, classifier).error)
    large = Image.new("1", (20_000, 20_000))
    assert "20000 x 20000 pixels" in str(pixels.item(large, 0, classifier).error)
    bright = Image.fromarray(np.full((4, 4), 5000, np.uint16))
    assert "5000" in str(pixels.item(bright, 0, classifier).error)


def test_files_that_cannot_be_read(classifier: Classifier, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    reasons = {
        "absent.jpg": "missing",
        ".": "a folder",
        "pipe.jpg": "not a regular file",
        "a\0b.jpg": "not the name of a file",
        "x" * 300: "unreadable: File name too long",
        "text.jpg": "text that begins with 'hello'",
    }
    for name, reason in reasons.items():
        with pytest.raises(UndecodableImage, match=reason):
            pixels.of_file(tmp_path / name, classifier, [])


def test_without_a_white_deep_images_are_refused(bundle: Path, tmp_path: Path) -> None:
    DEEP.save(tmp_path / "deep.png")
    with pytest.raises(UndecodableImage) as caught:
        pixels.of_file(tmp_path / "deep.png", open_classifier(bundle), [])
    assert caught.value.reason == "more than 8 bits, and no white is known"  # and nothing about a config
