"""Predictions of all images that a command line means, as they come."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.errors import UserError, count
from aimonk_bench.progress import Progress
from aimonk_bench.serving.graph import Classifier
from aimonk_bench.serving.images import STDIN, Listing, number_of_images, unreadable
from aimonk_bench.serving.predict import Prediction, reported, stream

logger = logging.getLogger(__name__)


@dataclass
class FilePredictions:
    """A prediction of each image, in order; those of names on standard input as soon as they are predicted.

    Iterate it once. What libraries write to the descriptor of stderr is caught until then, and told at the end.

    Args:
        classifier: of the bundle.
        words: files, folders, globs, and ``-`` for names on standard input.
        batch: images that the network takes at once.
        progress: called with ("predict", images done, images in all or None where that is not known).

    Attributes:
        failed: images so far without a prediction.
    """

    classifier: Classifier
    words: Sequence[str]
    batch: int
    progress: Progress | None = None
    failed: int = 0

    def __iter__(self) -> Iterator[Prediction]:
        """The predictions.

        Raises:
            UserError: the words mean no image, or standard input cannot be read.
        """
        listing = Listing(self.words, _stdin() if STDIN in self.words else None)
        encoder = self.classifier.encoder(self.batch)
        total = None if self.progress is None else number_of_images(self.words)
        with (
            LibraryMessages() as messages,
            contextlib.closing(stream(self.classifier, encoder, listing, messages)) as predictions,
        ):
            for prediction in reported(predictions, total, self.progress):
                self.failed += prediction.error is not None
                yield prediction
            if not listing.total:
                raise UserError(listing.empty)
        for text in listing.empty:
            logger.warning("%s", text)
        if listing.note:
            logger.info("%s", listing.note)
        if self.failed:
            images = count(listing.total, "image")
            logger.warning("%d of %s without a prediction: their rows say why", self.failed, images)


def _stdin() -> BinaryIO:
    """Standard input, apart from `sys.stdin`, which Python would wait for at its end while a thread still reads it."""
    if sys.stdin is None:  # another file may have its descriptor by now
        raise unreadable(None)
    return open(0, "rb", closefd=False)
