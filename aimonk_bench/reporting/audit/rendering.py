"""The audit on a terminal: its findings, then its tables. Nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aimonk_bench.evaluation.audit import FEWEST, LEVEL, NEAR, SUSPECTS, Audit, copies, cut_chance
from aimonk_bench.evaluation.verdict import listed
from aimonk_bench.reporting.audit.as_json import pair
from aimonk_bench.reporting.audit.findings import DEPENDS_ON, Finding, by_p, describe, findings
from aimonk_bench.reporting.layout import GAP, NARROW_NAME
from aimonk_bench.reporting.words import count, number, p_value

SHOWN_PAIRS = 15  # of attributes, or of near duplicates, before the rest is only counted


def render(audit: Audit, console: Console) -> None:
    """Print the audit, as wide as the console allows."""
    split = "a hold-out" if audit.folds == 1 else f"{audit.folds} folds"
    n_listed = len(audit.ids) + len(audit.skipped)
    images = f"{len(audit.ids)} of {n_listed} listed images" if audit.skipped else count(n_listed, "image")
    formats = ", ".join(f"{n} {kind}" for kind, n in audit.files.formats.items())
    console.print(Text(f"audit of {audit.name}: {images}, {count(len(audit.attributes), 'attribute')}", style="bold"))
    console.print(Text(f"{formats}, {_size(audit)}; features of {audit.features}; {split}"), "", sep="\n")
    _print_findings(findings(audit), console)
    for title, body in {
        "Labels": _labels(audit, console.width),
        "Pairs of attributes": _pairs(audit, console.width),
        "What NA depends on": _missing(audit),
        "Duplicates": _duplicates(audit, console.width),
        "Labels to look at, most suspicious first": _suspects(audit, console.width),
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


def _print_findings(found: Sequence[Finding], console: Console) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    styles = {"warning": "bold yellow", "note": "dim"}
    for place, finding in enumerate(found, start=1):
        table.add_row(Text(str(place), style=styles[finding.level]), Text(finding.text))
        table.add_row("", Text(f"-> {finding.advice}", style="cyan"))
    warnings = sum(finding.level == "warning" for finding in found)
    title = f"{count(warnings, 'warning')}, then {count(len(found) - warnings, 'note')}" if found else "No findings"
    console.print(Text(title, style="bold yellow" if warnings else "bold green"), table, sep="\n")


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


def _labels(audit: Audit, width: int) -> Iterator[Table | Text]:
    counts = audit.counts
    columns = {
        "+": [str(n) for n in counts.positive],
        "-": [str(n) for n in counts.negative],
        "NA": [str(n) for n in counts.missing],
        "share\n+": [number(share) for share in counts.prevalence.tolist()],
        "share\nNA": [number(share) for share in counts.missing_rate.tolist()],
        "groups": [str(n) for n in counts.groups],
    }
    for part, fewest in zip(("train", "val", "test"), counts.smallest, strict=True):
        columns[f"{part}\n+/-"] = [f"{positive}/{negative}" for positive, negative in fewest.T]
    columns["p"] = [p_value(p) for p in audit.adjusted.tolist()]
    columns["AUC"] = [number(auc) for auc in audit.before.auc.tolist()]
    spare = ("train\n+/-", "groups", "share\nNA", "val\n+/-", "share\n+", "AUC", "test\n+/-", "p")
    yield from _table("attribute", audit.attributes, columns, width, spare)
    caption = (
        "groups: duplicate groups with an observed label; train, val, test: the fewest of any fold; p: association "
        "with the features before training, Holm-adjusted; AUC: of a linear probe, out of fold"
    )
    yield Text(caption, style="dim")


def _pairs(audit: Audit, width: int) -> Iterator[Table | Text]:
    every = [(a, b) for b in range(len(audit.attributes)) for a in range(b)]
    if not every:
        return
    strongest = sorted(every, key=lambda places: -np.nan_to_num(abs(audit.together.phi[places])))[:SHOWN_PAIRS]
    rows = [pair(audit, a, b) for a, b in strongest]
    columns = {
        "both\nobserved": [str(row["n_observed"]) for row in rows],
        "both\n+": [str(row["n_both"]) for row in rows],
        "phi": [number(row["phi"]) for row in rows],
        "b if a": [number(row["b_if_a"]) for row in rows],
        "b if\nnot a": [number(row["b_if_not_a"]) for row in rows],
        "both\nNA": [str(row["n_both_missing"]) for row in rows],
        "phi\nof NA": [number(row["missing_phi"]) for row in rows],
    }
    spare = ("phi\nof NA", "both\nNA", "b if\nnot a", "b if a", "both\n+")
    yield from _table("a, b", [f"{row['a']}, {row['b']}" for row in rows], columns, width, spare)
    more = len(every) - len(rows)
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


def _duplicates(audit: Audit, width: int) -> Iterator[Text]:
    repeated = [" = ".join(audit.ids[row] for row in rows) for rows in copies(audit.content)]
    yield _flow("exact: ", repeated[:SHOWN_PAIRS] or ["none"], "; ", width)
    if repeated:
        shares = zip(audit.attributes, audit.disagreement.differing, audit.disagreement.pairs, strict=True)
        differing = listed([f"{name} {n} of {pairs}" for name, n, pairs in shares])
        more = f"; {len(repeated) - SHOWN_PAIRS} more: --format json" if len(repeated) > SHOWN_PAIRS else ""
        yield Text(f"  labels that differ between copies: {differing}{more}", style="dim")
    near = audit.near
    pairs = [
        f"{audit.ids[first]} ~ {audit.ids[second]} {number(float(cosine))}"
        + ("*" if audit.part[first] != audit.part[second] else "")
        for first, second, cosine in zip(near.first, near.second, near.cosine, strict=True)
    ]
    yield _flow(f"near (cosine >= {NEAR:g}): ", pairs[:SHOWN_PAIRS] or ["none"], "; ", width)
    if near.total:
        text = f"  this split separates {near.cut} of {count(near.total, 'pair')} (*), one that ignores duplicates "
        text += f"{near.total * cut_chance(audit.part):.1f} on average"
        text += f"; the {len(pairs)} most similar: --format json" if near.total > SHOWN_PAIRS else ""
        yield Text(text, style="dim")


def _suspects(audit: Audit, width: int) -> Iterator[Text]:
    suspects = audit.suspects
    columns = (suspects.row, suspects.attribute, suspects.positive, suspects.probability.tolist())
    for a in np.unique(suspects.attribute):
        labels = [
            f"{audit.ids[row]} {'+' if positive else '-'}{number(probability)}"
            for row, attribute, positive, probability in zip(*columns, strict=True)
            if attribute == a
        ]
        yield _flow(f"{audit.attributes[a]}: ", labels, ", ", width)
    if len(suspects.row):
        more = int(suspects.total.sum()) - len(suspects.row)
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
