"""The audit in words, worst first, then in tables; and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aimonk_bench.evaluation.audit import (
    FEWEST,
    FEWEST_PAIRS,
    LEVEL,
    NEAR,
    SUSPECTS,
    Audit,
    Dependence,
    conflicts,
    copies,
    cut_chance,
)
from aimonk_bench.evaluation.verdict import listed
from aimonk_bench.records.files import dumps
from aimonk_bench.reporting.layout import GAP
from aimonk_bench.reporting.words import count, number

SHOWN_PAIRS = 15  # of attributes, or of near duplicates, before the rest is only counted
NARROW_NAME = 16  # to which a name may be wrapped before columns are left out
FEW = 10  # positives or negatives of a fold's validation or test rows, below which figures rest on little

DEPENDS_ON = {
    "labels": "other labels",
    "missing": "the NA of other attributes",
    "size": "the size of the picture",
    "format": "the format of the file",
    "features": "what the picture shows",
}


@dataclass(frozen=True)
class Finding:
    """Something that a reader should know: ``level`` is warning or note, ``advice`` says what to do."""

    level: str
    kind: str
    text: str
    advice: str


def findings(audit: Audit) -> list[Finding]:
    """Warnings first, the worst at the top, then notes."""
    every = [
        *_unlabelled(audit),
        *_signal(audit),
        *_disagreeing(audit),
        *_cut(audit),
        *_dependent(audit),
        *_few(audit),
        *_suspected(audit),
        *_files(audit),
        *_copied(audit),
        *_never(audit),
    ]
    return sorted(every, key=lambda finding: finding.level != "warning")


def _unlabelled(audit: Audit) -> Iterator[Finding]:
    counts = audit.counts
    for name, hits, misses in zip(audit.attributes, counts.positive, counts.negative, strict=True):
        if not hits or not misses:
            lacks = "label" if hits == misses else "positive" if not hits else "negative"
            text = f"{name} has no observed {lacks} among the pictures used."
            advice = "Label some, or leave the attribute out (data.attributes)."
            yield Finding("warning", "one_class", text, advice)


def _signal(audit: Audit) -> Iterator[Finding]:
    if np.isnan(audit.adjusted).all():
        return
    if not audit.signal.any():
        p, auc = (
            number(float(np.nanmin(audit.adjusted))),
            listed([number(value) for value in audit.before.auc.tolist()]),
        )
        yield Finding(
            "warning",
            "no_signal",
            f"No attribute is associated with the features (smallest adjusted p {p}; AUC of a linear probe {auc}).",
            "Check that labels and pictures are joined rightly (look at ten at random), then the labels themselves. A "
            "signal that a linear head on these features cannot use may still exist.",
        )
    elif not audit.signal.all():
        names = [name for name, shown in zip(audit.attributes, audit.signal, strict=True) if not shown]
        text = f"No signal is detectable before training for {listed(names)}."
        yield Finding("note", "no_signal", text, "Expect no gain over always-positive there; check labels and counts.")


def _disagreeing(audit: Audit) -> Iterator[Finding]:
    found = audit.disagreement
    told: list[str] = []
    pictures: dict[str, None] = {}  # each content once, whatever it differs in
    for a in range(len(audit.attributes)):
        if found.differing[a]:
            told.append(_share_of_copies(audit, a))
            pictures |= {" = ".join(audit.ids[row] for row in rows): None for rows in _contradicting(audit, a)}
    if told:
        few = f" Under {FEWEST_PAIRS} pairs are too few for a rate." if (found.pairs < FEWEST_PAIRS).any() else ""
        text = f"Exact duplicates have different labels: {listed(told, '; ')}.{few}"
        yield Finding("warning", "duplicates_disagree", text, f"Re-label {listed(list(pictures), '; ')}.")


def _share_of_copies(audit: Audit, a: int) -> str:
    """How many pairs differ in an attribute, and what that says of its labels."""
    found = audit.disagreement
    pairs, differing = int(found.pairs[a]), int(found.differing[a])
    text = f"{audit.attributes[a]} {differing} of {pairs} pairs"
    if pairs < FEWEST_PAIRS:
        return text
    share, low, high, chance = (differing / pairs, *(float(own[a]) for own in (found.low, found.high, found.chance)))
    text += f" ({number(share)} [{number(low)}, {number(high)}], chance {number(chance)}"
    text += f"; label error at least {number(share / 2)} [{number(low / 2)}, {number(high / 2)}]"
    return text + ("; no better than unrelated pictures)" if high >= chance else ")")


def _contradicting(audit: Audit, a: int) -> list[np.ndarray]:
    """The rows of each repeated content whose observed labels of an attribute differ."""
    known = [rows[audit.observed[rows, a]] for rows in copies(audit.content)]
    return [rows for rows in known if len(np.unique(audit.targets[rows, a])) > 1]


def _cut(audit: Audit) -> Iterator[Finding]:
    near = audit.near
    if near.cut:
        yield Finding(
            "warning",
            "near_duplicates_cut",
            f"{near.cut} of {count(near.total, 'pair')} of near duplicates (cosine >= {NEAR:g}) lie on both sides of "
            "the split: heads are tested on pictures much like those they were trained on.",
            "Look at the pairs below. Where they show the same thing, give them one value in a group column "
            "(data.group; jsonl: group): groups are never parted.",
        )


def _dependent(audit: Audit) -> Iterator[Finding]:
    advice = {
        "labels": "`ignore` assumes that NA does not depend on what it hides: compare policies (suite axis `missing`), "
        "and read F1 with its NA bounds.",
        "missing": "They were probably left out together: ask who labelled them and when. Figures of these attributes "
        "rest on the same kind of picture.",
        "size": "NA come from some sources more than from others: find out which; group by source (data.group).",
        "features": "Figures hold for the kind of picture that gets labels. Label a random sample of the NA; compare "
        "policies (suite axis `missing`).",
    }
    advice["format"] = advice["size"]
    found = [test for test in audit.dependence if test.adjusted < LEVEL]
    for family, on in DEPENDS_ON.items():
        tests = sorted((test for test in found if test.family == family), key=lambda test: test.p)
        if tests:
            told = listed([_told(test) for test in tests], "; ")
            yield Finding("warning", f"na_depends_on_{family}", f"NA depends on {on}: {told}.", advice[family])


def _told(test: Dependence) -> str:
    """What one test of NA found: ``attr1 on attr2: NA rate .30 with it, .05 without (adjusted p .0004)``."""
    end = f"(adjusted p {_p(test.adjusted)})"
    if test.family == "features":
        return f"{test.attribute}, predicted with AUC {number(test.found)} {end}"
    if test.family == "size":
        found, otherwise = (
            f"{value:,.0f}" if test.on == "pixels" else f"{value:.2f}" for value in (test.found, test.otherwise)
        )
        return f"{test.attribute} on {test.on}: median {found} where NA, else {otherwise} {end}"
    with_it = {"labels": f"where {test.on} is positive", "missing": f"where {test.on} is NA", "format": test.on}
    return f"{test.attribute}: NA rate {number(test.found)} {with_it[test.family]}, else {number(test.otherwise)} {end}"


def _few(audit: Audit) -> Iterator[Finding]:
    least = audit.counts.smallest[1:].min(axis=0)  # [2, A]
    part, test = [], audit.counts.smallest[2]
    for a, name in enumerate(audit.attributes):
        for state, word in enumerate(("positives", "negatives")):
            if least[state, a] < FEW and audit.counts.positive[a] and audit.counts.negative[a]:
                part.append(f"{name} {least[state, a]} {word} ({test[state, a]} to test on)")
    if part:
        text = f"Thresholds and figures rest on few labels; the fewest of a fold's validation or test: {listed(part)}."
        yield Finding("warning", "few", text, "Label more of the rare class, or use fewer folds or a larger split.val.")


def _suspected(audit: Audit) -> Iterator[Finding]:
    total = audit.suspects.total
    if total.any():
        share = [f"{name} {n}" for name, n in zip(audit.attributes, total.tolist(), strict=True) if n]
        yield Finding(
            "note",
            "suspected_labels",
            f"The pictures speak against {count(int(total.sum()), 'label')}: {listed(share)}. This is no error rate: "
            "with perfect labels it would be 43-50 % of them at AUC .5, 12-19 % at .75, 3-7 % at .9.",
            "Check the list below from the top; stop when you find nothing more.",
        )


def _files(audit: Audit) -> Iterator[Finding]:
    files = audit.files
    if audit.skipped:
        names = listed([f"{name} ({reason})" for name, reason in audit.skipped])
        yield Finding("warning", "skipped", f"Left out: {names}.", "Restore the files or strike out their lines.")
    if files.misnamed:
        names = listed([f"{audit.ids[row]} is {kind}" for row, kind in files.misnamed])
        advice = "They are read rightly here; rename them, since other tools may go by the name."
        yield Finding("note", "misnamed", f"The name promises another format: {names}.", advice)
    transparent = [audit.ids[row] for row in np.flatnonzero(files.transparent)]
    if transparent:
        text = f"{count(len(transparent), 'picture')} with transparency: {listed(transparent)}."
        yield Finding("note", "transparent", text, "They are seen on white here; see that they look so in use, too.")
    grey = [audit.ids[row] for row in np.flatnonzero(files.grey)]
    if grey and len(grey) < len(audit.ids):
        text = f"{count(len(grey), 'picture')} stored without colours among coloured ones: {listed(grey)}."
        yield Finding(
            "note", "grey", text, "They become three equal channels; see that colour does not give away a label."
        )


def _copied(audit: Audit) -> Iterator[Finding]:
    pairs = sum(len(rows) * (len(rows) - 1) // 2 for rows in copies(audit.content))
    if pairs:
        yield Finding(
            "note",
            "duplicates",
            f"{count(pairs, 'pair')} of exact duplicates: a split by picture would cut "
            f"{pairs * cut_chance(audit.part):.1f} of them on average.",
            "Nothing to do: equal bytes are kept together here. Keep that in mind with other tools.",
        )


def _never(audit: Audit) -> Iterator[Finding]:
    words = {
        "exclusive": "{a} and {b} are never both positive",
        "one of": "{a} or {b} is always positive",
        "implies": "{a} is never positive without {b}",
    }
    found = sorted(conflicts(audit.together), key=lambda item: -item[3])
    told = [words[kind].format(a=audit.attributes[a], b=audit.attributes[b]) for kind, a, b, _ in found]
    if told:
        advice = "If that is by definition, fine; if not, look at how they were labelled."
        yield Finding("note", "never", f"{listed(told, '; ')}.", advice)


def _p(value: float) -> str:
    return number(value) if value >= 0.01 else f"{value:.1g}".replace("0.", ".", 1)


def render(audit: Audit, console: Console) -> None:
    """Print the audit, as wide as the console allows; nothing is cut off."""
    split = "a hold-out" if audit.folds == 1 else f"{audit.folds} folds"
    listed = len(audit.ids) + len(audit.skipped)
    pictures = f"{len(audit.ids)} of {listed} listed pictures" if audit.skipped else count(listed, "picture")
    formats = ", ".join(f"{n} {kind}" for kind, n in audit.files.formats.items())
    console.print(Text(f"audit of {audit.name}: {pictures}, {count(len(audit.attributes), 'attribute')}", style="bold"))
    console.print(Text(f"{formats}, {_size(audit)}; features of {audit.features}; {split}"), "", sep="\n")
    _print_findings(findings(audit), console)
    for title, body in (
        ("Labels", _labels(audit, console)),
        ("Pairs of attributes", _pairs(audit, console)),
        ("What NA depends on", list(_missing(audit))),
        ("Duplicates", list(_duplicates(audit, console.width))),
        ("Labels to look at, most suspicious first", list(_suspects(audit, console.width))),
    ):
        if body:
            console.print("", Text(title, style="bold"), *body, sep="\n", overflow="fold")


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
    title = (
        f"{count(warnings, 'warning')}, then {count(len(found) - warnings, 'note')}" if found else "Nothing to warn of"
    )
    console.print(Text(title, style="bold yellow" if warnings else "bold green"), table, sep="\n")


def _table(
    first: str, names: Sequence[str], columns: dict[str, list[str]], console: Console, spare: Sequence[str]
) -> list[Table | Text]:
    """Names and columns (head -> a cell for each name); those of ``spare`` leave in turn until the others fit."""
    left_out: list[str] = []
    name = min(NARROW_NAME, max(map(cell_len, (first, *names))))
    widths = {head: max(cell_len(text) for text in (*head.split("\n"), *cells)) for head, cells in columns.items()}
    while name + sum(width + GAP for width in widths.values()) > console.width and len(left_out) < len(spare):
        left_out.append(spare[len(left_out)])
        del widths[left_out[-1]]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    table.add_column(first, overflow="fold", vertical="bottom")
    for head, width in widths.items():
        table.add_column(head, justify="right", width=width, overflow="fold")
    for row, own in enumerate(names):
        table.add_row(Text(own), *(columns[head][row] for head in widths))
    heads = ", ".join(head.replace("\n", " ") for head in left_out)
    text = f"left out, as the terminal is narrow: {heads}; see --format json"
    return [table, *([Text(text, style="dim")] if left_out else [])]


def _labels(audit: Audit, console: Console) -> list[Table | Text]:
    counts = audit.counts
    columns = {
        "+": [str(n) for n in counts.positive],
        "-": [str(n) for n in counts.negative],
        "NA": [str(n) for n in counts.missing],
        "share\n+": [number(share) for share in counts.prevalence.tolist()],
        "share\nNA": [number(share) for share in counts.missing_rate.tolist()],
        "groups": [str(n) for n in counts.groups],
    }
    for part, least in zip(("train", "val", "test"), counts.smallest, strict=True):
        columns[f"{part}\n+/-"] = [f"{hits}/{misses}" for hits, misses in least.T]
    columns["p"] = [_p(p) for p in audit.adjusted.tolist()]
    columns["AUC"] = [number(auc) for auc in audit.before.auc.tolist()]
    spare = ("train\n+/-", "groups", "share\nNA", "val\n+/-", "share\n+", "AUC", "test\n+/-", "p")
    caption = (
        "groups: of pictures that never part, with a label; +/-: the fewest of any fold; p: is the attribute "
        "associated with the features, adjusted for the number of attributes; AUC: of a linear probe, out of fold"
    )
    return [*_table("attribute", audit.attributes, columns, console, spare), Text(caption, style="dim")]


def _pairs(audit: Audit, console: Console) -> list[Table | Text]:
    pairs = audit.together
    upper = [(a, b) for b in range(len(audit.attributes)) for a in range(b)]
    if not upper:
        return []
    order = sorted(upper, key=lambda pair: -np.nan_to_num(abs(pairs.phi[pair])))[:SHOWN_PAIRS]
    rows = [_pair(audit, a, b) for a, b in order]
    whole = {"both\nseen": "n_observed", "both\n+": "n_both"}
    shares = {"phi": "phi", "b if a": "b_if_a", "b if\nnot a": "b_if_not_a"}
    columns = {head: [str(row[key]) for row in rows] for head, key in whole.items()}
    columns |= {head: [number(row[key]) for row in rows] for head, key in shares.items()}
    columns["both\nNA"] = [str(row["n_both_missing"]) for row in rows]
    columns["phi\nof NA"] = [number(row["missing_phi"]) for row in rows]
    spare = ("phi\nof NA", "both\nNA", "b if\nnot a", "b if a", "both\n+")
    more = len(upper) - len(order)
    text = f"phi: correlation; {more} more pairs with a smaller one: --format json" if more else "phi: correlation"
    names = [f"{row['a']}, {row['b']}" for row in rows]
    return [*_table("a, b", names, columns, console, spare), Text(text, style="dim")]


def _pair(audit: Audit, a: int, b: int) -> dict[str, Any]:
    """Co-occurrence of two attributes as plain data."""
    pairs = audit.together
    both, only_a, only_b = int(pairs.both[a, b]), int(pairs.first_only[a, b]), int(pairs.first_only[b, a])
    neither = int(pairs.neither[a, b])

    def share(part: int, whole: int) -> float:
        return part / whole if whole else np.nan

    return {
        "a": audit.attributes[a],
        "b": audit.attributes[b],
        "n_observed": both + only_a + only_b + neither,
        "n_both": both,
        "n_only_a": only_a,
        "n_only_b": only_b,
        "n_neither": neither,
        "phi": float(pairs.phi[a, b]),
        "b_if_a": share(both, both + only_a),
        "b_if_not_a": share(only_b, only_b + neither),
        "a_if_b": share(both, both + only_b),
        "a_if_not_b": share(only_a, only_a + neither),
        "n_both_missing": int(pairs.missing[a, b]),
        "missing_phi": float(pairs.missing_phi[a, b]),
    }


def _missing(audit: Audit) -> Iterator[Text]:
    if not audit.counts.missing.any():
        yield Text("no label is NA")
        return
    untested = []
    for family, on in DEPENDS_ON.items():
        tests = sorted((test for test in audit.dependence if test.family == family), key=lambda test: test.p)
        if tests:
            style = "yellow" if tests[0].adjusted < LEVEL else ""
            yield Text(f"{on}, {count(len(tests), 'test')}: {_told(tests[0])}", style=style)
        else:
            untested.append(on)
    if untested:
        yield Text(f"nothing to test (all alike, or under {FEWEST} rows on one side): {', '.join(untested)}")
    text = f"of each kind the smallest p, adjusted for the tests of its kind; a warning from p < {LEVEL:g}"
    yield Text(text, style="dim")


def _duplicates(audit: Audit, width: int) -> Iterator[Text]:
    repeated = [" = ".join(audit.ids[row] for row in rows) for rows in copies(audit.content)]
    yield _flow("exact: ", repeated[:SHOWN_PAIRS] or ["none"], "; ", width)
    if repeated:
        found = audit.disagreement
        differing = [
            f"{name} {d} of {n}" for name, d, n in zip(audit.attributes, found.differing, found.pairs, strict=True)
        ]
        more = f"; {len(repeated) - SHOWN_PAIRS} more: --format json" if len(repeated) > SHOWN_PAIRS else ""
        yield Text(f"  labels that differ between copies: {listed(differing)}{more}", style="dim")
    near = audit.near
    pairs = [
        f"{audit.ids[first]} ~ {audit.ids[second]} {number(float(cosine))}"
        + ("*" if audit.part[first] != audit.part[second] else "")
        for first, second, cosine in zip(near.first, near.second, near.cosine, strict=True)
    ]
    yield _flow(f"near (cosine >= {NEAR:g}): ", pairs[:SHOWN_PAIRS] or ["none"], "; ", width)
    if near.total:
        text = f"  {near.cut} of {count(near.total, 'pair')} cut (*) by this split, on average "
        text += f"{near.total * cut_chance(audit.part):.1f} by a split by picture"
        text += f"; the {len(pairs)} most alike: --format json" if near.total > SHOWN_PAIRS else ""
        yield Text(text, style="dim")


def _suspects(audit: Audit, width: int) -> Iterator[Text]:
    found = audit.suspects
    for a in np.unique(found.attribute):
        names = [
            f"{audit.ids[found.row[i]]} {'+' if found.positive[i] else '-'}{number(float(found.probability[i]))}"
            for i in np.flatnonzero(found.attribute == a)
        ]
        yield _flow(f"{audit.attributes[a]}: ", names, ", ", width)
    if len(found.row):
        text = "the label, + or -, and the out-of-fold probability that a linear probe gives it"
        more = int(found.total.sum()) - len(found.row)
        yield Text(text + (f"; {SUSPECTS} shown, {more} more suspected" if more else ""), style="dim")


def _flow(start: str, items: Sequence[str], separator: str, width: int) -> Text:
    """Items one after the other, each whole on its line where the width allows."""
    lines = [start]
    for place, item in enumerate(items):
        piece = item + (separator if place + 1 < len(items) else "")
        if lines[-1].strip() and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("  ")
        lines[-1] += piece
    return Text("\n".join(line.rstrip() for line in lines))


def to_json(audit: Audit) -> str:
    """Everything as JSON; attributes, pictures and pairs by name."""
    content = {
        "name": audit.name,
        "n_listed": len(audit.ids) + len(audit.skipped),
        "n_used": len(audit.ids),
        "skipped": [{"image_id": name, "reason": reason} for name, reason in audit.skipped],
        "features": audit.features,
        "folds": audit.folds,
        "findings": [asdict(finding) for finding in findings(audit)],
        "attributes": {name: _attribute(audit, a) for a, name in enumerate(audit.attributes)},
        "pairs": [_pair(audit, a, b) for b in range(len(audit.attributes)) for a in range(b)],
        "dependence_of_missing": [asdict(test) for test in audit.dependence],
        "files": _files_json(audit),
        "duplicates": _duplicates_json(audit),
        "suspects": _suspects_json(audit),
    }
    return dumps(content)


def _attribute(audit: Audit, a: int) -> dict[str, Any]:
    counts, found = audit.counts, audit.disagreement
    smallest = {
        f"min_{part}_{state}": counts.smallest[p, s, a]
        for p, part in enumerate(("train", "val", "test"))
        for s, state in enumerate(("positive", "negative"))
    }
    names = ("positive", "negative", "missing", "groups")
    return {
        **{f"n_{name}": getattr(counts, name)[a] for name in names},
        "prevalence": counts.prevalence[a],
        "missing_rate": counts.missing_rate[a],
        **smallest,
        "signal": {
            "p": audit.before.p[a],
            "adjusted": audit.adjusted[a],
            "auc": audit.before.auc[a],
            "shown": audit.signal[a],
            "note": audit.before.notes[a],
        },
        "duplicates": {field.name: getattr(found, field.name)[a] for field in fields(found)},
        "n_suspects": audit.suspects.total[a],
    }


def _files_json(audit: Audit) -> dict[str, Any]:
    files = audit.files
    return {
        "formats": files.formats,
        "width": {"min": files.width.min(), "median": np.median(files.width), "max": files.width.max()},
        "height": {"min": files.height.min(), "median": np.median(files.height), "max": files.height.max()},
        "misnamed": [{"image_id": audit.ids[row], "format": kind} for row, kind in files.misnamed],
        "transparent": [audit.ids[row] for row in np.flatnonzero(files.transparent)],
        "grey": {"n": files.grey.sum(), "all": bool(files.grey.all())},
    }


def _duplicates_json(audit: Audit) -> dict[str, Any]:
    near, repeated = audit.near, copies(audit.content)
    pairs = sum(len(rows) * (len(rows) - 1) // 2 for rows in repeated)
    chance = cut_chance(audit.part)
    listed = zip(near.first.tolist(), near.second.tolist(), near.cosine.tolist(), strict=True)
    return {
        "exact": [[audit.ids[row] for row in rows] for rows in repeated],
        "n_exact_pairs": pairs,
        "exact_pairs_cut_by_a_naive_split": pairs * chance,
        "near_threshold": NEAR,
        "n_near_pairs": near.total,
        "near_pairs_cut_by_a_naive_split": near.total * chance,
        "near_pairs_cut_by_this_split": near.cut,
        "near": [
            {"a": audit.ids[a], "b": audit.ids[b], "cosine": cosine, "cut": bool(audit.part[a] != audit.part[b])}
            for a, b, cosine in listed
        ],
    }


def _suspects_json(audit: Audit) -> list[dict[str, Any]]:
    found = audit.suspects
    rows = zip(found.row, found.attribute, found.positive.tolist(), found.probability.tolist(), strict=True)
    return [
        {
            "image_id": audit.ids[row],
            "attribute": audit.attributes[a],
            "label": int(positive),
            "probability_of_label": probability,
        }
        for row, a, positive, probability in rows
    ]
