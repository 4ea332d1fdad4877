"""Folders of data sets that the program writes: a killed call never looks like a finished one."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

CLAIM = "made_by_aimonk_bench.json"


@contextmanager
def prepared(out: Path, description: Mapping[str, object], labels: str) -> Iterator[Path | None]:
    """Claim ``out`` for a data set; the label file gets its name last, which marks the folder as complete.

    Args:
        out: a folder that is missing, empty, or has been claimed with an equal ``description``.
        description: what makes one data set differ from another; written to the folder first.
        labels: name of the label file. The body writes it to the path that this yields.

    Yields:
        Where to write the label file, or None if the folder is complete already.

    Raises:
        UserError: ``out`` is a file, or holds something else.
    """
    claim = out / CLAIM
    text = json.dumps(description, indent=1) + "\n"
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: found a file, expected a folder to write to")
    if out.is_dir() and any(out.iterdir()) and not (claim.is_file() and claim.read_text("utf-8") == text):
        raise UserError(f"{out}: found a folder with other content, expected a new, an empty, or the same set's folder")
    if (out / labels).is_file():
        logger.info("%s holds this data set already", out)
        yield None
        return
    out.mkdir(parents=True, exist_ok=True)
    claim.write_text(text, "utf-8")
    unfinished = out / (labels + ".unfinished")
    yield unfinished
    os.replace(unfinished, out / labels)
