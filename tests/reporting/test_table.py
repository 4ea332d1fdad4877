"""The table at every width, and as Markdown."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import fake_suite
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.comparison import Delta, Mark
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.fairness import Unfair
from aimonk_bench.records import files, run, suite
from aimonk_bench.registry import Spec
from aimonk_bench.reporting import captions, columns, markup, remarks, summary, table, warning_lines
from aimonk_bench.reporting.cells import FEW, MISSED, Cell, aimed, detectable, difference, gain, score, versus
from aimonk_bench.reporting.columns import BELOW
from aimonk_bench.reporting.summary import MACRO, Summary
from aimonk_bench.reporting.verdict import sentence
from aimonk_bench.reporting.view import View
from aimonk_bench.reporting.words import UNDEFINED, run_name, wrap

CELEBA = [
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "[red]"),
    *("No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "戴眼镜"),
    *("Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "a|b", "Wearing_Necktie"),
    "Young",
]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 runs on four attributes: 13 done, one failed, one not run."""
    folder = tmp_path_factory.mktemp("suites") / "comparison"
    fake_suite.comparison(folder)
    return folder


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on forty attributes, one of them without a positive."""
    folder = tmp_path_factory.mktemp("suites") / "celeba"
    fake_suite.comparison(folder, attributes=CELEBA, without_positives=["Bald"], folds=2)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 runs with long names, 3 of them failed, one not run."""
    folder = tmp_path_factory.mktemp("suites") / "many"
    losses = [
        f"asymmetric(gamma_neg={n}.0, gamma_pos={p}.0, clip=0.0{c})"
        for n in range(4)
        for p in range(2)
        for c in range(4)
    ]
    names = [f"{loss} + repeat_factor" for loss in losses]
    for i, (place, name) in enumerate(zip(fake_suite.write_suite(folder, names, baseline=0)[:-1], names, strict=False)):
        if i % 9 == 8:
            fake_suite.write_failed(
                place, name, "no weights:\n  hub: no answer (a/" + "very/" * 30 + "long/path.safetensors)"
            )
        else:
            columns_of_run = fake_suite.columns(losses[i], "repeat_factor")
            fake_suite.write_run(
                place, name, fake_suite.predictions(signal=0.3 + i % 7 / 7, noise=i), run_columns=columns_of_run
            )
    return folder


EXPLAIN = View(explain=True)


@functools.cache
def summarized(folder: Path) -> Summary:
    """The summary of a suite; a test writes all of a suite before it asks for this, because it is read only once."""
    return summary.summarize(suite.collect(folder))


def show(folder: Path, width: int, view: View = EXPLAIN) -> list[str]:
    console = Console(width=width, file=io.StringIO(), no_color=True)
    table.render(view.ordered(summarized(folder)), console, view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def body_and_verdict(lines: list[str]) -> tuple[list[str], str]:
    """The lines above the last paragraph, and that as one line."""
    place = len(lines) - lines[::-1].index("")
    return lines[:place], " ".join(line.rstrip() for line in lines[place:])


def markdown(made: Summary) -> str:
    return markup.markdown(made, View(top=100, explain=True))


def verdict_of(made: Summary) -> str:
    assert made.statistics
    return sentence(made.statistics.verdict, made.collection.names, made.statistics.against_winner)


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def cells_of(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


# Cells ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text", "mark"),
    [
        (score(0.744, 0.636, 0.031), ".64 -> .74 ±.03", ""),
        (score(0.744, math.nan, 0.031, plus_minus="+-"), ".74 +-.03", ""),
        (score(0.5, few=True), "~.50", FEW),
        (score(math.nan, math.nan, few=True), "-", UNDEFINED),
        (gain(-0.014), "-.01", ""),
        (gain(-0.001), ".00", ""),
        (gain(math.nan), "-", UNDEFINED),
    ],
)
def test_a_cell_names_the_mark_that_the_caption_explains(cell: Cell, text: str, mark: str) -> None:
    assert (cell.text.plain, cell.mark) == (text, mark)


@given(st.text(alphabet=st.sampled_from("ab_ ,.()=-+é眼|"), max_size=60), st.integers(2, 30))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert squeezed("".join(lines)) == squeezed(text)
    assert max(map(cell_len, lines)) <= width


# The terminal --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [24, 80, 119, 120, 200, 300])
@pytest.mark.parametrize("name", ["comparison", "celeba", "many"])
def test_nothing_is_cut_and_nothing_is_too_wide(name: str, width: int, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    made = summarized(folder)
    everything = show(folder, width, View(top=100, explain=True))
    assert max(map(cell_len, everything)) <= width
    lines, verdict = body_and_verdict(everything)
    assert made.statistics
    assert squeezed(verdict) == squeezed(verdict_of(made))
    text, _, rest = "\n".join(lines).partition("warning: ")
    assert not re.search(r"…|\.\.\.", text)
    assert re.match(r"\d+ of \d+ runs finished \(\d+ failed, 1 not run\)", " ".join(rest.split()))
    names = captions.row_names(made).values()
    place = columns.fit(made, names, width).name
    first_column = squeezed("".join(line[:place] for line in lines))
    for label in names:
        assert squeezed(label) in first_column
    for record in made.collection.failed:
        first, *more = str(record.status.reason).splitlines()
        right = squeezed("".join(line[place:] for line in lines))
        assert squeezed(f"failed: {first} (runs/{record.status.id})") in right
        assert all(squeezed(line) not in squeezed(text) for line in more)
        assert ("status.json" in text) == bool(more)
    assert text.count("not run") == 1


def few_rows(folder: Path, run_id: str) -> list[bool]:
    """Whether TP or FP + FN of an attribute, means over the seeds, is below 5."""
    made = run.read(folder / "runs" / run_id)
    decisions = Decisions.of(made.predictions, made.thresholds)
    labels = decisions.labels
    tp = (decisions.accepted & labels.positive).sum(1).mean(0)
    union = ((decisions.accepted & labels.observed) | labels.positive).sum(1).mean(0)
    return [bool(min(t, u - t) < 5) for t, u in zip(tp, union, strict=True)]


def test_cells_at_each_width(comparison: Path) -> None:
    made = summarized(comparison)
    rows = summary.frame([made])[60:65].to_dict("records")  # class_balanced + uniform
    default, tuned = ([f"{row[name]:.2f}"[1:] for row in rows] for name in ("f1_default", "f1_tuned"))
    ap, auc = ([f"{row[name]:.2f}"[1:] for row in rows] for name in ("average_precision", "roc_auc"))
    gained = f"{rows[4]['f1_tuned'] - rows[4]['floor_f1']:+.2f}".replace("0.", ".")
    half = f" ±{(rows[4]['f1_tuned_high'] - rows[4]['f1_tuned_low']) / 2:.2f}".replace("0.", ".")
    few = few_rows(comparison, rows[0]["run"])
    tuned[:4] = ["~" * few[a] + tuned[a] for a in range(4)]
    f1 = [f"{a} -> {b}" for a, b in zip(default, tuned, strict=True)]
    assert made.statistics
    delta = made.statistics.baseline[rows[0]["run"]]
    assert delta.mark in ("better", "unresolved")
    macro = [tuned[4] + half, gained, delta.mark]
    full = [f1[4] + half, gained, delta.mark]
    wide = [f1[4] + half, gained, versus(delta, beside=True).text.plain, difference(delta).text.plain]
    validation = f"{rows[4]['f1_validation']:.2f}"[1:]
    expected = {
        80: [tuned[4] + half, gained, validation, *tuned[:4]],
        120: [*macro, validation, *tuned[:4]],
        200: [*wide, validation, ap[4], auc[4], *f1[:4]],
        240: [*full, validation, ap[4], auc[4], *(cell for a in range(4) for cell in (f1[a], ap[a], auc[a]))],
    }
    for width, cells in expected.items():
        (line,) = [line for line in show(comparison, width) if "class_balanced + uniform" in line]
        assert cells_of(line) == ["class_balanced + uniform", *cells]


DELTA = Delta(
    value=0.031,
    low=0.01,
    high=0.05,
    p=0.2,
    p_unadjusted=0.01,
    simultaneous_low=-0.0114,
    simultaneous_high=0.0734,
    detectable=0.0581,
    mark="unresolved",
    reason=None,
    **dict.fromkeys(("attribute_value", "attribute_low", "attribute_high", "attribute_p"), np.zeros(4)),
    **dict.fromkeys(("na_low", "na_high"), np.zeros(4)),
)


def test_beside_unresolved_stands_what_would_have_been_found() -> None:
    for mark, text in (("unresolved", "unresolved (.06)"), ("better", "better"), ("", "")):
        delta = dataclasses.replace(DELTA, mark=mark)
        assert (versus(delta, beside=False).text.plain, versus(delta, beside=True).text.plain) == (mark, text)
    assert difference(DELTA).text.plain == "+.031 (-.011 to +.073)"


@pytest.mark.parametrize(
    ("mark", "low", "high", "text"),
    [
        ("better", 0.0003, 0.0203, ">.000 to +.020"),
        ("worse", -0.0204, -0.0004, "-.020 to <.000"),
        ("unresolved", -0.0196, 0.0203, "-.020 to >+.020"),
        ("unresolved", -0.0201, 0.01, "<-.020 to +.010"),
        ("unresolved", -0.03, 0.0002, "-.030 to .000"),
        ("equivalent", -0.02, 0.0198, "-.020 to +.020"),
    ],
)
def test_an_interval_that_rounds_to_a_border_agrees_with_the_mark(
    mark: Mark, low: float, high: float, text: str
) -> None:
    delta = dataclasses.replace(DELTA, mark=mark, simultaneous_low=low, simultaneous_high=high)
    assert difference(delta).text.plain == f"+.031 ({text})"


def test_a_difference_that_would_be_found_is_never_shown_as_nothing() -> None:
    shown = [detectable(size) for size in (0.0001, 0.004, 0.0099, 0.00996, 0.2, 1.0)]
    assert shown == ["<.001", ".004", ".010", ".01", ".20", ">1"]


@pytest.mark.parametrize("width", [120, 200])
def test_every_mark_agrees_with_the_interval_beside_it_and_is_explained(comparison: Path, width: int) -> None:
    made, lines = summarized(comparison), show(comparison, width)
    assert made.statistics
    names, marks = captions.row_names(made), set()
    for run_id, delta in made.statistics.baseline.items():
        line = next(line for line in lines if line.startswith(names[run_id] + "  "))
        excludes = delta.simultaneous_low > 0 or delta.simultaneous_high < 0
        assert (delta.mark in ("better", "worse")) == excludes
        assert versus(delta, beside=width == 200).text.plain in cells_of(line) or not delta.mark
        assert (difference(delta).text.plain in cells_of(line)) == (width == 200 and delta.mark != "")
        marks.add(delta.mark)
    assert {"better", "unresolved"} <= marks, "the caption is tested with both"
    text = re.sub(r"\s+", " ", " ".join(lines))
    assert "Holm-adjusted over 14 planned comparisons" in text, "of 15 runs, one failed and one not run"
    differences = [delta.detectable for delta in made.statistics.baseline.values() if delta.mark == "unresolved"]
    limits = [detectable(limit) for limit in (min(differences), max(differences))]
    beside = " (beside each)" if width == 200 else ""
    assert f"unresolved: a true difference of {limits[0]} to {limits[1]}{beside} is found with 80 % prob" in text
    assert ("difference: of macro F1 from the baseline" in text) == (width == 200)
    short = f"unresolved: {limits[0]} to {limits[1]} would be found (80 % power)"
    assert (short in "; ".join(captions.legend(made, layout_of(made, width)))) == (width == 120), (
        "where nothing stands beside each"
    )


def test_the_baselines_have_rows_and_leave_the_gain_empty(comparison: Path) -> None:
    rows = summary.frame([summarized(comparison)])
    for name, label in (("floor_f1", "all positive"), ("prior_f1", "prevalence")):
        line = next(line for line in show(comparison, 80) if line.startswith(label))
        assert cells_of(line) == [label, *(f"{rows.loc[a, name]:.2f}"[1:] for a in (4, 0, 1, 2, 3))]


def test_the_row_of_nested_selection_is_that_of_the_statistics(comparison: Path) -> None:
    made = summarized(comparison)
    assert made.statistics
    chosen = made.statistics.chosen
    tuned, low, high = (float(x) for x in chosen.macro["f1_tuned"] if x is not None)
    gained = tuned - made.values[chosen.runs[0]]["floor_f1"][-1]
    (line,) = [line for line in show(comparison, 80) if line.startswith("selected per fold")]
    assert cells_of(line)[1:3] == [
        score(tuned, half_width=(high - low) / 2).text.plain,
        gain(gained).text.plain,
    ]


def test_the_order_and_the_selection_are_those_of_validation(comparison: Path) -> None:
    made = summarized(comparison)
    rows = summary.frame([made])
    macros = rows[(rows["attribute"] == MACRO) & (rows["state"] == "done")]
    best = macros.sort_values("f1_validation", ascending=False, kind="stable")["run"].tolist()
    assert best != macros.sort_values("f1_tuned", ascending=False)["run"].tolist()
    assert list(made.ranking) == best
    labels = [cells_of(line)[0] for line in show(comparison, 120) if "±" in line and " + " in line]
    names = [run_name(made.collection.names[run_id]) for run_id in best]
    assert [label.removesuffix(" *").removesuffix(" (base)") for label in labels] == names
    assert [label.endswith(" *") for label in labels] == [True] + [False] * (len(labels) - 1)


def test_colour_adds_nothing_that_is_not_in_the_text(comparison: Path) -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    table.render(summarized(comparison), console, EXPLAIN)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert re.search(r"\x1b\[1m\S[^\n]* \*", text), "the selected run is bold"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert lines == show(comparison, 80), "a pipe and a terminal of the same width get the same lines"
    made = summarized(comparison)
    assert made.statistics
    assert body_and_verdict(lines)[1] == verdict_of(made)


def test_many_runs_show_the_best_the_baseline_and_the_failed(many: Path) -> None:
    lines = show(many, 200)
    rows = [line for line in lines if " -> " in line and "asymmetric" in line]
    assert len(rows) == 21
    assert "(base)" in rows[-1]
    assert sum("failed:" in line for line in lines) == 3
    assert any(re.fullmatch(r"7 more runs, val F1 \S+ to \S+: --top 28", line.strip()) for line in lines)
    assert not any("more run" in line for line in show(many, 200, View(top=28)))


def test_the_run_that_the_verdict_names_is_shown(tmp_path: Path) -> None:
    names = [f"run{number}" for number in range(6)]
    for number, place in enumerate(fake_suite.write_suite(tmp_path, names, baseline=5)):
        fake_suite.write_run(place, names[number], fake_suite.predictions(signal=3 - number / 50, noise=number))
    made = summarized(tmp_path)
    assert made.statistics
    verdict = made.statistics.verdict
    assert verdict.outcome == "gain"
    assert verdict.indistinguishable
    for simplest in verdict.indistinguishable:
        changed = dataclasses.replace(verdict, simplest=simplest)
        stats = dataclasses.replace(made.statistics, verdict=changed)
        shown = remarks.shown_runs(dataclasses.replace(made, statistics=stats), top=1)
        assert set(shown) == {made.ranking[0], simplest, made.collection.baseline}


def test_many_missing_runs_are_counted(tmp_path: Path) -> None:
    fake_suite.write_suite(tmp_path, [f"run{i}" for i in range(30)])
    lines = show(tmp_path, 80)
    assert sum(line.startswith("run") and "not run" in line for line in lines) == 20
    assert any(line.startswith("10 more runs not run: --top 30") for line in lines)


def test_many_attributes_show_those_in_which_runs_differ_most(celeba: Path) -> None:
    made = summarized(celeba)
    spread = {
        name: np.ptp([made.values[run_id]["f1_tuned"][a] for run_id in made.ranking]) for a, name in enumerate(CELEBA)
    }
    widest = sorted(CELEBA, key=lambda name: -spread[name] if name != "Bald" else 1)
    plan = columns.fit(made, captions.row_names(made).values(), 120)
    shown = [column.head for column in plan.columns if column.head in CELEBA]
    assert len(shown) >= 3
    assert shown == widest[: len(shown)]
    assert plan.hidden == [name for name in CELEBA if name not in shown]
    text = " ".join(show(celeba, 120))
    assert f"{len(plan.hidden)} of 40 attributes not shown" in text
    assert squeezed(", ".join(plan.hidden)) in squeezed(text)
    assert "over 39 of 40 attributes" in text


def layout_of(made: Summary, width: int) -> columns.Layout:
    return columns.fit(made, captions.row_names(made).values(), width)


def heads(made: Summary, width: int) -> list[str]:
    return [column.head for column in layout_of(made, width).columns]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with short names, on twelve attributes whose names have two words."""
    folder = tmp_path_factory.mktemp("suites") / "pair"
    attributes = ["Streifenmuster sichtbar", *(f"kratzer_ti{number:02}" for number in range(11))]
    for number, place in enumerate(fake_suite.write_suite(folder, ["masked_bce + ignore", "focal + weak_negative"])):
        fake_suite.write_run(place, place.name, fake_suite.predictions(attributes=attributes, noise=number))
    return folder


def test_a_wider_terminal_never_shows_fewer_attributes(pair: Path) -> None:
    made = summarized(pair)
    fitting = [
        len(set(made.attributes) & set(heads(made, width)))
        for width in (*range(60, 116, 5), *range(116, 124), *range(124, 240, 10))
    ]
    assert fitting == sorted(fitting)
    assert (0 < fitting[0] < 12, fitting[-1]) == (True, 12)
    assert "attributes not shown" in " ".join(captions.explanation(made, layout_of(made, 60)))


EIGHT = [f"reifenprof{number:02}" for number in range(8)]


def test_heads_that_are_broken_leave_room_for_the_comparison(tmp_path: Path) -> None:
    for number, place in enumerate(fake_suite.write_suite(tmp_path, ["hill", "focal"])):
        fake_suite.write_run(place, place.name, fake_suite.predictions(attributes=EIGHT[1:], noise=number))
    assert heads(summarized(tmp_path), 120) == ["macro F1", "gain", "vs baseline", "val F1", *EIGHT[1:]]


@pytest.mark.parametrize(
    "names",
    [
        ["asymmetric + class_aware", "masked_bce + repeat_factor"],
        ["hill", "focal"],
        [f"asymmetric(gamma_neg={n}.0, gamma_pos=1.0) + {n} + class_aware" for n in range(2)],
    ],
)
def test_eight_attributes_of_twelve_letters_fit_at_120_columns(tmp_path: Path, names: list[str]) -> None:
    for number, place in enumerate(fake_suite.write_suite(tmp_path, names)):
        fake_suite.write_run(place, place.name, fake_suite.predictions(attributes=EIGHT, noise=number))
    made = summarized(tmp_path)
    for plus_minus in ("±", "+-"):
        layout = columns.fit(made, captions.row_names(made).values(), 120, plus_minus)
        assert [column.head for column in layout.columns][-8:] == EIGHT
        assert not layout.hidden
    narrow = layout_of(made, 80)
    listed = captions.explanation(made, narrow)[-2]
    assert sorted(narrow.hidden) == [name for name in EIGHT if name not in heads(made, 80)]
    assert all(name in listed for name in narrow.hidden)
    assert f"{len(narrow.hidden)} of 8 attributes not shown" in listed


def test_what_the_table_leaves_out_is_named(comparison: Path) -> None:
    made = summarized(comparison)
    for width in range(60, 260, 14):
        layout = layout_of(made, width)
        shown, last = [column.head for column in layout.columns], captions.explanation(made, layout)[-1]
        assert "val F1" in shown, "it sorts the runs"
        for head in ("gain", "vs baseline"):
            assert (head in shown) != (head in last)
        assert ("macro AP" in shown) != ("AP and ROC AUC" in last)
        assert layout.detail.default != ("F1 at 0.5" in last)


def test_the_comparison_is_shown_where_it_fits(comparison: Path) -> None:
    made = summarized(comparison)
    least = min(width for width in range(70, 100) if "vs baseline" in heads(made, width))
    layout = layout_of(made, least)
    assert layout.name + sum(column.width + columns.GAP for column in layout.columns) == least
    assert all("vs baseline" in heads(made, width) for width in (100, 119, 120, 121, 160, 200))


def test_heads_are_broken_between_words_and_only_where_space_is_short(pair: Path, comparison: Path) -> None:
    assert all(list(column.lines) == [column.head] for column in layout_of(summarized(comparison), 160).columns)
    made = summarized(pair)
    for width in (90, 200):
        lines = [list(column.lines) for column in layout_of(made, width).columns if column.head.startswith("Streifen")]
        assert lines in ([], [["Streifenmuster", "sichtbar"]])
    column = columns.Column.of("Streifenmuster sichtbar", {"a": score(0.5)}, columns.NARROW_HEAD)
    assert list(column.lines) == ["Streifenmuster", "sichtbar"]


def test_undefined_is_a_dash_explained_only_where_it_occurs(tmp_path: Path, comparison: Path) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions(without_positives=["attr2"]))
    lines = show(tmp_path, 80)
    line = next(line for line in lines if line.startswith("a "))
    assert cells_of(line)[4] == "-"
    assert any(line.startswith("-: undefined") for line in lines)
    assert not any("undefined" in line for line in show(comparison, 80))


def test_the_mark_of_few_test_rows_is_explained_only_where_it_occurs(tmp_path: Path, comparison: Path) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions(without_positives=["attr2"]))
    for folder, occurs in ((comparison, True), (tmp_path, False)):
        text = "\n".join(show(folder, 80))
        assert ("~.9" in text, "few test rows" in text) == (occurs, occurs)


def test_a_run_below_the_all_positive_baseline_has_a_negative_gain(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path, "worse", fake_suite.predictions(signal=-3.0))
    assert any(re.match(r"worse +\.\d\d ±\.\d\d +-\.\d\d ", line) for line in show(tmp_path, 80))


@pytest.mark.parametrize(("folds", "occurs"), [(3, True), (1, False)])
def test_the_caption_says_what_folds_pool_and_that_their_selected_run_looks_too_good(
    tmp_path: Path, folds: int, occurs: bool
) -> None:
    for number, place in enumerate(fake_suite.write_suite(tmp_path, ["a", "b"])):
        fake_suite.write_run(place, place.name, fake_suite.predictions(noise=number, folds=folds))
    text = " ".join(show(tmp_path, 150))
    for words in ("test rows, pooled over the folds", "which test other folds: its test F1 is a little too high"):
        assert (words in text) == occurs
    assert "selected per fold: nested model selection, the F1 to report" in text


@pytest.mark.parametrize(
    ("other", "reason"),
    [({"folds": 1}, "other test rows than the baseline"), ({"seeds": 1}, "one seed"), ({"noise": 1}, "")],
)
def test_the_caption_says_why_a_run_was_not_compared(tmp_path: Path, other: dict[str, int], reason: str) -> None:
    first, second = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    fake_suite.write_run(second, "b", fake_suite.predictions(**other))
    lines = [line for line in show(tmp_path, 150) if line.startswith("vs baseline is empty")]
    assert len(lines) == bool(reason)
    assert all(reason in line for line in lines)


def test_the_caption_names_attributes_without_two_classes_in_the_test_rows(tmp_path: Path, comparison: Path) -> None:
    made = fake_suite.predictions(without_positives=["attr2"])
    targets, observed = made.labels.targets.copy(), made.labels.observed.copy()
    targets[:, 0], observed[:, 2] = 1, False
    fake_suite.write_run(
        tmp_path, "a", dataclasses.replace(made, labels=Labels.of(targets, observed, made.labels.attributes))
    )
    lines = show(tmp_path, 150)
    assert (
        "warning: attributes whose test labels are all positive: attr1; all negative: attr2; all missing: attr3"
        in lines
    )
    assert not any(line.startswith("warning: attributes whose") for line in show(comparison, 150))


def test_the_macro_of_the_nested_selection_covers_what_those_of_the_runs_cover(tmp_path: Path) -> None:
    for number, place in enumerate(fake_suite.write_suite(tmp_path, ["a", "b"])):
        made = fake_suite.predictions(noise=number)
        targets = made.labels.targets.copy()
        targets[:, 0] = 1  # no ROC AUC
        labels = Labels.of(targets, made.labels.observed, made.labels.attributes)
        fake_suite.write_run(place, place.name, dataclasses.replace(made, labels=labels))
    made_of_both = summarized(tmp_path)
    assert made_of_both.nested
    for figure in ("f1_tuned", "average_precision", "roc_auc"):
        covered = made_of_both.covered[figure]
        values = made_of_both.nested[figure]
        assert values[-1] == pytest.approx(values[:-1][covered].mean())
    assert made_of_both.covered["roc_auc"].tolist() == [False, True, True, True]


def test_without_any_figure_the_table_explains_no_interval(tmp_path: Path) -> None:
    made = fake_suite.predictions()
    labels = Labels.of(made.labels.targets * 0, made.labels.observed, made.labels.attributes)
    fake_suite.write_run(tmp_path, "a", dataclasses.replace(made, labels=labels))
    lines = show(tmp_path, 150)
    assert not any(line.startswith("±") for line in lines)
    assert "macro: over 0 of 4 attributes, those that every finished run defines" in lines
    assert "nothing could be tested" in body_and_verdict(lines)[1]


def test_folders_that_are_no_part_of_the_suite_are_named_and_counted(tmp_path: Path) -> None:
    first, _ = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    for number in range(9):
        (tmp_path / suite.RUNS / f"old-{number}").mkdir()
    (line,) = [line for line in show(tmp_path, 150) if "runs/old-" in line]
    assert line.endswith("... and 3 more")


@pytest.mark.parametrize("hidden", [5, 50, 53])
def test_the_legend_names_the_attributes_that_are_not_shown(celeba: Path, hidden: int) -> None:
    made = summarized(celeba)
    names = [f"attribute {number}" for number in range(hidden)]
    layout = dataclasses.replace(layout_of(made, 80), hidden=names)
    line = captions.legend(made, layout)[-1]
    assert line.startswith(f"{hidden} of 40 attributes not shown (see a wider terminal, --attribute, --explain): ")
    assert line.endswith(", ".join(names[:50]) + " and 3 more: --explain" * (hidden == 53))


@pytest.mark.parametrize("folds", [1, 3])
def test_with_folds_the_legend_says_that_the_selected_run_looks_too_good(tmp_path: Path, folds: int) -> None:
    for number, place in enumerate(fake_suite.write_suite(tmp_path, ["a", "b"])):
        fake_suite.write_run(place, place.name, fake_suite.predictions(noise=number, folds=folds))
    text = "; ".join(show(tmp_path, 100, View()))
    assert ("*: best val F1 (its test F1 is a little too high);" in text) == (folds > 1)
    assert ("*: best val F1;" in text) == (folds == 1)
    assert "; selected per fold: nested selection" in text


def test_the_legend_has_few_lines_and_warnings_three(comparison: Path, celeba: Path, many: Path) -> None:
    for folder in (comparison, celeba, many):
        made = summarized(folder)
        for width in (80, 120, 200):
            layout = layout_of(made, width)
            legend = captions.legend(made, layout)
            assert len(legend) <= 5
            lines = legend[:-1] if layout.hidden else legend
            assert max(map(cell_len, lines)) <= width, "none of them has to be wrapped"
            assert layout.detail.sort == captions.VALIDATION
            assert legend[1].startswith("sorted by val F1")
    shown = squeezed("".join(show(celeba, 80, View())))
    assert squeezed("".join(captions.legend(summarized(celeba), layout_of(summarized(celeba), 80)))) in shown
    made = summarized(celeba)
    # a fourth and a fifth warning
    made = dataclasses.replace(made, collection=dataclasses.replace(made.collection, skipped={}, left_out=("old",)))
    assert made.statistics
    unfair = [
        Unfair("edge", tuple(made.ranking[:2]), key="train.lr", end="largest"),
        Unfair("improving", tuple(made.ranking)),
    ]
    made = dataclasses.replace(made, statistics=dataclasses.replace(made.statistics, fairness=unfair))
    every = [f"warning: {text}" for text in warning_lines.warnings(made)]
    assert len(every) > 3
    for view in (View(), EXPLAIN):
        console = Console(width=2000, file=io.StringIO(), no_color=True)
        table.render(made, console, view)
        assert isinstance(console.file, io.StringIO)
        lines = [line for line in console.file.getvalue().splitlines() if line.startswith("warning: ")]
        rest = f"warning: {len(every) - 3} more: table --explain"
        assert lines == (every if view.explain else [*every[:3], rest])


def test_one_finished_run_has_no_row_of_selection(tmp_path: Path) -> None:
    first, second = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    fake_suite.write_failed(second, "b", "it broke")
    assert not any("selected per fold" in line for line in show(tmp_path, 150))


def test_baselines_that_differ_between_runs_are_given_as_a_range(tmp_path: Path) -> None:
    for i, place in enumerate(fake_suite.write_suite(tmp_path, ["split.seed=0", "split.seed=1"])):
        fake_suite.write_run(place, place.name, fake_suite.predictions(images=60 - 20 * i))
    lines = show(tmp_path, 200)
    assert any(re.search(r"all positive +\.\d\d to \.\d\d", line) for line in lines)
    assert any(line.startswith("a to b:") for line in lines)


@pytest.mark.parametrize("width", [40, 200])
def test_a_table_without_a_finished_run_still_names_them(tmp_path: Path, width: int) -> None:
    failed, _ = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_failed(failed, "a", "it broke")
    text = "\n".join(show(tmp_path, width))
    assert re.search(r"a \(base\) +failed: it broke", text)
    assert re.search(r"b +not run", text)
    assert "| b | not run |" in markdown(summarized(tmp_path))


def test_the_table_starts_without_anything_heavy(comparison: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from aimonk_bench.records import suite; from aimonk_bench.reporting import figures, summary, table\n"
        "table.render(summary.summarize(suite.collect(Path(sys.argv[1]))), Console())\n"
        "heavy = {'torch', 'timm', 'pandas', 'matplotlib', 'sklearn', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code, comparison], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


# Targets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text", "mark"),
    [
        (aimed(0.69, 0.55, 0.80, 0.9), ".69 (.55 to .80) !", MISSED),
        (aimed(0.85, 0.70, 0.93, 0.9), ".85 (.70 to .93)", ""),
        (aimed(0.85, 0.70, 0.90, 0.9), ".85 (.70 to .90)", ""),
        (aimed(0.85, 0.70, 0.899, 0.9), ".85 (.70 to <.90) !", MISSED),
        (aimed(0.97, 0.95, 0.9984, 0.999), ".970 (.950 to .998) !", MISSED),
        (aimed(0.97, 0.95, 0.99, 0.9), ".97 (.95 to .99)", ""),
        (aimed(0.97, 0.95, 0.999, 1.0), ".97 (.95 to <1.00) !", MISSED),
        (aimed(0.9041, 0.8, 0.9043, 0.904), ".904 (.800 to .904)", ""),
        (aimed(math.nan, math.nan, math.nan, 0.9), "-", UNDEFINED),
    ],
)
def test_a_target_above_the_interval_is_marked(cell: Cell, text: str, mark: str) -> None:
    assert (cell.text.plain, cell.mark) == (text, mark)


def policy_of(**goals: float) -> Spec:
    """A policy that aims at a precision for some attributes."""
    rules = {name: Spec("target_precision", {"precision": goal}) for name, goal in goals.items()}
    return Spec("per_attribute_f1", attributes=rules)


@pytest.fixture(scope="module")
def aiming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs with targets for two attributes, and one with another target for a third."""
    folder = tmp_path_factory.mktemp("suites") / "aiming"
    names = ["masked_bce", "focal", "hill", "asymmetric"]
    for number, place in enumerate(fake_suite.write_suite(folder, names)):
        policy = policy_of(attr3=0.75) if number == 3 else policy_of(attr2=0.9, attr4=0.95)
        made = fake_suite.predictions(signal=0.3 + 0.2 * (number % 3), noise=number)
        fake_suite.write_run(place, place.name, made, policy=policy)
    return folder


@pytest.mark.parametrize("width", [120, 80, 60, 24])
def test_every_target_has_a_column_with_the_figures_of_the_metrics(aiming: Path, width: int) -> None:
    made, lines = summarized(aiming), show(aiming, width)
    assert max(map(cell_len, lines)) <= width
    assert any(line.startswith("targets: ") for line in lines)
    if width == 24:  # names and cells are wrapped beside one another
        return
    text = squeezed("".join(lines))
    for run_id in made.ranking:
        attributes = files.read_json(aiming / "runs" / run_id / run.METRICS)["attribute"].values()
        aims = [row["precision"] for row in attributes if row["precision"]["target"] is not None]
        assert len(aims) == (1 if run_id.startswith("3") else 2)
        for precision in aims:
            cell = aimed(*(precision[key] for key in ("value", "low", "high", "target")))
            assert squeezed(cell.text.plain) in text
    for name, goal in (("attr2", ".90"), ("attr4", ".95"), ("attr3", ".75")):
        assert f"target{goal}" in text
        assert f"{name}precision" in text


def test_a_missed_target_is_explained_only_where_there_is_one(tmp_path: Path, aiming: Path) -> None:
    made = fake_suite.predictions(signal=3.0)
    fake_suite.write_run(tmp_path, "a", made, policy=policy_of(attr1=0.5))
    for folder, missed in ((aiming, True), (tmp_path, False)):
        lines = show(folder, 150)
        (legend,) = [line for line in lines if line.startswith("targets: ")]
        assert ("!: the target is missed" in legend, any(line.endswith(" !") for line in lines)) == (missed, missed)


def test_an_undefined_figure_with_a_target_is_explained(tmp_path: Path) -> None:
    made = fake_suite.predictions(without_positives=["attr2"])
    fake_suite.write_run(tmp_path, "a", made, policy=policy_of(attr2=0.5))
    lines = show(tmp_path, 150)
    assert any(re.fullmatch(r"a +-", line) for line in lines)
    assert any(line.startswith("-: undefined") and line.endswith("precision a positive decision") for line in lines)


def test_a_target_that_all_runs_of_the_selection_share_stands_in_its_row(aiming: Path) -> None:
    made = summarized(aiming)
    assert made.statistics
    assert made.nested
    goals = {run_id: made.values[run_id].get("precision_target") for run_id in made.statistics.chosen.runs}
    expected = np.array(list(goals.values()))
    shared = np.where((expected == expected[0]).all(axis=0), expected[0], np.nan)
    np.testing.assert_array_equal(made.nested["precision_target"], shared)
    np.testing.assert_array_equal(made.nested["precision_low"][:-1], made.statistics.chosen.low["precision"])


def test_markdown_has_the_targets_behind_the_attributes(aiming: Path) -> None:
    text = markdown(summarized(aiming))
    (head,) = [line for line in text.splitlines() if line.startswith("| run ")]
    assert [cell.strip() for cell in head.split("|")[-4:-1]] == [
        "attr3 precision, target .75",
        "attr2 precision, target .90",
        "attr4 precision, target .95",
    ]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| ")}) == 1


# The heading ---------------------------------------------------------------------------------------------------------


def test_heading_of_a_fallback_and_of_what_all_runs_share(tmp_path: Path) -> None:
    names = ["focal + uniform + lr=0.1", "focal + coverage + lr=0.1"]
    for place, name in zip(fake_suite.write_suite(tmp_path, names), names, strict=True):
        columns_of_run = fake_suite.columns("focal", name.split(" + ")[1])
        fake_suite.write_run(place, name, fake_suite.predictions(), run_columns=columns_of_run, n_listed=63)
    made = summarized(tmp_path)
    assert captions.heading(made) == [
        "comparison: 60 of 63 listed images, 4 attributes, 3 folds x 2 seeds",
        "tf_efficientnet_lite0 (fallback for resnet18), ImageNet weights, frozen",
        "loss focal, missing ignore, thresholds per_attribute_f1, lr=0.1",
    ]
    assert list(captions.row_names(made).values()) == ["uniform (base) *", "coverage"]


def test_a_part_of_a_name_may_hold_the_separator(tmp_path: Path) -> None:
    parts = (("a + b", "x"), ("a + b", "y"))
    suite.write(tmp_path, suite.SuiteRecord("s", "f", "0", ("0", "1"), parts))
    assert list(captions.row_names(summarized(tmp_path)).values()) == ["x (base)", "y"]


def test_backbones_that_differ_are_named_in_the_rows(tmp_path: Path) -> None:
    names = ["resnet18", "dinov2"]
    for place, name in zip(fake_suite.write_suite(tmp_path, names), names, strict=True):
        facts = {"name": name, "requested": name, "licence": "cc-by-nc-4.0", "non_commercial": True}
        weights = fake_suite.WEIGHTS if name == "resnet18" else fake_suite.WEIGHTS | facts
        columns_of_run = fake_suite.columns() | {"backbone": str(weights["name"])}
        fake_suite.write_run(
            place, name, fake_suite.predictions(folds=1, seeds=1), weights=weights, run_columns=columns_of_run
        )
    made = summarized(tmp_path)
    assert captions.heading(made)[:4] == [
        "comparison: 60 images, 4 attributes, hold-out 30 + 10 + 20, 1 seed",
        "several backbones, named in the rows, frozen",
        "tf_efficientnet_lite0 (fallback for resnet18), ImageNet weights, frozen",
        "dinov2, ImageNet weights, frozen, NON-COMMERCIAL (cc-by-nc-4.0)",
    ]
    assert [label.removesuffix(" *") for label in captions.row_names(made).values()] == [
        "resnet18 (fallback) (base)",
        "dinov2",
    ]


def _backbones(folder: Path, *costs: dict[str, object] | None) -> None:
    names = [f"net{number}" for number in range(len(costs))]
    for place, name, cost in zip(fake_suite.write_suite(folder, names), names, costs, strict=True):
        fake_suite.write_run(place, name, fake_suite.predictions(signal=0.3), cost=cost)


LARGE = {"parameters": 92_884_224, "macs": 17_708_292_096, "images_per_second": None}


def test_from_120_columns_on_the_cost_of_backbones_that_differ_is_shown(tmp_path: Path) -> None:
    fast = fake_suite.COST | {"images_per_second": 1234.4}
    _backbones(tmp_path, fast, LARGE, None)
    for width in (119, 120, 200, 0):
        text = markdown(summarized(tmp_path)) if width == 0 else "\n".join(show(tmp_path, width))
        lines = text.splitlines()
        shown = width != 119
        assert ("what the backbones cost" in " ".join(text.split())) == (not shown)
        assert ("MACs" in text, "images/s" in text, "params, MACs: of the backbone without" in text) == (shown,) * 3
        for name, cells in (("net0", ["3.37", "0.384", "1234"]), ("net1", ["92.9", "17.7"]), ("net2", [])):
            line = next(line for line in lines if line.startswith((name, f"| {name}", f"| **{name}")))
            words = [word for word in re.findall(r"[\d.]+", line) if re.fullmatch(r"[1-9]\d*\.\d+|0\.\d+|\d{4}", word)]
            assert words == (cells if shown else []), line
    assert any("92.9" in line and "1234" not in line for line in show(tmp_path, 120))


@pytest.mark.parametrize("other", [fake_suite.COST, None, fake_suite.COST | {"images_per_second": 7.0}], ids=str)
def test_equal_or_unknown_cost_has_no_column(tmp_path: Path, other: dict[str, object] | None) -> None:
    _backbones(tmp_path, fake_suite.COST, other)
    for width in (120, 240):
        assert "MACs" not in "\n".join(show(tmp_path, width))


def test_a_speed_that_was_never_measured_has_no_column(tmp_path: Path) -> None:
    _backbones(tmp_path, fake_suite.COST, LARGE)
    text = "\n".join(show(tmp_path, 200))
    assert "MACs" in text
    assert "images/s" not in text


@pytest.mark.parametrize("baseline", [0, 2])
def test_skipped_runs_are_named_in_one_line_under_the_table(tmp_path: Path, baseline: int) -> None:
    names = ["a", "b", "c", "d"]
    places = fake_suite.write_suite(tmp_path, names, baseline, skipped=[2, 3])
    for place, name in zip(places[:2], names, strict=False):
        fake_suite.write_run(place, name, fake_suite.predictions())
    for lines in (show(tmp_path, 200), markdown(summarized(tmp_path)).splitlines()):
        [line] = [line for line in lines if "skipped" in line]
        assert "(suite.unavailable: skip): c, d" in line
        assert ("the baseline included" in line) == (baseline == 2)
        assert not any("not run" in line or "failed" in line for line in lines)


def test_a_licence_with_terms_of_its_own_is_in_the_heading(tmp_path: Path) -> None:
    facts = {"name": "dinov3_small", "requested": "dinov3_small", "licence": "dinov3-license", "own_terms": True}
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions(), weights=fake_suite.WEIGHTS | facts)
    assert "dinov3_small, ImageNet weights, frozen, OWN TERMS (dinov3-license)" in captions.heading(
        summarized(tmp_path)
    )


def test_the_heading_says_how_much_of_the_backbone_is_trained(tmp_path: Path) -> None:
    names = ["freeze=all", "freeze=layer4", "freeze=none"]
    for place, name in zip(fake_suite.write_suite(tmp_path, names), names, strict=True):
        facts = fake_suite.WEIGHTS | {"freeze": name.removeprefix("freeze=")}
        fake_suite.write_run(place, name, fake_suite.predictions(), weights=facts)
    assert captions.heading(summarized(tmp_path))[1].endswith("frozen or trained from layer4 on or trained end to end")


def test_heading_says_how_many_views_were_drawn(tmp_path: Path) -> None:
    places = fake_suite.write_suite(tmp_path, ["a", "b"])
    for place in places:
        fake_suite.write_run(place, place.name, fake_suite.predictions())
    data = json.loads((places[0] / run.DATA).read_text())
    for views, said in (
        ((3, 3), ", 3 augmented views per training image"),
        ((1, 1), ", 1 augmented view per training image"),
        ((2, 3), ""),
        (("exact", 3), ""),
        (("exact", "exact"), ""),
        ((None, None), ""),
    ):
        for place, k in zip(places, views, strict=True):
            files.write_json(place / run.DATA, data if k is None else data | {"views": k})
        made = summary.summarize(suite.collect(tmp_path))
        assert captions.heading(made)[0] == f"comparison: 60 images, 4 attributes, 3 folds x 2 seeds{said}"


# Markdown ------------------------------------------------------------------------------------------------------------


def test_markdown_has_every_run_and_attribute(celeba: Path) -> None:
    made = summarized(celeba)
    text = markdown(made)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {1 + 7 + len(CELEBA)}
    assert [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in rows[0][8:]] == CELEBA
    names = [row[0].strip().removeprefix("**").removesuffix("**").removesuffix(" \\*") for row in rows[2:]]
    expected = [run_name(parts) for parts in made.collection.names.values()]
    assert sorted(name.removesuffix(" (base)") for name in names) == sorted([*expected, *BELOW])
    assert [row[0].strip().startswith("**") for row in rows[2:]] == [True] + [False] * (len(names) - 1)
    assert made.statistics
    assert text.endswith(f"\n\n**{verdict_of(made)}**\n")
    assert len(columns.everything(made).columns) == 7 + len(CELEBA)
