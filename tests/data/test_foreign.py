"""Files that are no image: each is named for what it is, with what to do."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from aimonk_bench.data.foreign import foreign
from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.images import decode

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def saved(write: object) -> bytes:
    file = io.BytesIO()
    write(file)  # type: ignore[operator]
    return file.getvalue()


def archive(file: io.BytesIO) -> None:
    with zipfile.ZipFile(file, "w") as content:
        content.writestr("a.txt", "a")


@pytest.mark.parametrize(
    ("data", "kind", "fix"),
    [
        (b"", "the file is empty", "download"),
        (bytes(5000), "5000 zero bytes", "download"),
        (POINTER, "Git LFS pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0.jpg", "git-annex pointer", "git annex get"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML page", "download"),
        (b"\xef\xbb\xbf\r\n <html>Sign in</html>", "HTML page", "download"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML document", "download"),
        (b'{"error": "not found"}', "JSON", "download"),
        (b"404: Not Found", "text that begins with '404: Not Found'", "download"),
        ("größer als erlaubt".encode(), "text that begins with", "download"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "SVG", "PNG"),
        (b'<?xml version="1.0"?>\n<!-- drawn --><svg></svg>', "SVG", "PNG"),
        (bytes(128) + b"DICM" + bytes(99), "DICOM", "16-bit PNG"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC", "PNG or JPEG"),
        (b"\0\0\0\x18ftypmif1" + bytes(99), "HEIC", "PNG or JPEG"),
        (b"\0\0\0\x18ftypisom" + bytes(99), "video", "frames"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(99), "video", "frames"),
        (b"\x1aE\xdf\xa3" + bytes(99), "video", "frames"),
        (b"%PDF-1.7" + bytes(99), "PDF", "PNG or JPEG"),
        (b"\xff\x0a" + b"\x7f" * 99, "JPEG XL", "PNG or JPEG"),
        (saved(lambda file: np.save(file, np.zeros((4, 4)))), "NumPy array", "PNG or TIFF"),
        (saved(archive), "ZIP archive", "unpack"),
        (gzip.compress(b"volume", mtime=0), "gzip", "unpack"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(99), "macOS", "._"),
        (b"8BPS\0\1" + bytes(99), "Photoshop", "PNG or JPEG"),
    ],
)
def test_a_file_that_is_no_image_is_named(data: bytes, kind: str, fix: str) -> None:
    assert kind in str(foreign(data))
    with pytest.raises(UndecodableImage) as caught:
        decode(data, 8, "bilinear")
    assert kind in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize("kind", ["ICO", "TGA", "DDS", "PCX", "SGI"])
def test_an_image_that_opencv_does_not_read_is_named_by_its_format(kind: str) -> None:
    data = saved(lambda file: Image.new("RGB", (16, 16)).save(file, kind))
    with pytest.raises(UndecodableImage, match=kind):
        decode(data, 8, "bilinear")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"])
def test_an_image_is_nothing_else(kind: str) -> None:
    data = saved(lambda file: Image.effect_noise((64, 64), 50).convert("RGB").save(file, kind))
    assert decode(data, 8, "bilinear").shape == (8, 8, 3)
    if kind != "AVIF":  # is named where OpenCV has been built without it
        assert foreign(data) is None


def test_a_camera_raw_file_is_not_read_as_its_preview() -> None:
    data = bytearray(saved(lambda file: Image.new("RGB", (8, 8)).save(file, "TIFF", tiffinfo={50706: b"\1\4\0\0"})))
    with pytest.raises(UndecodableImage, match="raw file"):
        decode(bytes(data), 8, "bilinear")
