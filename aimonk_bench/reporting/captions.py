"""What stands above and below the table: what all runs have in common, the names of the rows, and what marks mean."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress

from rich.cells import cell_len

from aimonk_bench.errors import count, printable
from aimonk_bench.evaluation.comparison import MARGIN, Untestable
from aimonk_bench.evaluation.differences import POWER
from aimonk_bench.evaluation.statistics import Statistics
from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting.cells import FEW, MISSED, SPREAD, UNRESOLVED, detectable
from aimonk_bench.reporting.columns import (
    ALL_POSITIVE,
    ASSOCIATION,
    NA_RANGE,
    PREVALENCE,
    SELECTED,
    Detail,
    Layout,
    costs,
)
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.verdict import gains
from aimonk_bench.reporting.view import METRICS, TUNED, VALIDATION
from aimonk_bench.reporting.words import UNDEFINED, number, run_name, run_names

SELECTED_MARK = "*"
LEGEND = 80  # cells of a line of the legend
NAMED = 50  # hidden attributes whose names stand in the legend before the rest is only counted
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
    varying = {
        run_id: [part for place, part in enumerate(parts) if place not in shared] or parts
        for run_id, parts in collection.names.items()
    }
    rows = {}
    for run_id, name in run_names(varying).items():
        marks = {
            "(fallback)": run_id in fallbacks,
            "(base)": marked and run_id == collection.baseline,
            SELECTED_MARK: marked and run_id == summary.selected,
        }
        rows[run_id] = " ".join([printable(name), *(mark for mark, holds in marks.items() if holds)])
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
    several = len({(name, weights, licence) for name, _, weights, licence in backbones}) > 1
    if several:
        lines.append(f"several backbones, named in the rows, {freeze}")
    lines += [
        f"{name}{fallback}, {weights}, {freeze}{licence}"
        for name, fallback, weights, licence in backbones
        if not several or fallback or licence
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


def legend(summary: Summary, layout: Layout) -> list[str]:
    """What a reader needs at once, below the table.

    A few lines, which from 80 columns on need not be wrapped; the last one may be longer where it names attributes.
    """
    if not layout.columns:
        return []
    marks, total = _marks(layout), len(summary.attributes)
    covered = _covered(summary, layout)
    short = {
        f"{FEW}: few rows": FEW in marks,
        f"{SELECTED}: nested selection": any(SELECTED in column.cells for column in layout.columns),
        f"{UNDEFINED}: undefined": UNDEFINED in marks,
        f"{MISSED}: missed": MISSED in marks,
        f"{SPREAD}: over the runs": SPREAD in marks,
        f"macro: over {covered} of {total}": bool(covered),
    }
    lines = [""]
    for part in (*_order(summary, layout.detail), *_power(summary, layout.detail), *compress(short, short.values())):
        longer = f"{lines[-1]}; {part}" if lines[-1] else part
        lines[-1:] = [longer] if cell_len(longer) <= LEGEND else [lines[-1], part]
    more = _hidden(layout, total) if layout.hidden else "table --explain says what columns and marks mean"
    return [line for line in (_figures(layout), *lines, more) if line]


def _hidden(layout: Layout, total: int) -> str:
    """The names of the attributes that are not shown, of many the first, and how to see them."""
    names = layout.hidden[:NAMED]
    rest = len(layout.hidden) - len(names)
    hidden = f"{len(layout.hidden)} of {count(total, 'attribute')} not shown"
    more = f" and {rest} more: --explain" if rest else ""
    return f"{hidden} (see a wider terminal, --attribute, --explain): {', '.join(names)}{more}"


def _figures(layout: Layout) -> str:
    """What the figures of the runs are, in a line."""
    detail = layout.detail
    if detail.metric != TUNED:
        return f"{METRICS[detail.metric]} on {'validation' if detail.metric == VALIDATION else 'test'} rows"
    f1 = "F1 at .5 -> tuned F1 on test rows" if detail.default else "tuned F1 on test rows"
    return f"{f1}; {detail.plus_minus}: half its 95 % interval{f'; gain: over {ALL_POSITIVE}' if detail.gain else ''}"


def _order(summary: Summary, detail: Detail) -> list[str]:
    """By what the runs are sorted, and what the mark of the selected run means; nothing of a single run."""
    if len(summary.ranking) < 2:
        return []
    biased = " (its test F1 is a little too high)" if _folds(summary) > 1 else ""
    selected = [f"{SELECTED_MARK}: best val F1{biased}"] if summary.selected else []
    return [f"sorted by {METRICS[detail.sort]}", *selected]


def _power(summary: Summary, detail: Detail) -> list[str]:
    """What differences would have been found, where they do not stand beside `UNRESOLVED`."""
    stats = summary.statistics
    differences = _detectable(stats) if stats and detail.versus and not detail.difference else ""
    return [f"{UNRESOLVED}: {differences} would be found ({100 * POWER:.0f} % power)"] if differences else []


def _detectable(stats: Statistics) -> str:
    """The range of the true differences that the tests of unresolved runs find with probability `POWER`; "" of none."""
    differences = [delta.detectable for delta in stats.baseline.values() if delta.mark == UNRESOLVED]
    if not differences:
        return ""
    return " to ".join(dict.fromkeys([detectable(min(differences)), detectable(max(differences))]))


def _folds(summary: Summary) -> int:
    """The number of folds of the finished runs, the largest where they differ."""
    return max(len(record.data["folds"]) for record in summary.collection.finished)


def _marks(layout: Layout) -> set[str]:
    return {cell.mark for column in (*layout.columns, *layout.targets) for cell in column.cells.values()}


def explanation(summary: Summary, layout: Layout) -> list[str]:
    """The whole legend: a line for each thing that the table shows."""
    lines = [*_explained(summary, layout)] if layout.columns else []
    if any("\n" in (record.status.reason or "").strip() for record in summary.collection.failed):
        lines.append("the whole reason of a failed run: status.json in its folder")
    if summary.collection.damaged:
        lines.append("a damaged run: the command that made it makes it again")
    return lines


def _explained(summary: Summary, layout: Layout) -> Iterator[str]:
    """What the figures, marks and rows mean, what is left out, and where to see it."""
    detail, stats, marks = layout.detail, summary.statistics, _marks(layout)
    yield _explained_figures(summary, layout)
    if detail.metric == TUNED and summary.covered["f1_tuned"].any():
        seeds = [len(record.thresholds.seed) for record in summary.collection.finished]
        resampled = "images and seeds" if min(seeds) > 1 else "images"
        yield f"{detail.plus_minus}: half of the 95 % confidence interval over {resampled}, for {_population(summary)}"
    if len(summary.ranking) > 1:
        yield _explained_order(summary, detail)
    meanings = {
        FEW: "few test rows (TP or FP + FN below 5)",
        NA_RANGE: "lowest and highest F1 of the row above for any labels in place of NA",
        UNDEFINED: f"undefined; F1 and AP need a positive test row, ROC AUC and {ASSOCIATION} both classes"
        + ", precision a positive decision" * bool(layout.targets),
        SPREAD: "lowest and highest of the runs, whose splits or labels differ",
    }
    yield from (f"{mark}: {meaning}" for mark, meaning in meanings.items() if mark in marks)
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
    if stats and detail.metric == TUNED:
        yield (
            f"{ALL_POSITIVE}: every test row called positive; {PREVALENCE}: every test row given the training "
            "prevalence, read at 0.5"
        )
        yield f"{ASSOCIATION}: the smaller of the tests before and after training, Bonferroni- and Holm-adjusted"
    if stats and stats.verdict.indistinguishable:
        yield (
            "the verdict compares runs with the one selected on validation: paired tests of macro F1 at .05, "
            "Holm-adjusted, with simultaneous intervals; simplest: less of the backbone trained, fewer trainings, "
            "fewer features, fewer departures from the defaults"
        )
    if stats and (sizes := gains(stats.verdict)):
        yield sizes
    if covered := _covered(summary, layout):
        total = count(len(summary.attributes), "attribute")
        yield f"macro: over {covered} of {total}, those that every finished run defines"
    if layout.hidden:
        which = "those in which the runs differ least" if len(summary.ranking) > 1 else "the last ones"
        hidden = f"{len(layout.hidden)} of {count(len(summary.attributes), 'attribute')} not shown, {which}"
        yield f"{hidden} (a wider terminal or --attribute shows them): {', '.join(layout.hidden)}"
    yield _elsewhere(summary, detail)


def _explained_figures(summary: Summary, layout: Layout) -> str:
    """What the figures of the runs are."""
    detail = layout.detail
    seeds = [len(record.thresholds.seed) for record in summary.collection.finished]
    mean = ", mean over seeds" if max(seeds) > 1 else ""
    folds = _folds(summary)
    if detail.metric != TUNED:
        ranking = detail.metric in ("average_precision", "roc_auc")
        several = (", mean over folds" if ranking else ", pooled over the folds") if folds > 1 else ""
        return f"{_figures(layout)}{several}{mean}"
    pooled = ", pooled over the folds" if folds > 1 else ""
    f1 = "F1 at threshold 0.5 -> at tuned thresholds" if detail.default else "F1 at tuned thresholds"
    gain = f"; gain: macro F1 minus that of {ALL_POSITIVE}" if detail.gain else ""
    return f"{f1}, test rows{pooled}{mean}{gain}"


def _explained_order(summary: Summary, detail: Detail) -> str:
    """By what the runs are sorted, and what selection means."""
    name = METRICS[detail.sort]
    order = f"sorted by macro {name}" if detail.sort != VALIDATION else f"sorted by cross-fitted validation F1 ({name})"
    if summary.nested is None:
        return order
    several = _folds(summary) > 1
    biased = " of all folds, which test other folds: its test F1 is a little too high" if several else ""
    selected = f"; {SELECTED_MARK}: selected on validation rows{biased}" if summary.selected else ""
    return f"{order}{selected}; {SELECTED}: nested model selection, the F1 to report"


def _elsewhere(summary: Summary, detail: Detail) -> str:
    """What a wider terminal shows, and where every figure is."""
    further = {
        "gain": not detail.gain,
        "vs baseline": not detail.versus and bool(summary.statistics and summary.statistics.baseline),
        "F1 at 0.5": not detail.default,
        "AP and ROC AUC": not detail.macro_ranking,
        "what the backbones cost": not detail.cost and bool(costs(summary)),
    }
    shown = detail.metric == TUNED and any(further.values())
    more = [f"wider terminals also show {', '.join(compress(further, further.values()))}"] if shown else []
    file = "summary.csv or " if summary.collection.baseline else ""
    return "; ".join([*more, f"every figure: {file}--format csv"])


def _comparison(stats: Statistics, detail: Detail) -> str:
    """What the marks against the baseline mean."""
    adjusted = f"Holm-adjusted over {count(stats.planned, 'planned comparison')}"
    equivalent = f"equivalent: simultaneous 95 % interval within {detail.plus_minus}{number(MARGIN)}"
    parts = [f"vs baseline: paired test of macro F1 at .05, {adjusted}", equivalent]
    if differences := _detectable(stats):
        each = " (beside each)" if detail.difference else ""
        parts.append(
            f"{UNRESOLVED}: a true difference of {differences}{each} is found with {100 * POWER:.0f} % probability"
        )
    if detail.difference:
        parts.append("difference: of macro F1 from the baseline (simultaneous interval)")
    return "; ".join(parts)


def _population(summary: Summary) -> str:
    """What the intervals are about; the number of folds decides."""
    folds = {len(record.data["folds"]) > 1 for record in summary.collection.finished}
    kinds = {True: "the recipe at this training size (approximate)", False: "these trained heads"}
    return " or ".join(kinds[several] for several in sorted(folds))


def _covered(summary: Summary, layout: Layout) -> str:
    """Over how many attributes the macro averages are, of each figure where these differ; "" where over all."""
    detail = layout.detail
    figures = {METRICS[detail.metric]: detail.metric}
    if detail.macro_ranking and detail.metric == TUNED:
        figures |= {METRICS[name]: name for name in ("average_precision", "roc_auc")}
    covered = {name: int(summary.covered[figure].sum()) for name, figure in figures.items()}
    if min(covered.values()) == len(summary.attributes):
        return ""
    same = len(set(covered.values())) == 1
    return str(min(covered.values())) if same else ", ".join(f"{n} ({name})" for name, n in covered.items())
