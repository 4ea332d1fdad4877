"""The audit on a terminal: its findings, then its tables. Nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aimonk_bench.evaluation.audit import SUSPECTS, Audit
from aimonk_bench.evaluation.missing_dependence import FEWEST, LEVEL
from aimonk_bench.evaluation.verdict import listed
from aimonk_bench.reporting.audit.content import content
from aimonk_bench.reporting.audit.findings import DEPENDS_ON, by_p, describe
from aimonk_bench.reporting.layout import GAP, NARROW_NAME
from aimonk_bench.reporting.words import count, number, p_value

SHOWN_PAIRS = 15  # of attributes, or of near duplicates, before the rest is only counted

Data = Mapping[str, Any]


def render(audit: Audit, console: Console) -> None:
    """Print the audit, as wide as the console allows."""
    data, attributes = content(audit), count(len(audit.attributes), "attribute")
    n, n_listed = data["n_used"], data["n_listed"]
    images = count(n, "image") if n == n_listed else f"{n} of {n_listed} listed images"
    formats = ", ".join(f"{n} {kind}" for kind, n in audit.files.formats.items())
    split = "a hold-out" if audit.folds == 1 else f"{audit.folds} folds"
    console.print(Text(f"audit of {audit.name}: {images}, {attributes}", style="bold"))
    console.print(Text(f"{formats}, {_size(audit)}; features of {audit.features}; {split}"), "", sep="\n")
    _print_findings(data["findings"], console)
    for title, body in {
        "Labels": _labels(data["attributes"], console.width),
        "Pairs of attributes": _pairs(data["pairs"], console.width),
        "What NA depends on": _missing(audit),
        "Duplicates": _duplicates(data, console.width),
        "Labels to look at, most suspicious first": _suspects(data, console.width),
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


def _print_findings(findings: Sequence[Data], console: Console) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    styles = {"warning": "bold yellow", "note": "dim"}
    for place, finding in enumerate(findings, start=1):
        table.add_row(Text(str(place), style=styles[finding["level"]]), Text(finding["text"]))
        table.add_row("", Text(f"-> {finding['advice']}", style="cyan"))
    warnings = sum(finding["level"] == "warning" for finding in findings)
    notes = len(findings) - warnings
    title = f"{count(warnings, 'warning')}, then {count(notes, 'note')}" if findings else "No findings"
    console.print(Text(title, style="bold yellow" if warnings else "bold green"), table, sep="\n")


def _cells(rows: Iterable[Data], heads: Mapping[str, str]) -> dict[str, list[str]]:
    """Head -> a cell for each row: heads are of numbers, each given by its key."""
    rows = list(rows)
    return {
        head: [str(row[key]) if key.startswith("n_") else number(row[key]) for row in rows]
        for head, key in heads.items()
    }


def _table(
    head: str, names: Sequence[str], columns: Mapping[str, Sequence[str]], width: int, spare: Sequence[str]
) -> Iterator[Table | Text]:
    """Names and columns (head -> a cell for each name).

    Args:
        head: of the names.
        names: of the rows.
        columns: the other cells.
        width: to fit into.
        spare: heads of the columns that are left out first, in this order, until the others fit.
    """
    widths = {head: max(map(cell_len, (*head.split("\n"), *cells))) for head, cells in columns.items()}
    room = width - min(NARROW_NAME, max(map(cell_len, (head, *names))))
    left_out: list[str] = []
    while room < sum(cells + GAP for cells in widths.values()) and len(left_out) < len(spare):
        left_out.append(spare[len(left_out)])
        del widths[left_out[-1]]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    table.add_column(head, overflow="fold", vertical="bottom")
    for column, cells in widths.items():
        table.add_column(column, justify="right", width=cells, overflow="fold")
    for row, name in enumerate(names):
        table.add_row(Text(name), *(columns[column][row] for column in widths))
    yield table
    if left_out:
        heads = ", ".join(column.replace("\n", " ") for column in left_out)
        yield Text(f"left out, as the terminal is narrow: {heads}; see --format json", style="dim")


def _labels(attributes: Mapping[str, Data], width: int) -> Iterator[Table | Text]:
    heads = {"+": "n_positive", "-": "n_negative", "NA": "n_missing"}
    heads |= {"share\n+": "prevalence", "share\nNA": "missing_rate", "groups": "n_groups"}
    columns = _cells(attributes.values(), heads)
    for part in ("train", "val", "test"):
        fewest = [(row[f"min_{part}_positive"], row[f"min_{part}_negative"]) for row in attributes.values()]
        columns[f"{part}\n+/-"] = [f"{positive}/{negative}" for positive, negative in fewest]
    columns["p"] = [p_value(row["signal"]["adjusted"]) for row in attributes.values()]
    columns["AUC"] = [number(row["signal"]["auc"]) for row in attributes.values()]
    spare = ("train\n+/-", "groups", "share\nNA", "val\n+/-", "share\n+", "AUC", "test\n+/-", "p")
    yield from _table("attribute", list(attributes), columns, width, spare)
    caption = (
        "groups: duplicate groups with an observed label; train, val, test: the fewest of any fold; p: association "
        "with the features before training, Holm-adjusted; AUC: of a linear probe, out of fold"
    )
    yield Text(caption, style="dim")


def _pairs(pairs: Sequence[Data], width: int) -> Iterator[Table | Text]:
    if not pairs:
        return
    rows = sorted(pairs, key=lambda row: -np.nan_to_num(abs(row["phi"])))[:SHOWN_PAIRS]
    heads = {"both\nobserved": "n_observed", "both\n+": "n_both", "phi": "phi", "b if a": "b_if_a"}
    heads |= {"b if\nnot a": "b_if_not_a", "both\nNA": "n_both_missing", "phi\nof NA": "missing_phi"}
    spare = ("phi\nof NA", "both\nNA", "b if\nnot a", "b if a", "both\n+")
    yield from _table("a, b", [f"{row['a']}, {row['b']}" for row in rows], _cells(rows, heads), width, spare)
    more = len(pairs) - len(rows)
    smaller = f"; {more} more pairs with a smaller one: --format json" if more else ""
    yield Text(f"phi: correlation{smaller}", style="dim")


def _missing(audit: Audit) -> Iterator[Text]:
    if not audit.counts.missing.any():
        yield Text("no label is NA")
        return
    untested = []
    for family, on in DEPENDS_ON.items():
        if tests := by_p(audit, family):
            style = "yellow" if tests[0].adjusted < LEVEL else ""
            yield Text(f"{on}, {count(len(tests), 'test')}: {describe(tests[0])}", style=style)
        else:
            untested.append(on)
    if untested:
        yield Text(f"nothing to test (all equal, or under {FEWEST} rows on one side): {', '.join(untested)}")
    yield Text(f"the smallest p of each kind, Holm-adjusted over its tests; a warning from p < {LEVEL:g}", style="dim")


def _duplicates(data: Data, width: int) -> Iterator[Text]:
    duplicates = data["duplicates"]
    copies = [" = ".join(names) for names in duplicates["exact"]]
    yield _flow("exact: ", copies[:SHOWN_PAIRS] or ["none"], "; ", width)
    if copies:
        shares = {name: row["duplicates"] for name, row in data["attributes"].items()}
        differing = listed([f"{name} {share['differing']} of {share['pairs']}" for name, share in shares.items()])
        more = f"; {len(copies) - SHOWN_PAIRS} more: --format json" if len(copies) > SHOWN_PAIRS else ""
        yield Text(f"  labels that differ between copies: {differing}{more}", style="dim")
    near, total = duplicates["near"], duplicates["n_near_pairs"]
    pairs = [f"{pair['a']} ~ {pair['b']} {number(pair['cosine'])}{'*' if pair['cut'] else ''}" for pair in near]
    yield _flow(f"near (cosine >= {duplicates['near_threshold']:g}): ", pairs[:SHOWN_PAIRS] or ["none"], "; ", width)
    if total:
        text = f"  this split separates {duplicates['near_pairs_cut_by_this_split']} of {count(total, 'pair')} (*), "
        text += f"one that ignores duplicates {duplicates['near_pairs_cut_by_a_naive_split']:.1f} on average"
        text += f"; the {len(pairs)} most similar: --format json" if total > SHOWN_PAIRS else ""
        yield Text(text, style="dim")


def _suspects(data: Data, width: int) -> Iterator[Text]:
    places = {name: place for place, name in enumerate(data["attributes"])}
    suspects = sorted(data["suspects"], key=lambda row: places[row["attribute"]])
    for attribute, rows in groupby(suspects, key=lambda row: row["attribute"]):
        labels = [f"{row['image_id']} {'-+'[row['label']]}{number(row['probability_of_label'])}" for row in rows]
        yield _flow(f"{attribute}: ", labels, ", ", width)
    if suspects:
        more = sum(row["n_suspects"] for row in data["attributes"].values()) - len(suspects)
        rest = f"; {SUSPECTS} shown, {more} more suspected" if more else ""
        yield Text(f"the label, + or -, and its out-of-fold probability by a linear probe{rest}", style="dim")


def _flow(start: str, items: Sequence[str], separator: str, width: int) -> Text:
    """Items one after the other, each whole on its line where the width allows."""
    lines = [start]
    for place, item in enumerate(items):
        piece = item + (separator if place + 1 < len(items) else "")
        if lines[-1].strip() and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("  ")
        lines[-1] += piece
    return Text("\n".join(line.rstrip() for line in lines))
