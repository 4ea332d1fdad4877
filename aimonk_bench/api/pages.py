"""Pages about finished work that open in a browser and can be sent to anybody."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aimonk_bench import arguments
from aimonk_bench.api.progress import Report, Reporter
from aimonk_bench.api.results import Result, load
from aimonk_bench.errors import UserError, sentence
from aimonk_bench.records.files import write_text

logger = logging.getLogger(__name__)

FILE = "report.html"
Source = Result | str | os.PathLike[str]


def report(
    source: Source | Sequence[Source],
    out: str | os.PathLike[str] | None = None,
    *,
    images: bool = True,
    progress: Report = False,
) -> Path:
    """Write one HTML file about a run, a suite or several of them, as `aimonk-bench report` does.

    Args:
        source: a run, a suite, the folder of one, or a list of these.
        out: the file; default ``report.html`` in the folder of the first source.
        images: False leaves thumbnails of images out.
        progress: as for `aimonk_bench.run`.

    Returns:
        The file.

    Raises:
        UserError: there is no source, an argument is of another type, a file of a run is missing or damaged, or the
            page cannot be written.
    """
    from aimonk_bench.backbones.features import FeatureStore
    from aimonk_bench.backbones.hash_store import stored_hashes
    from aimonk_bench.report.build import build

    images, reporter = arguments.flag("images", images), Reporter(progress)
    sources = [source] if isinstance(source, Result | str | os.PathLike) else source
    if not isinstance(sources, list | tuple):
        raise arguments.wrong("source", source, "a run, a suite, the folder of one, or a list of these")
    if not sources:
        raise UserError("report: found no folder, expected one that `run` or `suite` wrote")
    results = [one if isinstance(one, Result) else load(one) for one in sources]
    path = results[0].folder / FILE if out is None else arguments.path("out", out, "a file for the page, or None")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file such as {path / FILE}")
    if path.exists() and path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{path}: exists and is no .html file; name another file with -o")
    with reporter as tell:
        page = build(
            [result._figures for result in results], partial(stored_hashes, FeatureStore().root), tell, images=images
        )
    for note in page.notes:
        logger.warning("%s", note)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page.html)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {sentence(error)}; name another file with -o") from error
    return path
