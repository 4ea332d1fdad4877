"""The words around the table: what the rows are called, what stands above them, and what explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aimonk_bench.evaluation.comparison import MARGIN
from aimonk_bench.evaluation.verdict import listed
from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting.layout import ALWAYS, CHOSEN, FEW, NA, PRIOR, UNDEFINED, WINNER, Layout, number
from aimonk_bench.reporting.summary import Summary

_SEPARATOR = " + "  # between the axis values in a run's name


def count(n: int, noun: str) -> str:
    """The number and its noun: "1 seed", "5 seeds"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def reason(record: RunRecord) -> str:
    """Why a run failed; the first line says what, the others more about it."""
    return (record.status.reason or "").strip()


def _shared(summary: Summary) -> dict[int, str]:
    """The parts, by place, that the names of all runs have in common."""
    names = [name.split(_SEPARATOR) for name in summary.collection.names.values()]
    if len(names) < 2 or len({len(parts) for parts in names}) > 1:
        return {}
    return {place: parts[0] for place, parts in enumerate(zip(*names, strict=True)) if len(set(parts)) == 1}


def labels(summary: Summary) -> dict[str, str]:
    """What the row of each run says: its name without the shared parts, a fallback that not all share, "(base)"."""
    shared, backbones = _shared(summary), _backbones(summary)
    found = {}
    for run_id, name in summary.collection.names.items():
        parts = name.split(_SEPARATOR)
        label = _SEPARATOR.join(part for place, part in enumerate(parts) if place not in shared) or name
        used, asked = next(((k[0], k[1]) for k, ids in backbones.items() if run_id in ids), ("", ""))
        named = f"fallback={used}" in label
        fallback = f" (fallback {'taken' if named else used})" if len(backbones) > 1 and used != asked else ""
        found[run_id] = label + fallback + (" (base)" if run_id == summary.collection.baseline else "")
    return found


def _backbones(summary: Summary) -> dict[tuple[str, str, str, str], list[str]]:
    """(used, asked for, weights, licence if it forbids commercial use) -> ids of the finished runs with it."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for record in summary.collection.finished:
        facts = record.environment["weights"]
        licence = str(facts["licence"]) if facts["non_commercial"] else ""
        key = (facts["name"], facts["requested"], record.status.columns["weights"], licence)
        found.setdefault(key, []).append(record.status.id)
    return found


def heading(summary: Summary) -> list[str]:
    """What all runs have in common: the data, the backbone, and the settings that do not differ."""
    finished = summary.collection.finished
    backbones = _backbones(summary)
    lines = [summary.collection.name + (": " + ", ".join(_sizes(summary)) if finished else "")]
    frozen = " or ".join(dict.fromkeys(_frozen(record.environment["weights"]) for record in finished))
    if len(backbones) > 1:
        lines.append(f"several backbones, named in the rows, {frozen}")
    for used, asked, weights, licence in backbones:
        if len(backbones) == 1 or licence:
            fallback = f" (fallback for {asked})" if used != asked else ""
            warning = f", NON-COMMERCIAL ({licence})" if licence else ""
            lines.append(f"{used}{fallback}, {_weights(weights)}, {frozen}{warning}")
    columns = [record.status.columns for record in summary.collection.records.values()]
    settings = {
        "loss": {own["loss"] for own in columns},
        "missing": {own["missing"] for own in columns},
        "sampler": {own["sampler"] for own in columns},
        "thresholds": {record.thresholds.policy for record in finished},
    }
    same = {name: values.pop() for name, values in settings.items() if len(values) == 1}
    known = {*same.values(), *(name for used, asked, *_ in backbones for name in (used, asked))}
    more = [part for part in _shared(summary).values() if part not in known]
    line = ", ".join([*(f"{name} {value}" for name, value in same.items()), *more])
    return [*lines, line] if line else lines


def _frozen(facts: Mapping[str, str]) -> str:
    """How much of a backbone is trained."""
    freeze = facts.get("freeze", "all")  # results older than the key are of frozen backbones
    return {"all": "frozen", "none": "trained end to end"}.get(freeze, f"trained from {freeze} on")


def _weights(weights: str) -> str:
    known = {"imagenet": "ImageNet weights", "none": "untrained (weights none)"}
    return known.get(weights, f"weights {weights}")


def _sizes(summary: Summary) -> list[str]:
    finished = summary.collection.finished
    pictures = {
        count(used, "picture") if used == listed else f"{used} of {listed} listed pictures"
        for used, listed in ((record.data["n_used"], record.data["n_listed"]) for record in finished)
    }
    splits = {_split(record, summary.seeds[record.status.id]) for record in finished}
    views = {record.data.get("views", "exact") for record in finished}
    return [
        *pictures,
        count(len(summary.attributes), "attribute"),
        *(splits if len(splits) == 1 else ["several splits"]),
        *(f"{count(k, 'drawn view')} per training picture" for k in views if len(views) == 1 and k != "exact"),
    ]


def _split(record: RunRecord, seeds: int) -> str:
    folds = record.data["folds"]
    if len(folds) > 1:
        return f"{len(folds)} folds x {count(seeds, 'seed')}"
    return f"hold-out {folds[0]['train']} + {folds[0]['val']} + {folds[0]['test']}, {count(seeds, 'seed')}"


def caption(summary: Summary, layout: Layout) -> list[str]:
    """What the cells, the order and the marks mean, what was left out, and how to see it."""
    left_out = [f"runs/{name}" for name in summary.collection.left_out]
    lines = []
    if layout.columns:
        lines += [*_meaning(summary, layout), *_coverage(summary, layout), *_unseen(summary, layout)]
    if any("\n" in reason(record) for record in summary.collection.failed):
        lines.append("the whole reason of a failed run: status.json in its folder")
    if left_out:
        lines.append(f"left out, no part of this suite: {listed(left_out)}")
    return lines


def _meaning(summary: Summary, layout: Layout) -> Iterator[str]:
    f1 = "F1 at threshold 0.5 -> at tuned thresholds" if layout.detail.default else "F1 at tuned thresholds"
    seeds = ", mean over seeds" if max(summary.seeds.values()) > 1 else ""
    yield f"{f1}, test rows{seeds}; over floor: tuned macro F1 minus that of {ALWAYS}"
    yield f"{layout.sign}: half the 95 % interval of {_estimand(summary)}; {FEW} rests on few: TP or FP + FN below 5"
    if len(summary.ranking) > 1:
        winner = f"; {WINNER} and bold: the run so chosen, never on test rows" if summary.winner else ""
        yield f"sorted by macro F1 cross-fitted on validation rows{winner}"
        if summary.statistics and len(summary.statistics.candidates) < len(summary.ranking):
            yield "chosen from the runs with the baseline's validation labels and seeds; the others stand behind them"
        yield f"{CHOSEN}: the headline; every fold's test rows by the run that this fold's own validation rows chose"
    if any(column.cells[NA] for column in layout.columns):
        yield f"{NA}: lowest to highest F1 of the row above, whatever the unknown test labels are; bounds, no interval"
    if any(column.head == "vs baseline" for column in layout.columns):
        yield (
            "vs baseline: paired test of tuned macro F1 over pictures and seeds, Holm over the runs, at .05; "
            f"equivalent: 95 % interval within {layout.sign}{number(MARGIN)}"
        )
        deltas = summary.statistics.baseline.values() if summary.statistics else []
        untested = dict.fromkeys(delta.reason for delta in deltas if delta.reason)
        yield from ([f"vs baseline is empty where nothing was tested: {'; '.join(untested)}"] if untested else [])
    yield "signal: p of the test before or the test after training, adjusted for both and, by Holm, over attributes"
    if layout.detail.ranking:
        yield f"{layout.sign} of AP: of the AP expected of a test set of this size, which itself depends on the size"
    cells = [cell for column in layout.columns for cell in column.cells.values()]
    if any(UNDEFINED in cell.split() for cell in cells):
        yield f"{UNDEFINED} is undefined: no positive among the test rows, or for ROC AUC no negative"
    if any(" to " in column.cells[row] for column in layout.columns for row in (ALWAYS, PRIOR)):
        yield "a to b: from the lowest to the highest of the runs, whose splits or labels differ"


def _estimand(summary: Summary) -> str:
    """What the intervals are about, which folds and seeds decide."""
    folds = {len(record.data["folds"]) > 1 for record in summary.collection.finished}
    heads = {seeds > 1 for seeds in summary.seeds.values()}
    sample = (
        ", seeds a random sample"
        if heads == {True}
        else " (one seed: its luck is not in it)"
        if heads == {False}
        else ""
    )
    kinds = {True: "the recipe at this training size (approximate)", False: "these trained heads"}
    return " or ".join(kinds[kind] for kind in sorted(folds)) + sample


def _coverage(summary: Summary, layout: Layout) -> Iterator[str]:
    figures = {"F1": "f1_tuned"}
    if layout.detail.ranking:
        figures |= {"AP": "average_precision", "ROC AUC": "roc_auc"}
    covered = {name: int(summary.covered[figure].sum()) for name, figure in figures.items()}
    if min(covered.values()) < len(summary.attributes):
        alike = len(set(covered.values())) == 1
        numbers = str(covered["F1"]) if alike else ", ".join(f"{n} ({name})" for name, n in covered.items())
        yield f"macro: over {numbers} of {len(summary.attributes)} attributes, those that every finished run defines"


def _unseen(summary: Summary, layout: Layout) -> Iterator[str]:
    if layout.left_out:
        which = "those in which the runs differ least" if len(summary.ranking) > 1 else "the last ones"
        total = count(len(summary.attributes), "attribute")
        yield f"{layout.left_out} of {total} not shown, {which}: a wider terminal shows more"
    wider = [] if layout.detail.default else ["F1 at threshold 0.5 from 120 columns on"]
    wider += [] if layout.detail.ranking else ["AP and ROC AUC from 200 columns on"]
    also = ", AP and ROC AUC of each attribute too" if layout.detail.ranking and not layout.detail.each_ranking else ""
    file = "summary.csv or " if summary.collection.baseline else ""
    yield "; ".join([*wider, f"every figure{also}: {file}--format csv"])
