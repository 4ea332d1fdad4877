"""Files that are not what their name says, or images of a format that is not decoded: what they are, and what to do."""

from __future__ import annotations

import codecs

CONVERT = "convert it to PNG or JPEG"
AGAIN = "download it again"
ARCHIVE = "unpack it and list the images inside"

PLACEHOLDERS = (  # beginnings without case and leading blanks, what the file is, what to do
    ((b"version https://git-lfs",), "a Git LFS pointer, not the file itself", "run `git lfs pull` in its folder"),
    ((b"/annex/objects/",), "a git-annex pointer, not the file itself", "run `git annex get` in its folder"),
    (
        (b"<!doctype html", b"<html", b"<head", b"<body"),
        "an HTML page, perhaps an error page of a server",
        AGAIN,
    ),
)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# (first byte of the signature, signature, what the file is, what to do)
SIGNATURES = (
    (128, b"DICM", "a DICOM file", "convert it to 16-bit PNG, for example with pydicom, and see data.white"),
    (0, b"SIMPLE  =", "a FITS file", "save its images as 16-bit PNG"),
    (0, b"%PDF", "a PDF file", CONVERT),
    (0, b"%!PS", "a PostScript file", CONVERT),
    (4, b"ftypcrx ", "a camera's raw file", "convert it to TIFF or JPEG"),
    *((4, b"ftyp" + brand, "a HEIC image", CONVERT) for brand in HEIF_BRANDS),
    (4, b"ftypavi", "an AVIF image that OpenCV does not read", CONVERT),
    (4, b"ftyp", "a video", "save its frames as JPEG"),
    (0, b"8BPS", "a Photoshop file", CONVERT),
    (0, b"\xff\x0a", "a JPEG XL image", CONVERT),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image", CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", "save it as PNG or TIFF"),
    (0, b"\x89HDF", "an HDF5 file", "save its images as PNG or TIFF"),
    (0, b"MATLAB ", "a MATLAB file", "save its images as PNG or TIFF"),
    (344, b"n+1\0", "a NIfTI volume", "save its slices as 16-bit PNG"),
    (0, b"PK\x03\x04", "a ZIP archive", ARCHIVE),
    (0, b"\x1f\x8b", "a gzip file", ARCHIVE),
    (0, b"Rar!", "a RAR archive", ARCHIVE),
    (0, b"7z\xbc\xaf", "a 7z archive", ARCHIVE),
    (257, b"ustar", "a tar archive", ARCHIVE),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)", "save its frames as JPEG"),
    (8, b"AVI ", "a video (AVI)", "save its frames as JPEG"),
    (0, b"\0\5\x16\7", "the resource fork that macOS stores beside a file", "take the file without ._ in its name"),
)
TEXTS = (  # the beginning of a text, without case and leading blanks
    (("<svg",), "an SVG drawing", "render it as PNG"),
    (("<?xml", "<error"), "an XML document, perhaps the error of a server", AGAIN),
    (("{", "["), "JSON text, perhaps the error of a server", AGAIN),
)


def placeholder(data: bytes) -> str | None:
    """What stands in the place of a file of any kind, with what to do; None if nothing says so.

    Args:
        data: the file, or its first bytes.
    """
    begin = data[:400].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return next((f"{kind}: {fix}" for starts, kind, fix in PLACEHOLDERS if begin.startswith(starts)), None)


def foreign(data: bytes) -> str | None:
    """What the content of a file is, if that is not an image, with what to do; None if nothing says so."""
    if not data:
        return f"the file is empty: {AGAIN}"
    if (kind_and_fix := placeholder(data)) is not None:
        return kind_and_fix
    for start, signature, kind, fix in SIGNATURES:
        if data.startswith(signature, start):
            return f"{kind}: {fix}"
    if not data.strip(b"\0"):
        return f"nothing but {len(data)} zero bytes: {AGAIN}"
    return _text(data[:4000])


def _text(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start == 0 or error.start < len(data) - 3:  # else the last character is cut in two
            return None
        text = data[: error.start].decode("utf-8-sig")
    if not all(sign.isprintable() or sign.isspace() for sign in text):
        return None
    begin = text.lstrip().lower()
    if "<svg" in begin and begin.startswith(("<?xml", "<!--", "<!doctype svg")):
        return "an SVG drawing: render it as PNG"
    for beginnings, kind, fix in TEXTS:
        if begin.startswith(beginnings):
            return f"{kind}: {fix}"
    return f"text that begins with {text.strip()[:40]!r}: {AGAIN}"
