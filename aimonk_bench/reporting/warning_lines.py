"""What weakens a comparison or its verdict, a line each: few labels, one seed, doubts of the data, unfair budgets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aimonk_bench.errors import count
from aimonk_bench.records.run import CONFIG, REVISION
from aimonk_bench.records.scoring_config import has_official_split
from aimonk_bench.reporting import fairness
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.words import DEPENDS_ON, listed, one_class, run_names

FEW_POSITIVES = 20  # test labels of an attribute, below which its F1 says little


def warnings(summary: Summary) -> list[str]:
    """What a reader should know before believing the verdict, the weightiest first."""
    names = run_names(summary.collection.names)
    compared = [record.status.id for record in summary.collection.comparable]
    lines = [*_runs(summary), *(fairness.sentence(item, compared, names.__getitem__) for item in summary.unfair)]
    if summary.values:
        lines += _labels(summary)
        lines += doubts(summary)
        lines += _versions(summary)
    if folders := [f"runs/{name}" for name in summary.collection.left_out]:
        lines.append(f"left out, not part of this suite: {listed(folders)}")
    return lines


def _runs(summary: Summary) -> Iterator[str]:
    """The runs without figures, and that nothing is compared where the baseline is one of them."""
    collection, names = summary.collection, run_names(summary.collection.names)
    groups = {"failed": len(collection.failed), "damaged": len(collection.damaged), "not run": len(collection.missing)}
    states = [f"{number} {state}" for state, number in groups.items() if number]
    alone = "so that nothing is compared with it"
    if states and collection.finished:
        planned = len(collection.names) - len(collection.skipped)
        ended = {None, *summary.values, *collection.skipped}
        without = "" if collection.baseline in ended else f"; the baseline is not among them, {alone}"
        yield f"{len(collection.finished)} of {count(planned, 'run')} finished ({', '.join(states)}){without}"
    if skipped := collection.skipped:
        yield (
            "skipped, because their weights could not be had (suite.unavailable: skip): "
            f"{', '.join(names[run_id] for run_id in skipped)}"
            f"{f', the baseline included, {alone}' if collection.baseline in skipped else ''}"
        )


def _labels(summary: Summary) -> Iterator[str]:
    """Attributes with few positive test labels or one class, and runs of one seed."""
    observed, positives = (
        np.array([values[name][:-1] for values in summary.values.values()]) for name in ("n_observed", "n_positive")
    )
    if parts := one_class(summary.attributes, np.any(positives, axis=0), np.any(observed > positives, axis=0)):
        yield f"attributes whose test labels are {parts}"
    fewest = positives.min(axis=0)
    few = [f"{summary.attributes[a]} {fewest[a]:.0f}" for a in np.flatnonzero((fewest > 0) & (fewest < FEW_POSITIVES))]
    if few:
        hold_out = any(len(record.data["folds"]) == 1 for record in summary.collection.finished)
        fix = "more labels, or split.scheme: kfold, which tests every image" if hold_out else "more labels"
        labels = f"fewer than {FEW_POSITIVES} positive test labels ({listed(few)})"
        yield f"{labels}: F1 is uncertain there; fix: {fix}"
    if any(len(record.thresholds.seed) == 1 for record in summary.collection.finished):
        what = "such runs are not compared" if len(summary.values) > 1 else "no interval covers it"
        yield f"one seed: what another would change is unknown, and {what}; fix: train.seeds: 5"


def doubts(summary: Summary) -> Iterator[str]:
    """What of the data speaks against claims about attributes."""
    if summary.statistics is None:
        return
    verdict = summary.statistics.verdict
    names = {"gain": verdict.with_gain, "no_gain": verdict.with_signal, "no_signal": []}[verdict.outcome]
    if verdict.doubts is None:
        return
    if names and (cut := verdict.doubts.groups_cut):
        yield (
            f"the official split cuts {count(cut, 'duplicate group')} (equal bytes, or equal group values): heads may "
            "know images instead of attributes; fix: split: {scheme: kfold} keeps groups together"
        )
    near_alike, missing_depends = verdict.doubts.near_alike, verdict.doubts.missing_depends
    if alike := [f"{name} {pairs}" for name in names if (pairs := near_alike[name])]:
        yield (
            f"the split separates {count(verdict.doubts.near_cut, 'pair')} of near duplicates, and these have equal "
            f"labels: {listed(alike)}; heads may know images instead of attributes; {_kept_together(summary)}"
        )
    depends = {name: missing_depends[name] for name in names if name in missing_depends}
    by_families: dict[str, list[str]] = {}
    for name, families in depends.items():
        by_families.setdefault(" and ".join(DEPENDS_ON[family] for family in families), []).append(name)
    for on, concerned in by_families.items():
        yield f"missing labels depend on {on} ({listed(concerned)}): the claims are about observed labels only"


def _kept_together(summary: Summary) -> str:
    """The fix for near duplicates that the split separates; a split that a column states cannot keep them together."""
    if has_official_split(summary.collection.comparable[0].folder / CONFIG):
        return (
            "a column fixes the split: name these pairs beside the figures, "
            "or use split: {scheme: kfold, near_duplicates: keep_together}"
        )
    return "fix: split: {near_duplicates: keep_together}"


def _versions(summary: Summary) -> Iterator[str]:
    """Runs that are not compared with the others, because they were made or judged in another way."""
    finished, compared, stats = summary.collection.finished, summary.collection.comparable, summary.statistics
    if others := sum(record.status.revision != REVISION for record in finished):
        apart = "; not compared with the others, and last" if len(compared) < len(finished) else ""
        yield f"{count(others, 'run')} of another version of aimonk_bench, whose numbers may differ{apart}"
    if stats and len(stats.candidates) < len(stats.key):
        yield "runs with other validation labels or seeds than the baseline are not selected from and come last"
