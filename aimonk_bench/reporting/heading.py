"""What all runs of a table have in common, which stands above it, and the names of its rows, which say the rest."""

from __future__ import annotations

from collections.abc import Mapping

from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.words import count, run_name

SELECTED_MARK = "*"


def labels(summary: Summary) -> dict[str, str]:
    """What the row of each run is called: its name without the shared parts, and what is special about the run."""
    shared, collection = _shared(summary), summary.collection
    several = len(_backbones(summary)) > 1
    rows = {}
    for run_id, parts in collection.names.items():
        marks = []
        record = collection.records.get(run_id)
        if several and record and record.done and _is_fallback(record.environment["weights"]):
            marks.append("(fallback)")
        if run_id == collection.baseline:
            marks.append("(base)")
        if run_id == summary.selected:
            marks.append(SELECTED_MARK)
        varying = [part for place, part in enumerate(parts) if place not in shared]
        rows[run_id] = " ".join([run_name(varying or parts), *marks])
    return rows


def _shared(summary: Summary) -> dict[int, str]:
    """The parts, by place, that the names of all runs have in common."""
    names = list(summary.collection.names.values())
    if len(names) < 2 or len({len(parts) for parts in names}) > 1:
        return {}
    return {place: parts[0] for place, parts in enumerate(zip(*names, strict=True)) if len(set(parts)) == 1}


def _backbones(summary: Summary) -> list[tuple[Mapping[str, str], str]]:
    """The facts about the weights, and the column ``weights``, of each backbone that a finished run used."""
    backbones = {}
    for record in summary.collection.finished:
        facts, weights = record.environment["weights"], record.status.columns["weights"]
        backbones[facts["name"], facts["requested"], weights, facts["non_commercial"] and facts["licence"]] = facts
    return [(facts, weights) for (_, _, weights, _), facts in backbones.items()]


def _is_fallback(facts: Mapping[str, str]) -> bool:
    return facts["name"] != facts["requested"]


def heading(summary: Summary) -> list[str]:
    """What all runs have in common: the data, the backbone, and the settings in which they do not differ."""
    collection, finished = summary.collection, summary.collection.finished
    name = collection.name or run_name(*collection.names.values())
    if not finished:
        return [name]
    lines = [f"{name}: {', '.join(_sizes(summary))}"]
    freeze = " or ".join(dict.fromkeys(_freeze(record.environment["weights"]) for record in finished))
    backbones = _backbones(summary)
    if len(backbones) > 1:
        lines.append(f"several backbones, named in the rows, {freeze}")
    for facts, weights in backbones:
        if len(backbones) == 1 or facts["non_commercial"] or _is_fallback(facts):
            fallback = f" (fallback for {facts['requested']})" if _is_fallback(facts) else ""
            licence = f", NON-COMMERCIAL ({facts['licence']})" if facts["non_commercial"] else ""
            lines.append(f"{facts['name']}{fallback}, {_weights(weights)}, {freeze}{licence}")
    settings = {
        "loss": {record.status.columns["loss"] for record in collection.records.values()},
        "missing": {record.status.columns["missing"] for record in collection.records.values()},
        "sampler": {record.status.columns["sampler"] for record in collection.records.values()},
        "thresholds": {thresholds.policy for thresholds in summary.thresholds.values()},
    }
    common = {name: values.pop() for name, values in settings.items() if len(values) == 1}
    said = {*common.values(), *(facts[key] for facts, _ in backbones for key in ("name", "requested"))}
    shared = [part for part in _shared(summary).values() if part not in said]
    line = ", ".join([*(f"{name} {value}" for name, value in common.items()), *shared])
    return [*lines, line] if line else lines


def _freeze(facts: Mapping[str, str]) -> str:
    """How much of a backbone is trained."""
    freeze = facts.get("freeze", "all")
    return {"all": "frozen", "none": "trained end to end"}.get(freeze, f"trained from {freeze} on")


def _weights(weights: str) -> str:
    return {"imagenet": "ImageNet weights", "none": "untrained (weights none)"}.get(weights, f"weights {weights}")


def _sizes(summary: Summary) -> list[str]:
    """Numbers of images, attributes, folds, seeds and augmented views."""
    finished = summary.collection.finished
    images = {
        count(used, "image") if used == listed else f"{used} of {listed} listed images"
        for used, listed in ((record.data["n_used"], record.data["n_listed"]) for record in finished)
    }
    splits = {_split(record, summary.seeds(record.status.id)) for record in finished}
    views = {record.data.get("views", "exact") for record in finished}
    return [
        *images,
        count(len(summary.attributes), "attribute"),
        *(splits if len(splits) == 1 else ["several splits"]),
        *(f"{count(k, 'augmented view')} per training image" for k in views if len(views) == 1 and k != "exact"),
    ]


def _split(record: RunRecord, seeds: int) -> str:
    folds = record.data["folds"]
    if len(folds) > 1:
        return f"{len(folds)} folds x {count(seeds, 'seed')}"
    return f"hold-out {folds[0]['train']} + {folds[0]['val']} + {folds[0]['test']}, {count(seeds, 'seed')}"
