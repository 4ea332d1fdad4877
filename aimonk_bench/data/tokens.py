"""What a cell of a label file looks like: a number, a common spelling of a label, the name of an image file."""

from __future__ import annotations

import re

from aimonk_bench.config.fields import number_of

SPELLINGS = {  # lower case; a token that only looks like a label is never read as one: `data.values` declares it
    "positive": ("yes", "y", "true", "t", "present", "positive", "pos"),
    "negative": ("no", "n", "false", "f", "absent", "negative", "neg"),
    "missing": (
        *(
            "",
            "na",
            "n/a",
            "n.a.",
            "#n/a",
            "<na>",
            "nan",
            "none",
            "null",
            "nil",
            "missing",
            "empty",
            "blank",
            "-",
            "--",
        ),
        *("?", "unknown", "unk", "undefined", "uncertain", "not mentioned", "not available"),
    ),
}
STATE_OF_SPELLING = {spelling: state for state, spellings in SPELLINGS.items() for spelling in spellings}
# Of files that an image name without suffix may mean; a text file or a mask as .npy of the same stem is none of them.
IMAGE_SUFFIX = re.compile(
    r"\.(jpe?g?|jfif|png|bmp|dib|gif|tiff?|webp|jp2|j2k|p[gpbn]m|pfm|hdr|exr|avif|heic|heif|dcm)$", re.IGNORECASE
)


def decimal_of(token: str) -> float | None:
    """The number that a token writes with a point or a comma, or None."""
    return number_of(token.replace(",", "."))


def spelling_of(token: str) -> str | None:
    """The state, positive, negative or missing, that a token commonly spells: a word, 1 or 0."""
    number = decimal_of(token)
    if number is None:
        return STATE_OF_SPELLING.get(token.casefold())
    return {1.0: "positive", 0.0: "negative"}.get(number)


def is_value(token: str) -> bool:
    """Whether a token is a number or a common spelling of a label: the cells of a label column are."""
    return decimal_of(token) is not None or token.casefold() in STATE_OF_SPELLING


def is_missing(token: str) -> bool:
    """Whether a token commonly spells a missing label, as ``NA`` and an empty cell do."""
    return STATE_OF_SPELLING.get(token.casefold()) == "missing"


def is_image_file(token: str) -> bool:
    """Whether a token ends like the name of an image file."""
    return IMAGE_SUFFIX.search(token) is not None
