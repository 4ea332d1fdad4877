"""What `aimonk-bench predict` prints: a row for each image as it is predicted, or the figures on new labels."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from aimonk_bench.api import bundles
from aimonk_bench.console import ProgressBar, for_stream, output
from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

Form = Literal["csv", "jsonl"]


def write_rows(bundle: Path, words: Sequence[str], form: Form, out: Path | None, options: Mapping[str, Any]) -> bool:
    """Write a row for each image; those of names on standard input as soon as their images are predicted.

    Args:
        words: files, folders, globs, and ``-`` for names on standard input.
        out: a file; None is standard output, whose reader may leave: then the rest is not predicted.
        options: of the API: thresholds, batch.

    Returns:
        Whether every image so far has a prediction, or the reader has left.

    Raises:
        UserError: bundle or options are wrong, the words mean no image, or the file cannot be written.
    """
    with output(out) as file, _progress(shown=out is not None or not file.isatty()) as progress:
        predictions = bundles.stream(bundle, words, progress=progress, **options)
        for line in bundles.lines(predictions, form):
            file.write(for_stream(file, line))
            if out is None:
                file.flush()
                if getattr(file, "ended", False):
                    return True
    return predictions.failed == 0


def write_scores(
    bundle: Path, words: Sequence[str], labels: Path, form: Form | None, out: Path | None, options: Mapping[str, Any]
) -> bool:
    """Score a bundle on new labelled images, and write the figures.

    Args:
        words: the folder of the images.
        labels: a label file, or a YAML file that says how one is to be read.
        form: None is a table for reading, in a file CSV.
        options: of the API: thresholds, batch.

    Returns:
        Whether every image that the label file names was predicted.

    Raises:
        UserError: it is not one folder, or bundle, labels, options or file cannot be used.
    """
    if len(words) != 1 or not Path(words[0]).is_dir():
        raise UserError(
            f"PATH: found {' '.join(words)}, expected one folder with --labels: that of the labelled images"
        )
    with output(out) as file:
        with ProgressBar() as progress:
            scores = bundles.score(bundle, labels, words[0], progress=progress, **options)
        if form is None and out is None:
            scores.render(Console(file=file))
        else:
            file.write(for_stream(file, scores.to_text(form or "csv")))
    return scores.skipped.empty


@contextlib.contextmanager
def _progress(*, shown: bool) -> Iterator[ProgressBar | None]:
    """The progress on stderr, unless rows on the same terminal show it."""
    if not (shown and logger.isEnabledFor(logging.INFO)):
        yield None
        return
    with ProgressBar() as progress:
        yield progress
