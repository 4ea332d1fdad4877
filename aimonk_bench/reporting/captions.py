"""What stands above and below the table: what all runs have in common, the names of the rows, and what marks mean."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress

import numpy as np

from aimonk_bench.errors import count
from aimonk_bench.evaluation.comparison import MARGIN, Untestable
from aimonk_bench.evaluation.differences import POWER
from aimonk_bench.evaluation.statistics import Statistics
from aimonk_bench.records.run import REVISION, RunRecord
from aimonk_bench.reporting.columns import (
    ALL_POSITIVE,
    ASSOCIATION,
    FEW,
    MISSED,
    NA_RANGE,
    SELECTED,
    SPREAD,
    UNRESOLVED,
    Detail,
    Layout,
    costs,
    detectable,
)
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.words import UNDEFINED, listed, number, one_class, run_name

SELECTED_MARK = "*"
UNTESTED: dict[Untestable, str] = {
    "other_rows": "other test rows than the baseline",
    "one_seed": "one seed, so what another seed would change is unknown",
    "no_f1": "no attribute has an F1 in every run",
}


def row_names(summary: Summary, *, marked: bool = True) -> dict[str, str]:
    """What the row of each run is called: its name without the shared parts, and what is special about the run.

    Args:
        marked: False leaves out that a run is the baseline or the selected one.
    """
    shared, collection = _shared(summary), summary.collection
    backbones = {record.status.id: _backbone(record) for record in collection.finished}
    several = len(set(backbones.values())) > 1
    fallbacks = [run_id for run_id, (_, fallback, _, _) in backbones.items() if several and fallback]
    rows = {}
    for run_id, parts in collection.names.items():
        marks = {
            "(fallback)": run_id in fallbacks,
            "(base)": marked and run_id == collection.baseline,
            SELECTED_MARK: marked and run_id == summary.selected,
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
    backbones = dict.fromkeys(map(_backbone, finished))
    if len(backbones) > 1:
        lines.append(f"several backbones, named in the rows, {freeze}")
    lines += [
        f"{name}{fallback}, {weights}, {freeze}{licence}"
        for name, fallback, weights, licence in backbones
        if len(backbones) == 1 or fallback or licence
    ]
    columns = [record.status.columns for record in collection.records.values()]
    settings = {name: {values[name] for values in columns} for name in ("loss", "missing", "sampler")}
    settings["thresholds"] = {record.thresholds.policy for record in finished}
    common = {name: values.pop() for name, values in settings.items() if len(values) == 1}
    named = {record.environment["weights"][key] for record in finished for key in ("name", "requested")}
    shared = [part for part in _shared(summary).values() if part not in named.union(common.values())]
    line = ", ".join([*(f"{name} {value}" for name, value in common.items()), *shared])
    return [*lines, line] if line else lines


def _freeze(record: RunRecord) -> str:
    """How much of the backbone is trained."""
    freeze = record.environment["weights"].get("freeze", "all")
    return {"all": "frozen", "none": "trained end to end"}.get(freeze, f"trained from {freeze} on")


def _backbone(record: RunRecord) -> tuple[str, str, str, str]:
    """Of a finished run: name, "" or for what it is a fallback, weights, and "" or a licence to beware of."""
    facts, weights = record.environment["weights"], record.status.columns["weights"]
    fallback = "" if facts["name"] == facts["requested"] else f" (fallback for {facts['requested']})"
    words = {"imagenet": "ImageNet weights", "none": "untrained (weights none)"}
    warning = "NON-COMMERCIAL" if facts["non_commercial"] else "OWN TERMS" if facts.get("own_terms") else ""
    licence = f", {warning} ({facts['licence']})" if warning else ""
    return facts["name"], fallback, words.get(weights, f"weights {weights}"), licence


def _sizes(summary: Summary) -> list[str]:
    """Numbers of images, attributes, folds, seeds and augmented views."""
    finished = summary.collection.finished
    numbers = {(record.data["n_used"], record.data["n_listed"]) for record in finished}
    splits = {_split(record) for record in finished}
    views = {record.data.get("views", "exact") for record in finished}
    return [
        *(images(n_used, n_listed) for n_used, n_listed in numbers),
        count(len(summary.attributes), "attribute"),
        *(splits if len(splits) == 1 else ["several splits"]),
        *(f"{count(k, 'augmented view')} per training image" for k in views if len(views) == 1 and k != "exact"),
    ]


def images(used: int, listed: int) -> str:
    """How many images were used, and of how many."""
    return count(used, "image") if used == listed else f"{used} of {listed} listed images"


def _split(record: RunRecord) -> str:
    folds, seeds = record.data["folds"], count(len(record.thresholds.seed), "seed")
    if len(folds) > 1:
        return f"{len(folds)} folds x {seeds}"
    return f"hold-out {folds[0]['train']} + {folds[0]['val']} + {folds[0]['test']}, {seeds}"


def caption(summary: Summary, layout: Layout) -> list[str]:
    """The lines below the table, one for each thing that it shows."""
    lines = [*_legend(summary, layout)] if layout.columns else []
    if any("\n" in (record.status.reason or "").strip() for record in summary.collection.failed):
        lines.append("the whole reason of a failed run: status.json in its folder")
    if summary.collection.damaged:
        lines.append("a damaged run: the command that made it makes it again")
    if skipped := summary.collection.skipped:
        names = ", ".join(run_name(summary.collection.names[run_id]) for run_id in skipped)
        without = ", the baseline included, so that nothing is compared with it"
        lines.append(
            f"skipped, because their weights could not be had (suite.unavailable: skip): {names}"
            + without * (summary.collection.baseline in skipped)
        )
    if folders := [f"runs/{name}" for name in summary.collection.left_out]:
        lines.append(f"left out, not part of this suite: {listed(folders)}")
    return lines


def _legend(summary: Summary, layout: Layout) -> Iterator[str]:
    """What the figures, marks and rows mean, what is left out, and where to see it."""
    detail, stats = layout.detail, summary.statistics
    marks = {cell.mark for column in (*layout.columns, *layout.targets) for cell in column.cells.values()}
    seeds = [len(record.thresholds.seed) for record in summary.collection.finished]
    f1 = "F1 at threshold 0.5 -> at tuned thresholds" if detail.default else "F1 at tuned thresholds"
    mean = ", mean over seeds" if max(seeds) > 1 else ""
    folds = max(len(record.data["folds"]) for record in summary.collection.finished)
    pooled = ", pooled over the folds" if folds > 1 else ""
    yield f"{f1}, test rows{pooled}{mean}; gain: macro F1 minus that of {ALL_POSITIVE}"
    resampled = "images and seeds" if min(seeds) > 1 else "images"
    few = f"; {FEW}: few test rows (TP or FP + FN below 5)" if FEW in marks else ""
    interval = f"half of the 95 % confidence interval over {resampled}, for {_population(summary)}"
    if summary.covered["f1_tuned"].any():
        yield f"{detail.plus_minus}: {interval}{few}"
    if summary.nested:
        order = f"sorted by cross-fitted validation F1{' (val F1)' if detail.validation else ''}"
        biased = " of all folds, which test other folds: its test F1 is a little too high" if folds > 1 else ""
        selected = f"; {SELECTED_MARK}: selected on validation rows{biased}" if summary.selected else ""
        yield f"{order}{selected}; {SELECTED}: nested model selection, the F1 to report"
    finished, compared = summary.collection.finished, summary.collection.comparable
    if others := sum(record.status.revision != REVISION for record in finished):
        apart = "; not compared with the others, and last" if len(compared) < len(finished) else ""
        yield f"{count(others, 'run')} of another version of aimonk_bench, whose numbers may differ{apart}"
    if stats and len(stats.candidates) < len(stats.key):
        yield "runs with other validation labels or seeds than the baseline are not selected from and come last"
    if NA_RANGE in marks:
        yield f"{NA_RANGE}: lowest and highest F1 of the row above for any labels in place of NA"
    if UNDEFINED in marks:
        decision = ", precision a positive decision" if layout.targets else ""
        needs = f"F1 and AP need a positive test row, ROC AUC and {ASSOCIATION} both classes{decision}"
        yield f"{UNDEFINED}: undefined; {needs}"
    if SPREAD in marks:
        yield f"{SPREAD}: lowest and highest of the runs, whose splits or labels differ"
    if layout.targets:
        mark = f"; {MISSED}: the target is missed, it lies above the interval" if MISSED in marks else ""
        yield f"targets: the figure on test rows at tuned thresholds (95 % confidence interval){mark}"
    if stats and detail.versus and stats.baseline:
        if any(versus.mark for versus in stats.baseline.values()):
            yield _comparison(stats, detail)
        if reasons := dict.fromkeys(UNTESTED[versus.reason] for versus in stats.baseline.values() if versus.reason):
            yield f"vs baseline is empty where nothing was tested: {'; '.join(reasons)}"
    if detail.cost and (heads := [head for head, _ in costs(summary)]):
        speed = "; images/s: encoding by the backbone, on the machine of the run" * (len(heads) > 2)
        yield f"params, MACs: of the backbone without classifier, for one image{speed}"
    if stats:
        yield f"{ASSOCIATION}: the smaller of the tests before and after training, Bonferroni- and Holm-adjusted"
    yield from _one_class(summary)
    yield from _coverage(summary, layout)
    further = {
        "vs baseline": not detail.versus and bool(stats and stats.baseline),
        "F1 at 0.5": not detail.default,
        "val F1": not detail.validation and summary.nested is not None,
        "AP and ROC AUC": not detail.macro_ranking,
        "what the backbones cost": not detail.cost and bool(costs(summary)),
    }
    more = [f"wider terminals also show {', '.join(compress(further, further.values()))}"]
    file = "summary.csv or " if summary.collection.baseline else ""
    yield "; ".join([*(more if any(further.values()) else []), f"every figure: {file}--format csv"])


def _comparison(stats: Statistics, detail: Detail) -> str:
    """What the marks against the baseline mean."""
    adjusted = f"Holm-adjusted over {count(stats.planned, 'planned comparison')}"
    equivalent = f"equivalent: simultaneous 95 % interval within {detail.plus_minus}{number(MARGIN)}"
    parts = [f"vs baseline: paired test of macro F1 at .05, {adjusted}", equivalent]
    if unresolved := [delta.detectable for delta in stats.baseline.values() if delta.mark == UNRESOLVED]:
        difference = " to ".join(dict.fromkeys([detectable(min(unresolved)), detectable(max(unresolved))]))
        each = " (beside each)" if detail.difference else ""
        parts.append(
            f"{UNRESOLVED}: a true difference of {difference}{each} is found with {100 * POWER:.0f} % probability"
        )
    if detail.difference:
        parts.append("difference: of macro F1 from the baseline (simultaneous interval)")
    return "; ".join(parts)


def _population(summary: Summary) -> str:
    """What the intervals are about; the number of folds decides."""
    folds = {len(record.data["folds"]) > 1 for record in summary.collection.finished}
    kinds = {True: "the recipe at this training size (approximate)", False: "these trained heads"}
    return " or ".join(kinds[several] for several in sorted(folds))


def _one_class(summary: Summary) -> Iterator[str]:
    """The attributes without both classes among the test labels."""
    observed, positives = (
        np.array([values[name][:-1] for values in summary.values.values()]) for name in ("n_observed", "n_positive")
    )
    if parts := one_class(summary.attributes, np.any(positives, axis=0), np.any(observed > positives, axis=0)):
        yield f"attributes whose test labels are {parts}"


def _coverage(summary: Summary, layout: Layout) -> Iterator[str]:
    """Over which attributes the macro averages are, and which have no column."""
    figures = {"F1": "f1_tuned"}
    if layout.detail.macro_ranking:
        figures |= {"AP": "average_precision", "ROC AUC": "roc_auc"}
    covered = {name: int(summary.covered[figure].sum()) for name, figure in figures.items()}
    total = len(summary.attributes)
    if min(covered.values()) < total:
        same = len(set(covered.values())) == 1
        numbers = str(covered["F1"]) if same else ", ".join(f"{n} ({name})" for name, n in covered.items())
        yield f"macro: over {numbers} of {count(total, 'attribute')}, those that every finished run defines"
    if layout.hidden:
        which = "those in which the runs differ least" if len(summary.ranking) > 1 else "the last ones"
        hidden = f"{len(layout.hidden)} of {count(total, 'attribute')} not shown, {which}"
        yield f"{hidden} (a wider terminal shows more): {', '.join(layout.hidden)}"
