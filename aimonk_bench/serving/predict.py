"""Predictions of new images by a bundle: decoded as for training, in threads beside the network, in input order."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from aimonk_bench.backbones.encoder import Encoder
from aimonk_bench.backbones.threads import in_order
from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.progress import Progress
from aimonk_bench.serving import pixels
from aimonk_bench.serving.graph import BATCH, Classifier, open_classifier
from aimonk_bench.serving.images import Item

if TYPE_CHECKING:
    from PIL.Image import Image


NOT_FINITE = "the network gives a number that is not finite"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a bundle says of one image.

    Attributes:
        image: its name: the path as it was given, the file of a Pillow image, else ``[number]`` in input order.
        error: why there is no prediction; None where there is one.
        attributes: [A] names.
        thresholds: [A] float64, on the probability scale.
        logits: [A] float32; NaN where there is an error.
    """

    image: str
    error: str | None
    attributes: tuple[str, ...]
    thresholds: Array
    logits: Array

    @property
    def probabilities(self) -> Array:
        """[A] float64; NaN where there is an error."""
        return sigmoid(self.logits)

    @property
    def decisions(self) -> Array:
        """[A] bool, probability > threshold; they mean nothing where there is an error."""
        return np.asarray(self.probabilities > self.thresholds)


def predict(
    bundle: Path,
    images: Iterable[str | os.PathLike[str] | np.ndarray | Image] | str | os.PathLike[str],
    *,
    thresholds: Mapping[str, float] | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Iterator[Prediction]:
    """Predict images, see `predicted`.

    Args:
        bundle: a folder that `export` wrote, or its ``model.onnx`` alone.
        images: those of `predicted`, or one path.
        thresholds: other ones than the bundle's for some attributes, on the probability scale.
        batch: images that the network takes at once; 8 suits the caches of a CPU.
        progress: called with ("predict", images done, images in all or None where that is not known).

    Raises:
        UserError: the bundle cannot be used, thresholds are wrong, or, in the iteration, an image is none of these.
    """
    classifier = open_classifier(Path(bundle)).at(thresholds or {})
    return predicted(classifier, [images] if isinstance(images, str | os.PathLike) else images, batch, progress)


def predicted(
    classifier: Classifier,
    images: Iterable[str | os.PathLike[str] | np.ndarray | Image],
    batch: int,
    progress: Progress | None = None,
) -> Iterator[Prediction]:
    """One prediction for each image, in their order.

    An image that cannot be read has a prediction with its `error`. The images are drawn as they are needed, a few
    batches ahead of the predictions. Batch size and number of threads change no decision but within the float32
    rounding of a logit.

    Args:
        images: paths of files; arrays [H, W, 3] uint8, RGB; Pillow images of any mode.

    Raises:
        UserError: in the iteration, an image is none of these.
    """
    # outside its block, because nothing may be redirected while the caller works
    encoder, messages = classifier.encoder(batch), LibraryMessages()
    items = (pixels.item(image, number, classifier) for number, image in enumerate(images))

    def predictions() -> Generator[Prediction]:
        total = len(images) if isinstance(images, Sized) else None
        try:
            yield from reported(stream(classifier, encoder, items, messages), total, progress)
        finally:
            messages.tell()

    return predictions()


def stream(
    classifier: Classifier, encoder: Encoder, items: Iterable[Item | None], messages: LibraryMessages
) -> Generator[Prediction]:
    """The prediction of each item, in order.

    Args:
        encoder: of the classifier.
        items: None says that the next one may take long; the predictions of those before it come first.
        messages: told what the files are like and what libraries say of them.
    """
    cv2.setNumThreads(1)  # otherwise OpenCV starts threads of its own in each of ours
    work = functools.partial(_predicted, classifier=classifier, encoder=encoder, messages=messages)
    with contextlib.closing(in_order(work, _batches(items, encoder.batch_size))) as results:
        yield from itertools.chain.from_iterable(results)


def reported(predictions: Iterable[Prediction], total: int | None, progress: Progress | None) -> Generator[Prediction]:
    """The same predictions, counted."""
    done = 0
    for done, prediction in enumerate(predictions, start=1):
        if progress:
            progress("predict", done, total)
        yield prediction
    if progress and done != total:
        progress("predict", done, done)


def _batches(items: Iterable[Item | None], size: int) -> Iterator[list[Item] | None]:
    """Items in lists of ``size``; before a None that comes through, the items so far."""
    batch: list[Item] = []
    for item in items:
        if item is not None:
            batch.append(item)
        if batch and (item is None or len(batch) == size):
            yield batch
            batch = []
        if item is None:
            yield None
    if batch:
        yield batch


def _predicted(
    items: Sequence[Item], classifier: Classifier, encoder: Encoder, messages: LibraryMessages
) -> list[Prediction]:
    """One batch, in one thread: decoded and then given to the network."""
    errors: list[str | None] = []
    readable: list[np.ndarray] = []
    for item in items:
        image = item.pixels
        error = item.error
        if item.path is not None:
            try:
                image = _decoded(item.name, item.path, classifier, messages)
            except UndecodableImage as undecodable:
                error = undecodable.reason
        if image is not None:
            readable.append(image)
        errors.append(error)
    logits = np.full((len(items), len(classifier.attributes)), np.nan, np.float32)
    if readable:
        logits[[error is None for error in errors]] = encoder(np.stack(readable))
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    return [
        Prediction(
            image=item.name,
            error=error or (None if finite[n] else NOT_FINITE),
            attributes=classifier.attributes,
            thresholds=classifier.thresholds,
            logits=logits[n] if finite[n] else np.full_like(logits[n], np.nan),
        )
        for n, (item, error) in enumerate(zip(items, errors, strict=True))
    ]


def _decoded(name: str, path: Path, classifier: Classifier, messages: LibraryMessages) -> np.ndarray:
    notes: list[str] = []
    image = messages.of(name, functools.partial(pixels.of_file, path, classifier, notes))
    for note in dict.fromkeys(notes):
        messages.add(name, note)
    return image
