"""What all runs of a table have in common, which stands above it, and the names of its rows, which say the rest."""

from __future__ import annotations

from typing import NamedTuple

from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.words import count, run_name

SELECTED_MARK = "*"


class Backbone(NamedTuple):
    """What a finished run used; ``licence`` is empty where it allows commercial use."""

    name: str
    requested: str
    weights: str
    licence: str

    @property
    def is_fallback(self) -> bool:
        """Another backbone was asked for, and could not be had."""
        return self.name != self.requested

    @classmethod
    def of(cls, record: RunRecord) -> Backbone:
        """The backbone of a finished run."""
        facts = record.environment["weights"]
        licence = facts["licence"] if facts["non_commercial"] else ""
        return cls(facts["name"], facts["requested"], record.status.columns["weights"], licence)


def labels(summary: Summary) -> dict[str, str]:
    """What the row of each run is called: its name without the shared parts, and what is special about the run."""
    shared, collection = _shared(summary), summary.collection
    backbones = {record.status.id: Backbone.of(record) for record in collection.finished}
    several = len(set(backbones.values())) > 1
    rows = {}
    for run_id, parts in collection.names.items():
        marks = {
            "(fallback)": several and run_id in backbones and backbones[run_id].is_fallback,
            "(base)": run_id == collection.baseline,
            SELECTED_MARK: run_id == summary.selected,
        }
        varying = [part for place, part in enumerate(parts) if place not in shared]
        rows[run_id] = " ".join([run_name(varying or parts), *(mark for mark, holds in marks.items() if holds)])
    return rows


def _shared(summary: Summary) -> dict[int, str]:
    """The parts, by place, that the names of all runs have in common."""
    names = list(summary.collection.names.values())
    if len(names) < 2 or len({len(parts) for parts in names}) > 1:
        return {}
    return {place: parts[0] for place, parts in enumerate(zip(*names, strict=True)) if len(set(parts)) == 1}


def heading(summary: Summary) -> list[str]:
    """What all runs have in common: the data, the backbone, and the settings in which they do not differ."""
    collection, finished = summary.collection, summary.collection.finished
    name = collection.name or run_name(*collection.names.values())
    if not finished:
        return [name]
    lines = [f"{name}: {', '.join(_sizes(summary))}"]
    freeze = " or ".join(dict.fromkeys(_freeze(record) for record in finished))
    backbones = list(dict.fromkeys(map(Backbone.of, finished)))
    if len(backbones) > 1:
        lines.append(f"several backbones, named in the rows, {freeze}")
    for backbone in backbones:
        if len(backbones) == 1 or backbone.licence or backbone.is_fallback:
            fallback = f" (fallback for {backbone.requested})" if backbone.is_fallback else ""
            licence = f", NON-COMMERCIAL ({backbone.licence})" if backbone.licence else ""
            lines.append(f"{backbone.name}{fallback}, {_weights(backbone.weights)}, {freeze}{licence}")
    columns = [record.status.columns for record in collection.records.values()]
    settings = {name: {values[name] for values in columns} for name in ("loss", "missing", "sampler")}
    settings["thresholds"] = set(summary.policies.values())
    common = {name: values.pop() for name, values in settings.items() if len(values) == 1}
    said = {*common.values(), *(name for backbone in backbones for name in (backbone.name, backbone.requested))}
    shared = [part for part in _shared(summary).values() if part not in said]
    line = ", ".join([*(f"{name} {value}" for name, value in common.items()), *shared])
    return [*lines, line] if line else lines


def _freeze(record: RunRecord) -> str:
    """How much of the backbone is trained."""
    freeze = record.environment["weights"].get("freeze", "all")
    return {"all": "frozen", "none": "trained end to end"}.get(freeze, f"trained from {freeze} on")


def _weights(weights: str) -> str:
    return {"imagenet": "ImageNet weights", "none": "untrained (weights none)"}.get(weights, f"weights {weights}")


def _sizes(summary: Summary) -> list[str]:
    """Numbers of images, attributes, folds, seeds and augmented views."""
    finished = summary.collection.finished
    numbers = {(record.data["n_used"], record.data["n_listed"]) for record in finished}
    splits = {_split(record, summary.seeds[record.status.id]) for record in finished}
    views = {record.data.get("views", "exact") for record in finished}
    return [
        *(count(n, "image") if n == n_listed else f"{n} of {n_listed} listed images" for n, n_listed in numbers),
        count(len(summary.attributes), "attribute"),
        *(splits if len(splits) == 1 else ["several splits"]),
        *(f"{count(k, 'augmented view')} per training image" for k in views if len(views) == 1 and k != "exact"),
    ]


def _split(record: RunRecord, seeds: int) -> str:
    folds = record.data["folds"]
    if len(folds) > 1:
        return f"{len(folds)} folds x {count(seeds, 'seed')}"
    return f"hold-out {folds[0]['train']} + {folds[0]['val']} + {folds[0]['test']}, {count(seeds, 'seed')}"
