"""Where a run is wrong: which images the page shows, and what it says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, get_args

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.data.near_duplicates import MOST_BITS, Hashes, look_alike
from aimonk_bench.evaluation.audit import suspects
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import ROWS, Predictions, agree, sigmoid
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.progress import Progress
from aimonk_bench.records.run import RunRecord
from aimonk_bench.report.data_facts import images
from aimonk_bench.report.shortened import shortened
from aimonk_bench.report.thumbnails import ImageFolder, StoredHashes, Thumbnail
from aimonk_bench.reporting import frames
from aimonk_bench.reporting.frames import ErrorKind
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.words import number

PER_ATTRIBUTE = 12  # images of one kind and attribute
PER_KIND = 24  # of a kind whose attributes stand together
MOST_IMAGES = 240  # on a page
MOST_BYTES = 700_000  # of all thumbnails, as base64
CLASS = {True: "positive", False: "negative"}


class Kind(TypedDict):
    """What galleries of one kind show, for their heading."""

    kind: str
    heading: str
    note: str


KINDS = [
    Kind(kind=kind, heading=heading, note=note)
    for kind, heading, note in (
        (
            "false_positive",
            "Worst false positives",
            "labelled negative, decided positive; the farthest above the threshold first",
        ),
        (
            "false_negative",
            "Worst false negatives",
            "labelled positive, decided negative; the farthest below the threshold first",
        ),
        (
            "suspected",
            "Suspected label errors",
            "the label contradicts a confident score (Northcutt et al. 2021); this is no error rate",
        ),
        ("unknown", "Missing labels of which the run is surest", "no label; the probabilities nearest to 0 or 1"),
        ("disagreement", "Two runs disagree", "decided differently by two runs; the widest apart first"),
        (
            "near_duplicates",
            "Near duplicates with different labels",
            "two images that look alike, or are equal, with opposite labels",
        ),
    )
]


class Item(TypedDict):
    """One image or a pair: places in ``Galleries.images``, and what is said of it."""

    images: list[int]
    text: str


class Gallery(TypedDict):
    """Images of one kind: of one attribute, or of all where ``attribute`` is None; ``total`` is how many there are."""

    kind: str
    attribute: int | None
    total: int
    items: list[Item]


class Image(TypedDict):
    """One image: its labels (1, 0, None where missing), means over the seeds [A], and its thumbnail if there is one."""

    id: str
    labels: list[int | None]
    probabilities: Array
    thresholds: Array
    other: Array | None
    thumbnail: str | None
    width: int
    height: int


class Galleries(TypedDict):
    """The galleries of a run, and of its disagreement with another one; ``images`` are shared by all galleries."""

    run: str
    other: str | None
    kinds: list[Kind]
    galleries: list[Gallery]
    images: list[Image]


@dataclass(frozen=True, eq=False)
class Shown:
    """The images of a run in which each stands once, n of them.

    Attributes:
        ids: [n] names in the label file.
        labels: [n, A].
        test: [n] bool, whether the image is a test row.
        probabilities, thresholds: [n, A] means over the seeds.
    """

    ids: Array
    labels: Labels
    test: Array
    probabilities: Array
    thresholds: Array

    @classmethod
    def of(cls, predictions: Predictions, tuned: Thresholds) -> Shown:
        """The images of a run."""
        rows = images(predictions)
        return cls(
            ids=predictions.image_id[rows],
            labels=predictions.labels[rows],
            test=predictions.split[rows] == "test",
            probabilities=sigmoid(predictions.logits[:, rows]).mean(axis=0),
            thresholds=tuned.values[:, predictions.fold[rows]].mean(axis=0),
        )


@dataclass(frozen=True)
class Candidates:
    """What a gallery could show: rows of `Shown` with texts, the first the most telling; the rest is only counted."""

    kind: str
    attribute: int | None
    total: int
    items: Sequence[tuple[list[int], str]]


def galleries(summary: Summary, stored_hashes: StoredHashes, progress: Progress) -> tuple[Galleries | None, str]:
    """The galleries of the simplest run of the verdict, and a line on images that are not there.

    Args:
        stored_hashes: of images, so that only those of other images are computed.
        progress: called with ("near duplicates" or "thumbnails", images done, all).

    Raises:
        UserError: the image folder is gone.
    """
    if summary.statistics is None:
        return None, "No run finished."
    records = {record.status.id: record for record in summary.collection.comparable}
    record = records[summary.statistics.verdict.simplest]
    folder = ImageFolder.of(record)
    other = _other(summary, record, records)
    shown = Shown.of(record.predictions, record.thresholds)
    candidates = [
        *_errors(record, shown),
        *_suspected(shown, np.array(summary.statistics.signal.has_signal)),
        *_unknown(shown),
        *([] if other is None else _disagreement(record, other, shown)),
        *_near_duplicates(shown, folder.hashes(shown.ids.tolist(), stored_hashes, progress)),
    ]
    wanted = _within(candidates, MOST_IMAGES)
    rows = list(dict.fromkeys(row for candidate in wanted for item, _ in candidate.items for row in item))
    thumbnails = dict(zip(rows, folder.thumbnails(shown.ids[rows].tolist(), progress), strict=True))
    fitting = _within(wanted, MOST_BYTES, {row: _size(small) for row, small in thumbnails.items()})
    rows = list(dict.fromkeys(row for candidate in fitting for item, _ in candidate.items for row in item))
    place = {row: i for i, row in enumerate(rows)}
    others = None if other is None else Shown.of(other.predictions, other.thresholds).probabilities
    unreadable = sum(thumbnails[row] is None for row in rows)
    return Galleries(
        run=record.status.id,
        other=None if other is None else other.status.id,
        kinds=KINDS,
        galleries=[
            Gallery(
                kind=candidate.kind,
                attribute=candidate.attribute,
                total=candidate.total,
                items=[Item(images=[place[row] for row in item], text=text) for item, text in candidate.items],
            )
            for candidate in fitting
            if candidate.items
        ],
        images=[_image(shown, others, row, thumbnails[row]) for row in rows],
    ), (f"{unreadable} of {len(rows)} image files could not be read." if unreadable else "")


def _other(summary: Summary, record: RunRecord, records: dict[str, RunRecord]) -> RunRecord | None:
    """The run to compare decisions with: the selected one, else the baseline; None where no other has equal rows."""
    assert summary.statistics is not None
    for run_id in (summary.statistics.verdict.run, summary.collection.baseline):
        if run_id is not None and run_id != record.status.id and run_id in records:
            other = records[run_id]
            same = len(other.predictions.fold) == len(record.predictions.fold)
            if same and agree(other.predictions, record.predictions, *(name for name in ROWS if name != "seed")):
                return other
    return None


def _errors(record: RunRecord, shown: Shown) -> Iterator[Candidates]:
    """The worst errors of each kind and attribute."""
    row_of = {name: row for row, name in enumerate(shown.ids.tolist())}
    table = frames.errors((record.predictions, record.thresholds), n=None)
    for kind in get_args(ErrorKind):
        for a, name in enumerate(shown.labels.attributes):
            of_kind = table[(table["kind"] == kind) & (table["attribute"] == name)]
            first = of_kind.head(PER_ATTRIBUTE)
            texts = [f"probability {number(p)}, threshold {number(t)}" for p, t in _pairs(first)]
            items = [([row_of[image]], text) for image, text in zip(first["image"], texts, strict=True)]
            yield Candidates(kind, a, len(of_kind), items)


def _pairs(table: Any) -> Iterator[tuple[float, float]]:
    return zip(table["probability"].tolist(), table["threshold"].tolist(), strict=True)


def _suspected(shown: Shown, usable: Array) -> Iterator[Candidates]:
    """Labels of test rows that contradict the probabilities of heads that have not seen them."""
    rows = np.flatnonzero(shown.test)
    doubtful = suspects(shown.probabilities[rows], shown.labels[rows], usable)
    names = shown.labels.attributes
    columns = (doubtful.row, doubtful.attribute, doubtful.positive, doubtful.probability)
    items = [
        ([int(rows[row])], f"{names[a]}: labelled {CLASS[bool(positive)]}, probability of that {number(float(p))}")
        for row, a, positive, p in zip(*columns, strict=True)
    ]
    yield Candidates("suspected", None, int(doubtful.total.sum()), items[:PER_KIND])


def _unknown(shown: Shown) -> Iterator[Candidates]:
    """The missing labels of test rows of which the run is surest, of each attribute."""
    for a in range(len(shown.labels.attributes)):
        rows = np.flatnonzero(shown.test & ~shown.labels.observed[:, a])
        probability = shown.probabilities[rows, a]
        order = np.argsort(-np.abs(probability - 0.5), kind="stable")[:PER_ATTRIBUTE]
        items = [([int(rows[i])], f"probability {number(float(probability[i]), places=3)}") for i in order]
        yield Candidates("unknown", a, len(rows), items)


def _disagreement(record: RunRecord, other: RunRecord, shown: Shown) -> Iterator[Candidates]:
    """The test images about which two runs decide differently."""
    row_of = {name: row for row, name in enumerate(shown.ids.tolist())}
    table = frames.disagreements((record.predictions, record.thresholds), (other.predictions, other.thresholds))
    first = table.head(PER_KIND)
    columns = (first[name].tolist() for name in ("image", "attribute", "probability_a", "probability_b"))
    items = [
        ([row_of[image]], f"{attribute}: probability {number(a)} against {number(b)}")
        for image, attribute, a, b in zip(*columns, strict=True)
    ]
    yield Candidates("disagreement", None, len(table), items)


def _near_duplicates(shown: Shown, hashes: Hashes) -> Iterator[Candidates]:
    """The pair that looks most alike of each group [n] of near duplicates and attribute with opposite labels."""
    group = look_alike(hashes)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    pairs = []
    for rows in (rows for rows in members if len(rows) > 1):
        for a, name in enumerate(shown.labels.attributes):
            positive, negative = (rows[mask[rows, a]] for mask in (shown.labels.positive, shown.labels.negative))
            if len(positive) and len(negative):
                distance = np.bitwise_count(hashes.bits[positive][:, None] ^ hashes.bits[negative])
                one, other = np.unravel_index(distance.argmin(), distance.shape)
                if distance.min() <= MOST_BITS:  # a chain of near duplicates may connect images that are none
                    pairs.append((int(distance.min()), int(positive[one]), int(negative[other]), name))
    items = [([one, other], f"{name}: positive, negative") for _, one, other, name in sorted(pairs)]
    yield Candidates("near_duplicates", None, len(items), items[:PER_KIND])


def _within(candidates: Sequence[Candidates], budget: int, size: dict[int, int] | None = None) -> list[Candidates]:
    """The first items of every gallery in turn, as long as their images fit into the budget; each image counts once.

    Args:
        size: of the rows; None counts each as 1.
    """
    there: set[int] = set()
    items: list[list[tuple[list[int], str]]] = [[] for _ in candidates]
    for place in range(max((len(candidate.items) for candidate in candidates), default=0)):
        for shown, candidate in zip(items, candidates, strict=True):
            if place < len(candidate.items):
                rows, text = candidate.items[place]
                cost = sum(1 if size is None else size[row] for row in set(rows) - there)
                if cost <= budget:
                    budget -= cost
                    there.update(rows)
                    shown.append((rows, text))
    with_items = zip(candidates, items, strict=True)
    return [Candidates(one.kind, one.attribute, one.total, shown) for one, shown in with_items]


def _size(small: Thumbnail | None) -> int:
    return 0 if small is None else len(small.webp)


def _image(shown: Shown, others: Array | None, row: int, small: Thumbnail | None) -> Image:
    labels = zip(shown.labels.targets[row].tolist(), shown.labels.observed[row].tolist(), strict=True)
    return Image(
        id=shortened(str(shown.ids[row])),
        labels=[target if observed else None for target, observed in labels],
        probabilities=shown.probabilities[row],
        thresholds=shown.thresholds[row],
        other=None if others is None else others[row],
        thumbnail=None if small is None else small.webp,
        width=0 if small is None else small.width,
        height=0 if small is None else small.height,
    )
