"""Batches of images: decoded, drawn in their views and encoded, by as many threads as there are cores."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

import numpy as np

from aimonk_bench.backbones import speed, threads
from aimonk_bench.backbones.encoder import Encoder, EncoderSpec
from aimonk_bench.backbones.feature_table import Todo
from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import decode
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.data.transforms import render
from aimonk_bench.errors import RunFailed


@dataclass
class Batch:
    """Images that one thread decodes and encodes.

    Attributes:
        count: number of images, decodable or not.
        names: (SHA-256, view key) of each view of each decodable image.
        pixels: uint8 [H, W, 3] of each name; emptied once they are encoded.
        features: [n, D] of the names.
        reasons: {SHA-256: reason} of each image that cannot be decoded.
        seconds: that encoding them took on this machine; NaN where it was another one.
    """

    count: int
    names: list[tuple[str, str]] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    features: np.ndarray | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def in_threads(
    jobs: Iterable[Callable[[], Batch]], encoder: Encoder, spec: EncoderSpec, count: int | None = None
) -> Generator[Batch]:
    """Encode what each of the jobs decodes, in their order.

    Args:
        jobs: decode a batch each.
        encoder: opened.
        spec: of the encoder.
        count: of threads; default one for each core.
    """
    now = speed.clock(spec)
    turn = contextlib.nullcontext() if spec.device_type == "cpu" else threading.Lock()

    def work(decode: Callable[[], Batch]) -> Batch:
        batch = decode()
        if batch.pixels:
            with turn:
                begun = now()
                batch.features = encoder(np.stack(batch.pixels))
                batch.seconds = now() - begun
            batch.pixels = []
        return batch

    results = threads.in_order(work, jobs, count)
    with threads.torch_threads(1), contextlib.closing(results):
        yield from results


def decoded_batch(todo: Todo, transform: TransformConfig, spec: EncoderSpec, messages: LibraryMessages) -> Batch:
    """All views of images, from one decode of each."""
    batch = Batch(len(todo))
    for image, keys in todo:
        notes: list[str] = []
        try:
            pixels = messages.of(image.image_id, functools.partial(_pixels, image, spec, notes))
        except UndecodableImage as error:
            batch.reasons[image.sha256] = str(error)
            continue
        for note in notes:
            messages.add(image.image_id, note)
        batch.names += [(image.sha256, key) for key in keys]
        batch.pixels += [render(pixels, image.sha256, key, transform) for key in keys]
    return batch


def _pixels(image: ImageFile, spec: EncoderSpec, notes: list[str]) -> np.ndarray:
    """The decoded image, uint8 [size, size, 3]; ``notes`` gets what a user should know of how it was read.

    Raises:
        UndecodableImage: with the reason.
        RunFailed: see `verified_bytes`.
    """
    data, fast = verified_bytes(image), spec.decode == "fast"
    return decode(data, spec.size, spec.weights.entry.interpolation, fast=fast, white=spec.white, notes=notes)


def verified_bytes(image: ImageFile) -> bytes:
    """The content of an image file.

    Raises:
        RunFailed: the file is not the one that was hashed.
    """
    try:
        data = image.path.read_bytes()
    except OSError as error:
        raise RunFailed(f"{image.path} cannot be read any more: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise RunFailed(f"{image.path} changed while it was in use")
    return data
