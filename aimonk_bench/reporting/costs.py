"""What a suite will take, in words: what is encoded, the size of the store, the heads, the hours, the memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aimonk_bench.errors import UserError, count
from aimonk_bench.records.files import bytes_text

HOUR = 3600.0


@dataclass(frozen=True)
class EncodingCost:
    """The rows that an encoder has to make.

    Attributes:
        network: its name, image size and boundary, for messages.
        images: distinct images that lack rows.
        rows: images x views.
        bytes: of the rows; None where their width is not known before the network is built.
        images_per_second: rows that all threads together encode, without decoding; None where it was not measured.
        is_network: False for pixels, which are decoded only.
    """

    network: str
    images: int
    rows: int
    bytes: int | None
    images_per_second: float | None
    is_network: bool = True

    @property
    def seconds(self) -> float | None:
        """Without decoding; None where it is not known."""
        if not (self.rows and self.is_network):
            return 0.0
        return None if self.images_per_second is None else self.rows / self.images_per_second


@dataclass(frozen=True)
class TrainingCost:
    """The training of runs.

    Attributes:
        runs: number of runs.
        heads: runs x folds x seeds x tuned settings x stages.
        networks: of these heads those with trainable layers below them.
        seconds: at most, one run after another, of the runs whose kind of training was measured.
        measured: the number of these runs.
    """

    runs: int
    heads: int
    networks: int
    seconds: float
    measured: int


@dataclass(frozen=True)
class TensorCost:
    """A tensor that is in memory at once: what it holds, its shape and its size."""

    name: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Costs:
    """What is left to do of a suite.

    Attributes:
        encodings: one for each encoder.
        training: of all runs.
        tensor: the largest one; None if no run can begin.
        are_counted: the images were hashed, so that those in the store are not counted again.
        free_bytes: on the disk of the feature store.
    """

    encodings: tuple[EncodingCost, ...]
    training: TrainingCost
    tensor: TensorCost | None
    are_counted: bool
    free_bytes: int

    @property
    def seconds(self) -> float:
        """Of everything whose speed was measured."""
        return sum(encoding.seconds or 0.0 for encoding in self.encodings) + self.training.seconds

    @property
    def unmeasured(self) -> list[str]:
        """What is not in `seconds`, because its speed was not measured on this machine yet."""
        parts = [f"encoding with {encoding.network}" for encoding in self.encodings if encoding.seconds is None]
        rest = self.training.runs - self.training.measured
        return parts + ([f"the training of {count(rest, 'run')}"] if rest else [])


def duration(seconds: float) -> str:
    """Seconds for reading.

    >>> duration(0.26), duration(75), duration(5400), duration(360_000)
    ('0.26 s', '75 s', '1.5 h', '100 h')
    """
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < HOUR else f"{seconds / HOUR:.3g} h"


def lines(costs: Costs) -> list[str]:
    """What `validate` prints of it."""
    return [
        *map(_encoding, costs.encodings),
        *([] if costs.are_counted else ["  (images of the store are not left out: the images are not hashed here)"]),
        _store(costs),
        _training(costs.training),
        *_largest(costs.tensor),
        _total(costs),
    ]


def _encoding(cost: EncodingCost) -> str:
    if not cost.rows:
        return f"to encode: nothing with {cost.network}; every image is in the feature store"
    work = "encode" if cost.is_network else "decode"
    views = f", {cost.rows} views" if cost.rows > cost.images else ""
    what = f"to {work}: {count(cost.images, 'image')}{views} with {cost.network}"
    if not cost.is_network:
        return what
    if cost.seconds is None:
        return f"{what}; its speed is not measured yet on this machine"
    unit = "views" if views else "images"
    speed = f"{cost.images_per_second:.3g} {unit} a second, the fastest measured on this machine"
    return f"{what}; {duration(cost.seconds)} at {speed}, and decoding"


def _store(costs: Costs) -> str:
    sizes = [encoding.bytes for encoding in costs.encodings]
    total = sum(size for size in sizes if size is not None)
    rest = "" if None not in sizes else ", and rows whose size is known when their network is built"
    fits = (
        ""
        if total <= costs.free_bytes
        else ", which is too little: name a folder on another disk by AIMONK_BENCH_CACHE"
    )
    return f"feature store: {bytes_text(total)} more{rest}; {bytes_text(costs.free_bytes)} are free{fits}"


def _training(cost: TrainingCost) -> str:
    networks = f", {cost.networks} of them on trainable layers" if cost.networks else ""
    what = f"to train: {count(cost.heads, 'head')} in {count(cost.runs, 'run')}{networks}"
    if not cost.measured:
        return f"{what}; the speed is not measured yet on this machine"
    part = "" if cost.measured == cost.runs else f" for {cost.measured} of the runs; the others are not measured yet"
    return f"{what}; at most {duration(cost.seconds)} one after another{part}"


def _largest(tensor: TensorCost | None) -> list[str]:
    if tensor is None:
        return []
    shape = " x ".join(map(str, tensor.shape))
    return [f"largest tensor in memory: {tensor.name} [{shape}], {bytes_text(tensor.bytes)}; activations not counted"]


def _total(costs: Costs) -> str:
    rest = f", without {' and '.join(costs.unmeasured)}" if costs.unmeasured else ""
    if costs.unmeasured and not costs.seconds:
        return f"in all: not known yet; not measured on this machine: {' and '.join(costs.unmeasured)}"
    return f"in all: {duration(costs.seconds)}{rest}; decoding and statistics come on top"


def check_budget(costs: Costs, hours: float | None) -> list[str]:
    """Refuse what takes more hours than are allowed.

    Returns:
        Warnings: what the comparison leaves out.

    Raises:
        UserError: with the hours of each part, and what makes it smaller.
    """
    if hours is None:
        return []
    if costs.seconds <= hours * HOUR:
        missing = costs.unmeasured
        return [f"--budget-hours {hours:g} does not cover {' and '.join(missing)}: not measured yet"] if missing else []
    problems = [
        f"--budget-hours: found {hours:g}, expected at least {_hours(costs.seconds)} for this work, one run after "
        "another; fix: more hours, or less work:"
    ]
    problems += [
        f"  encoding {count(encoding.rows, 'view')} with {encoding.network}: {_hours(encoding.seconds)} hours; "
        "fix: a smaller backbone or transform.size, fewer flips in transform.train, fewer images"
        for encoding in costs.encodings
        if encoding.seconds
    ]
    if costs.training.seconds:
        problems.append(
            f"  training {count(costs.training.heads, 'head')} in {count(costs.training.runs, 'run')}: "
            f"{_hours(costs.training.seconds)} hours; fix: fewer suite.axes, train.seeds, split.folds, train.epochs or "
            "settings of tune"
        )
    raise UserError([*problems, *(f"  not measured yet, and not counted: {part}" for part in costs.unmeasured)])


def _hours(seconds: float) -> str:
    """Hours with three digits, rounded up, so that the number is enough.

    >>> _hours(3600), _hours(1), _hours(123_456)
    ('1', '0.000278', '34.3')
    """
    hours = seconds / HOUR
    step = 10.0 ** (math.floor(math.log10(hours)) - 2)
    return f"{math.ceil(round(hours / step, 6)) * step:.3g}"
