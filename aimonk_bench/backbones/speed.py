"""How many images a second an encoder encodes on this machine: measured once, while it encodes, and kept in the store.

The time of decoding and resizing is left out, and on a CPU the time in which other processes had the core, so that the
figure depends on the network and the machine alone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aimonk_bench.backbones.encoder import POOLED, EncoderSpec
from aimonk_bench.backbones.encoder_record import read_record, write_record
from aimonk_bench.errors import UserError
from aimonk_bench.records.environment import cores

TIMED = 4  # full batches of each thread that give a speed

DECIDES = ("network", "boundary", "size", "engine", "device")  # what the speed and the width of a row depend on

Timed = tuple[int, float]  # images of a batch, and the seconds in which one thread encoded them


def clock(spec: EncoderSpec) -> Callable[[], float]:
    """The clock by which a thread times a batch: its own CPU seconds, since an engine on a CPU computes in its thread.

    Of a GPU these would be the seconds of waiting for it, so there it is the clock on the wall.
    """
    return time.thread_time if spec.device_type == "cpu" else time.perf_counter


def keep(folder: Path, spec: EncoderSpec, timed: Sequence[Timed]) -> None:
    """Write the images per second into ``encoder.json``, unless they stand there or too few full batches were timed.

    With fewer batches some threads have nothing to do, and the others run faster than in a long encoding.

    Args:
        folder: of the encoder in the feature store; the caller holds its claim.
        timed: the batches; the first one, which warms the engine up, does not count, nor do padded ones, and those of
            other machines, whose seconds are NaN.
    """
    record = read_record(folder)
    threads = cores() if spec.device_type == "cpu" else 1  # that encode at a time
    full = [(images, s) for images, s in timed[1:] if images % spec.batch_size == 0 and not math.isnan(s)]
    if record is None or record.images_per_second is not None or len(full) < TIMED * threads or spec.freeze == "none":
        return
    images, seconds = map(sum, zip(*full, strict=True))
    write_record(folder, replace(record, images_per_second=round(threads * images / seconds, 2)))


def speeds(root: Path) -> dict[tuple[str, int], float]:
    """(name in timm, image size) -> images per second, the highest of the encoders of whole networks in a store.

    Encoders of another version of timm are left out, and damaged ones, which encoding reports.
    """
    version = importlib.metadata.version("timm")
    highest: dict[tuple[str, int], float] = {}
    for file in root.glob("features/*/encoder.json"):
        with contextlib.suppress(UserError):
            record = read_record(file.parent)
            if record is None or record.images_per_second is None or record.identity["boundary"] != POOLED:
                continue
            name, _, made_with = record.identity.get("network", "").partition(", timm ")
            if made_with == version:
                key = name, record.identity["size"]
                highest[key] = max(record.images_per_second, highest.get(key, 0.0))
    return highest


@dataclass(frozen=True)
class Measured:
    """What was measured of an encoder, from rows that it or one with other weights encoded; None: nothing.

    Attributes:
        features: D, of a stored row.
        images_per_second: the highest that was measured.
    """

    features: int | None
    images_per_second: float | None


def measured(root: Path, spec: EncoderSpec) -> Measured:
    """The width and the speed of the encoders in a store that do the same work as this one.

    They may differ in weights, dtype and decoding. Damaged ones are left out; encoding reports them.
    """
    features, speeds = None, []
    for file in root.glob("features/*/encoder.json"):
        with contextlib.suppress(UserError):
            record = read_record(file.parent)
            if record is None or any(record.identity.get(key) != spec.identity.get(key) for key in DECIDES):
                continue
            features = record.features
            speeds += [record.images_per_second] if record.images_per_second is not None else []
    return Measured(features, max(speeds, default=None))
