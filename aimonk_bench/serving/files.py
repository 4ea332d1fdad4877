"""Predictions of all images that a command line means, written as they come."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rich.console import Console

from aimonk_bench.console import Progress
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.errors import UserError, count, printable
from aimonk_bench.serving.graph import Classifier
from aimonk_bench.serving.images import STDIN, Listing, number_of_images, unreadable
from aimonk_bench.serving.predict import Prediction, reported, stream
from aimonk_bench.serving.rows import Form, lines, output

logger = logging.getLogger(__name__)


def predict_files(classifier: Classifier, words: Sequence[str], form: Form, out: Path | None, batch: int) -> bool:
    """Write a row for each image; those of names on standard input as soon as their images are predicted.

    Args:
        words: files, folders, globs, and ``-`` for names on standard input.
        out: a file; None is standard output, whose reader may leave: then the rest is not predicted.
        batch: images that the network takes at once.

    Returns:
        Whether every image so far has a prediction, or the reader has left.

    Raises:
        UserError: the words mean no image, or the file cannot be written.
    """
    listing, failed = Listing(words, _stdin() if STDIN in words else None), 0
    with (
        output(out) as file,
        _progress(shown=out is not None or not file.isatty()) as progress,
        LibraryMessages() as messages,
        contextlib.closing(stream(classifier, classifier.encoder(batch), listing, messages)) as predictions,
    ):
        total = None if progress is None else number_of_images(words)

        def counted() -> Iterator[Prediction]:
            nonlocal failed
            for prediction in reported(predictions, total, progress):
                failed += prediction.error is not None
                yield prediction

        for line in lines(counted(), form):
            file.write(line)
            if out is None:
                file.flush()
                if getattr(file, "ended", False):
                    return True
        if not listing.total:
            raise UserError(listing.empty)
    for text in listing.empty:
        logger.warning("%s", printable(text))
    if listing.note:
        logger.info("%s", listing.note)
    if failed:
        logger.warning("%d of %s without a prediction: their rows say why", failed, count(listing.total, "image"))
    return failed == 0


def score_files(
    classifier: Classifier, labels: Path, words: Sequence[str], form: Form | None, out: Path | None, batch: int
) -> bool:
    """Score a bundle on new labelled images, and write the figures.

    Args:
        words: the folder of the images.
        form: None is a table for reading, in a file CSV.

    Returns:
        Whether every image that the label file names was predicted.

    Raises:
        UserError: it is not one folder; see also `scoring.score`.
    """
    from aimonk_bench.serving import scoring  # imports pandas

    if len(words) != 1 or not Path(words[0]).is_dir():
        raise UserError(
            f"PATH: found {' '.join(words)}, expected one folder with --labels: that of the labelled images"
        )
    with output(out) as file:
        with Progress() as progress:
            scores = scoring.score(classifier, labels, Path(words[0]), batch, progress)
        if form is None and out is None:
            Console(file=file).print(scoring.table(scores))
        else:
            file.write(scoring.text(scores, form or "csv"))
    return scores.skipped == 0


def _stdin() -> BinaryIO:
    """Standard input, apart from `sys.stdin`, which Python would wait for at its end while a thread still reads it."""
    if sys.stdin is None:  # another file may have its descriptor by now
        raise unreadable(None)
    return open(0, "rb", closefd=False)


@contextlib.contextmanager
def _progress(*, shown: bool) -> Iterator[Progress | None]:
    """The progress on stderr, unless rows on the same terminal show it."""
    if not (shown and logger.isEnabledFor(logging.INFO)):
        yield None
        return
    with Progress() as progress:
        yield progress
