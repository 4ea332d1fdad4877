"""Encoding on a Ray cluster: workers encode shards of images, and the driver writes their rows into the store."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from aimonk_bench.backbones.batches import Batch
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.encoder_record import MODEL, read_record
from aimonk_bench.backbones.feature_table import Todo
from aimonk_bench.backbones.features import Shards
from aimonk_bench.backbones.shards import Shard, encode_shard
from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.plugins import Plugin
from aimonk_bench.suite.ray_workers import RayWorkers

SHARD = 256  # images at most, so that a worker that ends costs seconds
AHEAD = 2  # shards for each worker whose rows may wait


def shards_on_ray(workers: RayWorkers, plugins: Sequence[Plugin]) -> Shards:
    """What encodes shards of images on a cluster.

    Args:
        workers: of the cluster.
        plugins: of the config, one of which may define the network; workers execute them.
    """
    return partial(_encode, workers, plugins)


def _encode(
    workers: RayWorkers,
    plugins: Sequence[Plugin],
    parts: Sequence[Todo],
    transform: TransformConfig,
    spec: EncoderSpec,
    folder: Path,
    messages: LibraryMessages,
) -> Iterator[Batch]:
    """Encode batches of images, in their order.

    Args:
        workers, plugins: as above.
        parts: the images of each batch, with the keys of their views.
        transform: draws the views.
        spec: the encoder.
        folder: of the encoder in the feature store, with its record.
        messages: get what libraries say of the images.

    Raises:
        WorkerLost: a shard ended its worker each time that it was tried.
        RunFailed: an image file changed, or a machine has other versions.
    """
    record = read_record(folder)
    assert record is not None  # written when the encoder was opened
    model = (folder / MODEL).read_bytes() if record.engine == "onnxruntime" else b""
    content, count, cpus = workers.put(model), workers.layout.count, workers.layout.cpus
    images = max((len(part) for part in parts), default=1)
    size = max(1, min(SHARD // images, math.ceil(len(parts) / (AHEAD * count))))
    waiting: deque[Future[Shard]] = deque()
    for start in range(0, len(parts), size):
        shard = partial(encode_shard, parts[start : start + size], transform, spec, record, content, cpus, plugins)
        waiting.append(workers.submit(shard, "encoding", limited=False))
        if len(waiting) > AHEAD * count:
            yield from _batches(workers, waiting.popleft(), messages)
    while waiting:
        yield from _batches(workers, waiting.popleft(), messages)


def _batches(workers: RayWorkers, future: Future[Shard], messages: LibraryMessages) -> list[Batch]:
    """The batches of a shard, when it is done."""
    while not future.done():
        workers.pump()
    shard = future.result()
    for text, name, number in shard.messages:
        messages.add(name, text, number)
    return shard.batches
