"""Images encoded by another process: batches in, batches with features out; nothing of the feature store is read."""

from __future__ import annotations

import functools
import json
import math
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones.batches import Batch, decoded_batch, in_threads
from aimonk_bench.backbones.encoder import Encoder, EncoderSpec
from aimonk_bench.backbones.encoder_record import MODEL, Record, write_record
from aimonk_bench.backbones.feature_table import Todo
from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.errors import RunFailed
from aimonk_bench.plugins import Plugin, executed


@dataclass(frozen=True, eq=False)
class Shard:
    """What encoding some batches gives.

    Attributes:
        batches: in their order.
        messages: what libraries said of the images: text, the name of the first image, number of such messages.
    """

    batches: list[Batch]
    messages: list[tuple[str, str, int]]


def encode_shard(
    parts: Sequence[Todo],
    transform: TransformConfig,
    spec: EncoderSpec,
    record: Record,
    model: bytes,
    count: int,
    plugins: Sequence[Plugin] = (),
) -> Shard:
    """Decode and encode batches of images.

    Args:
        parts: the images of each batch, with the keys of their views.
        transform: draws the views.
        spec: the encoder.
        record: of the encoder, whose engine is used.
        model: the exported network; empty where the engine is torch, which builds it from its weights.
        count: of threads.
        plugins: of the config, one of which may define the network.

    Raises:
        RunFailed: an image file changed, or this machine has other versions than the one that made the record.
    """
    _check_versions(spec, record)
    cv2.setNumThreads(1)  # otherwise OpenCV starts threads of its own in each of ours
    with executed(plugins), LibraryMessages(tell=False) as messages:
        encoder = _encoder(_Opening(spec, record, model))
        jobs = (functools.partial(decoded_batch, part, transform, spec, messages) for part in parts)
        batches = list(in_threads(jobs, encoder, spec, count))
    for batch in batches:
        batch.seconds = math.nan  # not of the machine whose store is written
    return Shard(batches, list(messages.told.values()))


@dataclass(frozen=True)
class _Opening:
    """What an encoder is opened from; two are equal where the encoders are."""

    spec: EncoderSpec
    record: Record
    model: bytes

    def __hash__(self) -> int:
        return hash(self.spec.digest)


@functools.lru_cache(maxsize=1)  # the shards of an encoder follow one another
def _encoder(opening: _Opening) -> Encoder:
    with tempfile.TemporaryDirectory(prefix="aimonk-bench-") as name:
        folder = Path(name)
        write_record(folder, opening.record)
        if opening.model:
            (folder / MODEL).write_bytes(opening.model)
        return encoders.open_encoder(
            opening.spec, folder, np.zeros((1, opening.spec.size, opening.spec.size, 3), np.uint8)
        )


def _check_versions(spec: EncoderSpec, record: Record) -> None:
    """Refuse to encode where versions differ, as rows would depend on who encoded them."""
    here = json.loads(
        json.dumps(replace(spec).identity)
    )  # a new one is computed on this machine, with lists for tuples
    differing = [
        f"{key} (found {here.get(key)}, expected {value})"
        for key, value in json.loads(json.dumps(record.identity)).items()
        if here.get(key) != value
    ]
    if differing:
        raise RunFailed(
            f"{platform.node()} encodes otherwise than the machine of the command: {', '.join(differing)}; "
            "fix: the same packages on every machine"
        )
