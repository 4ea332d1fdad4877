"""The audit of a data set: everything as plain data, which the JSON holds, and on a terminal, where nothing is cut off.

Plain data names attributes, images and pairs; what a reader should know of it stands in `findings`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aimonk_bench.data.near_duplicates import MOST_BITS
from aimonk_bench.errors import count
from aimonk_bench.evaluation.audit import SUSPECTS, Audit, ratio
from aimonk_bench.evaluation.duplicates import copies, cut_chance
from aimonk_bench.evaluation.missing_dependence import FEWEST, LEVEL
from aimonk_bench.reporting.captions import images
from aimonk_bench.reporting.columns import GAP, NARROW_NAME
from aimonk_bench.reporting.findings import Finding, by_p, describe, findings, n_pairs
from aimonk_bench.reporting.words import DEPENDS_ON, fill, listed, number, p_value

SHOWN_PAIRS = 15  # of attributes, or of near duplicates, before the rest is only counted
PARTS = ("train", "val", "test")

# tables on a terminal: head of a column -> key of a row; and the heads that leave first where the terminal is narrow
LABELS = {
    "+": "n_positive",
    "-": "n_negative",
    "NA": "n_missing",
    "share\n+": "prevalence",
    "share\nNA": "missing_rate",
}
LABELS |= {"groups": "n_groups", **{f"{part}\n+/-": part for part in PARTS}, "p": "adjusted", "AUC": "auc"}
LABELS_SPARE = ("train\n+/-", "groups", "share\nNA", "val\n+/-", "share\n+", "AUC", "test\n+/-", "p")
PAIRS = {"both\nobserved": "n_observed", "both\n+": "n_both", "phi": "phi", "b if a": "b_if_a"}
PAIRS |= {"b if\nnot a": "b_if_not_a", "both\nNA": "n_both_missing", "phi\nof NA": "missing_phi"}
PAIRS_LEGEND = (
    "phi: correlation; b if a, b if not a: share with b among the images with a, and without; both NA: images in which "
    "both labels are missing; phi of NA: correlation of what is missing"
)
PAIRS_SPARE = ("phi\nof NA", "both\nNA", "b if\nnot a", "b if a", "both\n+")

Row = Mapping[str, Any]


def content(audit: Audit) -> dict[str, Any]:
    """The content of ``aimonk-bench audit --format json``; NaN is undefined."""
    names, suspects = np.array(audit.attributes, dtype=object), audit.suspects
    return {
        "name": audit.name,
        "n_listed": len(audit.ids) + len(audit.skipped),
        "n_used": len(audit.ids),
        "skipped": [{"image_id": name, "reason": reason} for name, reason in audit.skipped],
        "features": audit.features,
        "folds": audit.folds,
        "findings": [asdict(finding) for finding in findings(audit)],
        "attributes": dict(zip(audit.attributes, _attributes(audit), strict=True)),
        "pairs": _pairs(audit, names),
        "dependence_of_missing": [asdict(test) for test in audit.dependence],
        "files": _files(audit),
        "duplicates": _duplicates(audit),
        "suspects": _rows(
            image_id=np.array(audit.ids)[suspects.row],
            attribute=names[suspects.attribute],
            label=suspects.positive.astype(int),
            probability_of_label=suspects.probability,
        ),
    }


def _rows(**columns: Iterable[Any]) -> list[dict[str, Any]]:
    """Columns as one map for each row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _attributes(audit: Audit) -> list[dict[str, Any]]:
    counts, before = audit.counts, audit.before
    smallest = {
        f"min_{part}_{state}": counts.smallest[p, s]
        for p, part in enumerate(PARTS)
        for s, state in enumerate(("positive", "negative"))
    }
    return _rows(
        **{f"n_{name}": getattr(counts, name) for name in ("positive", "negative", "missing", "groups")},
        prevalence=counts.prevalence,
        missing_rate=counts.missing_rate,
        **smallest,
        signal=_rows(p=before.p, adjusted=audit.adjusted, auc=before.auc, shown=audit.signal, note=before.notes),
        duplicates=_rows(**vars(audit.disagreement)),
        n_suspects=audit.suspects.total,
    )


def _pairs(audit: Audit, names: np.ndarray) -> list[dict[str, Any]]:
    """How often two attributes are positive, and missing, together."""
    b, a = np.tril_indices(len(names), -1)
    together = audit.together
    both, only_a, only_b, neither, missing = (
        matrix[a, b].astype(int)
        for matrix in (together.both, together.first_only, together.first_only.T, together.neither, together.missing)
    )
    return _rows(
        a=names[a],
        b=names[b],
        n_observed=both + only_a + only_b + neither,
        n_both=both,
        n_only_a=only_a,
        n_only_b=only_b,
        n_neither=neither,
        phi=together.phi[a, b],
        b_if_a=ratio(both, both + only_a),
        b_if_not_a=ratio(only_b, only_b + neither),
        a_if_b=ratio(both, both + only_b),
        a_if_not_b=ratio(only_a, only_a + neither),
        n_both_missing=missing,
        missing_phi=together.missing_phi[a, b],
    )


def _files(audit: Audit) -> dict[str, Any]:
    files = audit.files
    return {
        "formats": files.formats,
        "width": {"min": files.width.min(), "median": np.median(files.width), "max": files.width.max()},
        "height": {"min": files.height.min(), "median": np.median(files.height), "max": files.height.max()},
        "misnamed": [{"image_id": audit.ids[row], "format": kind} for row, kind in files.misnamed],
        "transparent": [audit.ids[row] for row in np.flatnonzero(files.transparent)],
        "grey": {"n": files.grey.sum(), "all": bool(files.grey.all())},
    }


def _duplicates(audit: Audit) -> dict[str, Any]:
    near, repeated, chance = audit.near, copies(audit.content), cut_chance(audit.part)
    ids = np.array(audit.ids)
    cut = audit.part[near.first] != audit.part[near.second]
    return {
        "exact": [ids[rows].tolist() for rows in repeated],
        "n_exact_pairs": n_pairs(repeated),
        "exact_pairs_cut_by_a_naive_split": n_pairs(repeated) * chance,
        "near_threshold": MOST_BITS,
        "n_near_pairs": near.total,
        "near_pairs_cut_by_a_naive_split": near.total * chance,
        "near_pairs_cut_by_this_split": near.cut,
        "near": _rows(a=ids[near.first], b=ids[near.second], distance=near.distance, cut=cut),
    }


def render(audit: Audit, console: Console) -> None:
    """Print the audit, as wide as the console allows."""
    data = content(audit)
    used = f"{images(data['n_used'], data['n_listed'])}, {count(len(audit.attributes), 'attribute')}"
    formats = ", ".join(f"{n} {kind}" for kind, n in audit.files.formats.items())
    split = "a hold-out" if audit.folds == 1 else f"{audit.folds} folds"
    console.print(Text(f"audit of {audit.name}: {used}", style="bold"))
    console.print(Text(f"{formats}, {_size(audit)}; features of {audit.features}; {split}"), "", sep="\n")
    _print_findings(findings(audit), console)
    for title, body in {
        "Labels": _label_lines(data["attributes"], console.width),
        "Pairs of attributes": _pair_lines(data["pairs"], console.width),
        "What NA depends on": _missing_lines(audit),
        "Duplicates": _duplicate_lines(data, console.width),
        "Labels to look at, most suspicious first": _suspect_lines(data, console.width),
    }.items():
        if lines := list(body):
            console.print("", Text(title, style="bold"), *lines, sep="\n", overflow="fold")


def _size(audit: Audit) -> str:
    width, height = audit.files.width, audit.files.height
    if np.ptp(width) == np.ptp(height) == 0:
        return f"all {width[0]} x {height[0]} pixels"
    pixels = width * height
    small, large = int(pixels.argmin()), int(pixels.argmax())
    return f"{width[small]} x {height[small]} to {width[large]} x {height[large]} pixels"


def _print_findings(all_findings: Sequence[Finding], console: Console) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    styles = {"warning": "bold yellow", "note": "dim"}
    for place, finding in enumerate(all_findings, start=1):
        table.add_row(Text(str(place), style=styles[finding.level]), Text(finding.text))
        table.add_row("", Text(f"-> {finding.advice}", style="cyan"))
    warnings = sum(finding.level == "warning" for finding in all_findings)
    notes = len(all_findings) - warnings
    numbers = [count(n, noun) for n, noun in ((warnings, "warning"), (notes, "note")) if n]
    title = ", then ".join(numbers) or "No findings"
    console.print(Text(title, style="bold yellow" if warnings else "bold green"), table, sep="\n")


def _table(
    head: str, rows: Sequence[Row], keys: Mapping[str, str], spare: Sequence[str], width: int
) -> Iterator[Table | Text]:
    """The table of rows, and a line that names the columns for which it has no space.

    Args:
        head: of the first column, and the key of its names.
        rows: with the keys of the columns.
        keys: head of a column -> its key.
        spare: heads of the columns that are left out first, in this order, until the others fit.
        width: to fit into.
    """
    columns = {head: [_written(key, row[key]) for row in rows] for head, key in keys.items()}
    widths = {head: max(map(cell_len, (*head.split("\n"), *cells))) for head, cells in columns.items()}
    names = [row[head] for row in rows]
    room = width - min(NARROW_NAME, max(map(cell_len, (head, *names))))
    left_out: list[str] = []
    while room < sum(cells + GAP for cells in widths.values()) and len(left_out) < len(spare):
        left_out.append(spare[len(left_out)])
        del widths[left_out[-1]]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    table.add_column(head, overflow="fold")
    for column, cells in widths.items():
        table.add_column(column, justify="right", width=cells, overflow="fold")
    for name, *texts in zip(names, *(columns[column] for column in widths), strict=True):
        table.add_row(Text(name), *texts)
    yield table
    if left_out:
        heads = ", ".join(column.replace("\n", " ") for column in left_out)
        yield Text(f"left out, as the terminal is narrow: {heads}; see --format json", style="dim")


def _written(key: str, value: Any) -> str:
    if key == "adjusted":
        return p_value(value)
    return number(value) if isinstance(value, float) else str(value)


def _label_lines(attributes: Mapping[str, Row], width: int) -> Iterator[Table | Text]:
    rows = [{"attribute": name, **row, **row["signal"]} for name, row in attributes.items()]
    for row, part in itertools.product(rows, PARTS):
        row[part] = f"{row[f'min_{part}_positive']}/{row[f'min_{part}_negative']}"
    yield from _table("attribute", rows, LABELS, LABELS_SPARE, width)
    caption = (
        "groups: duplicate groups with an observed label; train, val, test: the fewest of any fold; p: association "
        "with the features before training, Holm-adjusted; AUC: of a linear probe, out of fold"
    )
    yield Text(caption, style="dim")


def _pair_lines(pairs: Sequence[Row], width: int) -> Iterator[Table | Text]:
    correlated = [row for row in pairs if not (math.isnan(row["phi"]) and math.isnan(row["missing_phi"]))]
    if not correlated:
        return
    by_phi = sorted(correlated, key=lambda row: -np.nan_to_num(abs(row["phi"])))
    rows = [{"a, b": f"{row['a']}, {row['b']}", **row} for row in by_phi[:SHOWN_PAIRS]]
    yield from _table("a, b", rows, PAIRS, PAIRS_SPARE, width)
    smaller, constant = len(correlated) - len(rows), len(pairs) - len(correlated)
    more = [f"{count(smaller, 'more pair')} with a smaller one: --format json"] if smaller else []
    more += [f"{count(constant, 'pair')} without one: a label is constant, or no image has both"] if constant else []
    yield Text("; ".join([PAIRS_LEGEND, *more]), style="dim")


def _missing_lines(audit: Audit) -> Iterator[Text]:
    if not audit.counts.missing.any():
        yield Text("no label is NA")
        return
    tested = {on: tests for family, on in DEPENDS_ON.items() if (tests := by_p(audit, family))}
    rejected = {on: tests for on, tests in tested.items() if tests[0].adjusted < LEVEL}
    for on, tests in rejected.items():
        yield Text(f"{on}, {count(len(tests), 'test')}: {describe(tests[0])}", style="yellow")
    if others := [f"{on} ({p_value(tests[0].adjusted)})" for on, tests in tested.items() if on not in rejected]:
        yield Text(f"no dependence found, smallest adjusted p in brackets: {', '.join(others)}")
    if untested := [on for on in DEPENDS_ON.values() if on not in tested]:
        yield Text(f"nothing to test (all equal, or under {FEWEST} rows on one side): {', '.join(untested)}")
    if tested:
        caption = f"the smallest p of each kind, Holm-adjusted over its tests; a warning from p < {LEVEL:g}"
        yield Text(caption, style="dim")


def _duplicate_lines(data: Row, width: int) -> Iterator[Text]:
    duplicates = data["duplicates"]
    exact = [" = ".join(names) for names in duplicates["exact"]]
    yield _flow("exact: ", exact[:SHOWN_PAIRS] or ["none"], "; ", width)
    if exact:
        shares = {name: row["duplicates"] for name, row in data["attributes"].items()}
        differing = listed([f"{name} {counts['differing']} of {counts['pairs']}" for name, counts in shares.items()])
        more = f"; {len(exact) - SHOWN_PAIRS} more: --format json" if len(exact) > SHOWN_PAIRS else ""
        yield Text(f"  labels that differ between copies: {differing}{more}", style="dim")
    near, total = duplicates["near"], duplicates["n_near_pairs"]
    pairs = [f"{pair['a']} ~ {pair['b']} {pair['distance']}{'*' if pair['cut'] else ''}" for pair in near]
    yield _flow(
        f"near (bits of the perceptual hash that differ, at most {MOST_BITS}): ",
        pairs[:SHOWN_PAIRS] or ["none"],
        "; ",
        width,
    )
    if total:
        cut, by_chance = duplicates["near_pairs_cut_by_this_split"], duplicates["near_pairs_cut_by_a_naive_split"]
        text = f"  *: this split puts the two images into different parts: {cut} of {count(total, 'pair')}. "
        text += f"A split that ignores duplicates does so with {by_chance:.1f} on average"
        text += f"; {len(pairs)} of them: --format json" if total > SHOWN_PAIRS else ""
        yield Text(text, style="dim")


def _suspect_lines(data: Row, width: int) -> Iterator[Text]:
    places = {name: place for place, name in enumerate(data["attributes"])}
    suspects = sorted(data["suspects"], key=lambda row: places[row["attribute"]])
    for attribute, rows in itertools.groupby(suspects, key=lambda row: row["attribute"]):
        labels = [f"{row['image_id']} {'-+'[row['label']]}{number(row['probability_of_label'])}" for row in rows]
        yield _flow(f"{attribute}: ", labels, ", ", width)
    if suspects:
        more = sum(row["n_suspects"] for row in data["attributes"].values()) - len(suspects)
        rest = f"; {SUSPECTS} shown, {more} more suspected" if more else ""
        yield Text(f"the label, + or -, and its out-of-fold probability by a linear probe{rest}", style="dim")


def _flow(start: str, items: Sequence[str], separator: str, width: int) -> Text:
    """Items one after the other, each whole on its line where the width allows; further lines are indented."""
    pieces = [start, *(item + separator for item in items[:-1]), items[-1]]
    return Text("\n".join(fill(pieces, width, indent="  ")))
