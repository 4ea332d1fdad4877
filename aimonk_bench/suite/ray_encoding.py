"""Encoding on a Ray cluster: workers encode shards of images, and the driver writes their rows into the store.

A worker process of this machine encodes the first batch, with which the network is exported.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from functools import partial

from aimonk_bench.backbones import features
from aimonk_bench.backbones.batches import Batch
from aimonk_bench.backbones.encoder_record import MODEL, read_record
from aimonk_bench.backbones.feature_table import Todo
from aimonk_bench.backbones.features import Request
from aimonk_bench.backbones.shards import Shard, encode_shard
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.errors import RunFailed
from aimonk_bench.plugins import Plugin
from aimonk_bench.progress import Progress
from aimonk_bench.suite import containment
from aimonk_bench.suite.ray_workers import RayWorkers
from aimonk_bench.suite.workers import Workers

SHARD = 256  # images at most, so that a worker that ends costs seconds
AHEAD = 2  # shards for each worker whose rows may wait


def encode_missing(
    workers: RayWorkers,
    pool: Workers,
    plugins: Sequence[Plugin],
    request: Request,
    progress: Progress | None = None,
) -> dict[str, str]:
    """`features.encode_missing` on a cluster.

    Args:
        workers: of the cluster.
        pool: a worker process of this machine, which encodes the first batch; that decides the engine.
        plugins: of the config, one of which may define the network; workers execute them.

    Raises:
        WorkerLost: a worker ended, or stood still, each time that it encoded.
        ClaimLost, UserError, RunFailed: as of `features.encode_missing`.
    """
    reasons = containment.encode_missing(pool, plugins, request, only_first=True)
    if all(image.sha256 in reasons for image in request.images):
        return reasons
    encode = partial(_encode, workers, plugins)
    with containment.lost_while_encoding():
        return reasons | features.encode_missing(request, progress, encode=encode)


def _encode(
    workers: RayWorkers,
    plugins: Sequence[Plugin],
    todo: Todo,
    request: Request,
    messages: LibraryMessages,
) -> Generator[Batch]:
    """Encode images in their order.

    Args:
        workers, plugins: as above.
        todo: the images, with the keys of the views that they lack.
        request: whose transform draws the views, and whose encoder is used.
        messages: get what libraries say of the images.

    Raises:
        WorkerLost: a shard ended its worker each time that it was tried.
        RunFailed: an image file changed, or a machine has other versions.
    """
    record = read_record(request.folder)
    if record is None:  # written with the first batch
        raise RunFailed(f"{request.folder}: another process has made it anew; fix: the same command again")
    parts = request.batches(todo)
    model = (request.folder / MODEL).read_bytes() if record.engine == "onnxruntime" else b""
    content, count, cpus = workers.put(model), workers.layout.count, workers.layout.cpus
    images = max(map(len, parts))
    size = max(1, min(SHARD // images, math.ceil(len(parts) / (AHEAD * count))))
    waiting: deque[Future[Shard]] = deque()
    try:
        for start in range(0, len(parts), size):
            batches = parts[start : start + size]
            shard = partial(encode_shard, batches, request.transform, request.spec, record, content, cpus, plugins)
            limit = containment.STANDSTILL * (1 + math.ceil(len(batches) / cpus))  # building, and batches
            waiting.append(workers.submit(shard, "encoding", at_least=limit))
            if len(waiting) > AHEAD * count:
                yield from _batches(workers, waiting.popleft(), messages)
        while waiting:
            yield from _batches(workers, waiting.popleft(), messages)
    finally:
        workers.withdraw(waiting)  # where one failed


def _batches(workers: RayWorkers, future: Future[Shard], messages: LibraryMessages) -> list[Batch]:
    """The batches of a shard, when it is done."""
    while not future.done():
        workers.pump()
    shard = future.result()
    for text, name, number in shard.messages:
        messages.add(name, text, number)
    return shard.batches
