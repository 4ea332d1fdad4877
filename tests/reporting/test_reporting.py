"""The rows of summary.csv, the table at every width, and the loss curve."""

from __future__ import annotations

import csv
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
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from rich.cells import cell_len
from rich.console import Console

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.records import files, index, run, suite
from aimonk_bench.reporting import figures, layout, summary, table
from aimonk_bench.reporting.summary import MACRO

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
    fake_suite.comparison(folder, attributes=CELEBA, without_positives=["Bald"])
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 runs with long names, 7 of them failed, one not run."""
    folder = tmp_path_factory.mktemp("suites") / "many"
    losses = [
        f"asymmetric(gamma_neg={n}.0, gamma_pos={p}.0, clip=0.0{c})"
        for n in range(4)
        for p in range(4)
        for c in range(4)
    ]
    names = [f"{loss} + repeat_factor" for loss in losses]
    for i, (place, name) in enumerate(zip(fake_suite.write_suite(folder, names, baseline=0)[:-1], names, strict=False)):
        if i % 9 == 8:
            fake_suite.write_failed(
                place, name, "no weights:\n  hub: no answer (a/" + "very/" * 30 + "long/path.safetensors)"
            )
        else:
            own = fake_suite.columns(losses[i], "repeat_factor")
            fake_suite.write_run(place, name, fake_suite.predictions(signal=0.3 + i % 7 / 7, noise=i), own=own)
    return folder


def show(folder: Path, width: int, top: int = 20) -> list[str]:
    console = Console(width=width, file=io.StringIO(), no_color=True)
    table.render(index.collect(folder), console, top=top)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


# The rows ------------------------------------------------------------------------------------------------------------


def test_summary_csv_is_what_scikit_learn_finds_in_the_predictions(comparison: Path) -> None:
    text = summary.to_csv(summary.rows(index.collect(comparison)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(summary.COLUMNS)
    by_run: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_run.setdefault(row["run"], []).append(row)
    assert [len(own) for own in by_run.values()] == [5] * 15
    baseline = oracles.scored(comparison / "runs" / next(iter(by_run)))
    for run_id, own in list(by_run.items())[:3]:
        expected = oracles.scored(comparison / "runs" / run_id)
        assert [row["attribute"] for row in own] == ["attr1", "attr2", "attr3", "attr4", MACRO]
        for row in own:
            figures = expected[row["attribute"]]
            for name, value in figures.items():
                if (name, row["attribute"]) == ("threshold", MACRO):
                    assert row[name] == ""
                else:
                    np.testing.assert_allclose(float(row[name]), value, rtol=1e-12)
            delta = figures["f1_tuned"] - baseline[row["attribute"]]["f1_tuned"]
            np.testing.assert_allclose(float(row["delta"]), delta, atol=1e-12)
        assert {(row["state"], row["seeds"], row["seconds"], row["loss"]) for row in own} == {
            ("done", "2", "1.25", "masked_bce")
        }


def test_csv_reads_back_to_the_same_floats(comparison: Path) -> None:
    rows = summary.rows(index.collect(comparison))
    for row, read in zip(rows, csv.DictReader(io.StringIO(summary.to_csv(rows))), strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert math.isnan(value) if read[name] == "" else float(read[name]) == value


def test_runs_without_figures_have_a_state_and_empty_numbers(comparison: Path) -> None:
    rows = summary.rows(index.collect(comparison))
    text = ("run", "state", "attribute", *run.COLUMNS)
    states = {row["state"]: row for row in rows}
    assert list(states) == ["done", "failed", "not run"]
    for state in ("failed", "not run"):
        assert all(value is None for name, value in states[state].items() if name not in text)
    assert [row["attribute"] for row in rows if row["state"] == "failed"] == ["attr1", "attr2", "attr3", "attr4", MACRO]


def test_undefined_is_empty_null_and_outside_the_macro(celeba: Path) -> None:
    rows = summary.rows(index.collect(celeba))[: len(CELEBA) + 1]
    bald = rows[CELEBA.index("Bald")]
    assert math.isnan(bald["f1_tuned"])
    assert math.isnan(bald["delta"])
    defined = [row["f1_tuned"] for row in rows[:-1] if row is not bald]
    assert rows[-1]["f1_tuned"] == pytest.approx(np.mean(defined), rel=1e-12)
    assert rows[-1]["accuracy_tuned"] == pytest.approx(np.mean([row["accuracy_tuned"] for row in rows[:-1]]), rel=1e-12)
    assert json.loads(summary.to_json([{"rows": rows}]))[0]["rows"][CELEBA.index("Bald")]["f1_tuned"] is None


def test_a_macro_covers_what_every_finished_run_defines(tmp_path: Path) -> None:
    names = ["a", "b"]
    for place, name, absent in zip(fake_suite.write_suite(tmp_path, names), names, (["attr1"], ["attr2"]), strict=True):
        fake_suite.write_run(place, name, fake_suite.predictions(without_positives=absent))
    rows = summary.rows(index.collect(tmp_path))
    assert rows[4]["f1_tuned"] == pytest.approx((rows[2]["f1_tuned"] + rows[3]["f1_tuned"]) / 2, rel=1e-12)
    assert any("over 2 of 4 attributes" in line for line in show(tmp_path, 120))


def test_a_single_run_and_a_failed_baseline_have_no_delta(tmp_path: Path) -> None:
    first, second = fake_suite.write_suite(tmp_path / "suite", ["a", "b"])
    fake_suite.write_failed(first, "a", "it broke")
    fake_suite.write_run(second, "b", fake_suite.predictions())
    fake_suite.write_run(tmp_path / "single", "reference", fake_suite.predictions())
    for folder in (tmp_path / "suite", tmp_path / "single"):
        assert {row["delta"] for row in summary.rows(index.collect(folder))} == {None}


@pytest.mark.parametrize(
    ("other", "said"),
    [({"folds": 1}, "other test rows than the reference"), ({"seeds": 1}, "one seed"), ({"noise": 1}, "")],
)
def test_the_caption_says_why_a_run_was_not_compared(tmp_path: Path, other: dict[str, int], said: str) -> None:
    first, second = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    fake_suite.write_run(second, "b", fake_suite.predictions(**other))
    for number in range(9):
        fake_suite.write_run(tmp_path / suite.RUNS / f"old-{number}", "old", fake_suite.predictions())
    lines = show(tmp_path, 150)
    found = [line for line in lines if "is empty where nothing was tested" in line]
    assert len(found) == bool(said)
    assert all(said in line for line in found)
    assert sum("runs/old-" in line for line in lines) == 1
    assert any("... and 3 more" in line for line in lines)
    assert any("the headline" in line for line in lines)


def test_one_finished_run_has_no_row_of_choices(tmp_path: Path) -> None:
    first, second = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    fake_suite.write_failed(second, "b", "it broke")
    assert not any("chosen in each fold" in line for line in show(tmp_path, 150))


def test_runs_on_different_attributes_are_refused(tmp_path: Path) -> None:
    first, second = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    fake_suite.write_run(second, "b", fake_suite.predictions(["x", "y"]))
    with pytest.raises(UserError, match="different attributes"):
        summary.rows(index.collect(tmp_path))


# The table -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [24, 40, 80, 100, 119, 120, 160, 200, 300])
@pytest.mark.parametrize("name", ["comparison", "celeba", "many"])
def test_nothing_is_cut_and_nothing_is_too_wide(name: str, width: int, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    *lines, verdict = show(folder, width, top=100)
    assert verdict == summary.summarize(index.collect(folder)).statistics.verdict  # type: ignore[union-attr]
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert not re.search(r"…|\.\.\.", text)
    collection = index.collect(folder)
    names = table.labels(summary.summarize(collection)).values()
    place = layout.fitting(summary.summarize(collection), names, width).name
    first_column = squeezed("".join(line[:place].removeprefix("*") for line in lines))
    for label in names:
        assert squeezed(label) in first_column
    for record in collection.failed:
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
    rows = summary.rows(index.collect(comparison))[60:65]  # class_balanced + uniform
    default, tuned = ([f"{row[name]:.2f}"[1:] for row in rows] for name in ("f1_default", "f1_tuned"))
    ap, auc = ([f"{row[name]:.2f}"[1:] for row in rows] for name in ("average_precision", "roc_auc"))
    gain = f"{rows[4]['f1_tuned'] - rows[4]['floor_f1']:+.2f}".replace("0.", ".")
    half = f" ±{(rows[4]['f1_tuned_high'] - rows[4]['f1_tuned_low']) / 2:.2f}".replace("0.", ".")
    few = few_rows(comparison, rows[0]["run"])
    tuned[:4] = ["~" * few[a] + tuned[a] for a in range(4)]
    f1 = [f"{a} -> {b}" for a, b in zip(default, tuned, strict=True)]
    collection = summary.summarize(index.collect(comparison))
    assert collection.statistics
    mark = collection.statistics.baseline[rows[0]["run"]].mark
    assert mark in ("better", "unresolved")
    expected = {
        80: [tuned[4] + half, gain, *tuned[:4]],
        120: [f1[4] + half, gain, mark, *f1[:4]],
        240: [f1[4] + half, gain, mark, ap[4], auc[4], *(cell for a in range(4) for cell in (f1[a], ap[a], auc[a]))],
    }
    for width, cells in expected.items():
        (line,) = [line for line in show(comparison, width) if "class_balanced + uniform" in line]
        assert re.split(r"\s{2,}", line.strip()) == ["class_balanced + uniform", *cells]


def test_floors_have_rows_and_their_own_columns(comparison: Path) -> None:
    rows = summary.rows(index.collect(comparison))[:5]
    for name, label in (("floor_f1", "always positive"), ("prior_f1", "guess by prevalence")):
        (line,) = [line for line in show(comparison, 80) if line.strip().startswith(label)]
        assert line.split()[-5:] == [f"{rows[a][name]:.2f}"[1:] for a in (4, 0, 1, 2, 3)]


def test_the_order_and_the_choice_are_those_of_validation(comparison: Path) -> None:
    macros = [row for row in summary.rows(index.collect(comparison)) if row["attribute"] == MACRO]
    done = [row for row in macros if row["state"] == "done"]
    best = [row["run"] for row in sorted(done, key=lambda row: -row["f1_validation"])]
    assert best != [row["run"] for row in sorted(done, key=lambda row: -row["f1_tuned"])]
    names = index.collect(comparison).names
    lines = show(comparison, 120)
    runs = [line for line in lines if " -> " in line and " + " in line]
    order = [re.split(r"\s{2,}", line[2:])[0].removesuffix(" (base)") for line in runs]
    assert order == [names[run_id] for run_id in best]
    assert [line[2:].startswith(order[0]) for line in lines if line.startswith("* ")] == [True]


def test_colour_adds_nothing_that_is_not_in_the_text(comparison: Path) -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    table.render(index.collect(comparison), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert re.search(r"\x1b\[1m\* \S", text), "the chosen run is bold"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    *plain, verdict = show(comparison, 80)
    assert lines[: len(plain)] == plain
    assert max(map(cell_len, lines)) <= 80, "on a terminal the verdict is broken between words"
    assert " ".join(" ".join(lines[len(plain) :]).split()) == verdict


def test_many_runs_show_the_best_the_baseline_and_the_failed(many: Path) -> None:
    lines = show(many, 200)
    figures_of = [line for line in lines if " -> " in line and "asymmetric" in line]
    assert len(figures_of) == 21
    assert "(base)" in figures_of[-1]
    assert sum("failed:" in line for line in lines) == 7
    assert any(re.fullmatch(r"35 more runs, validation macro F1 \S+ to \S+: --top 56", line.strip()) for line in lines)
    assert not any("more run" in line for line in show(many, 200, top=56))


def test_many_missing_runs_are_counted(tmp_path: Path) -> None:
    fake_suite.write_suite(tmp_path, [f"run{i}" for i in range(30)])
    lines = show(tmp_path, 80)
    assert sum(line.startswith("run") and "not run" in line for line in lines) == 20
    assert any(line.startswith("10 more runs not run: --top 30") for line in lines)


def test_many_attributes_show_those_in_which_runs_differ_most(celeba: Path) -> None:
    rows = summary.rows(index.collect(celeba))
    values = {
        name: [row["f1_tuned"] for row in rows if row["attribute"] == name and row["state"] == "done"]
        for name in CELEBA
    }
    widest = sorted(CELEBA, key=lambda name: -np.ptp(values[name]) if name != "Bald" else 1)
    collection = summary.summarize(index.collect(celeba))
    plan = layout.fitting(collection, table.labels(collection).values(), 120)
    shown = [column.head for column in plan.columns[3:]]
    assert len(shown) >= 3
    assert shown == widest[: len(shown)]
    lines = show(celeba, 120)
    assert any(
        f"{40 - len(shown)} of 40 attributes not shown, those in which the runs differ least" in x for x in lines
    )
    assert any("macro: over 39 of 40 attributes" in line for line in lines)


def test_undefined_is_a_dash_explained_only_where_it_occurs(tmp_path: Path, comparison: Path) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions(without_positives=["attr2"]))
    lines = show(tmp_path, 80)
    (line,) = [line for line in lines if line.startswith("a ")]
    assert re.split(r"\s{2,}", line)[4] == "-"
    assert any("- is undefined" in line for line in lines)
    assert not any("undefined" in line for line in show(comparison, 80))


def test_a_run_below_the_floor_shows_it(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path, "worse", fake_suite.predictions(signal=-3.0))
    assert any(re.match(r"worse +\.\d\d ±\.\d\d +-\.\d\d ", line) for line in show(tmp_path, 80))


def test_heading_of_a_fallback_and_of_what_all_runs_share(tmp_path: Path) -> None:
    names = ["focal + uniform + lr=0.1", "focal + coverage + lr=0.1"]
    for place, name in zip(fake_suite.write_suite(tmp_path, names), names, strict=True):
        own = fake_suite.columns("focal", name.split(" + ")[1])
        fake_suite.write_run(place, name, fake_suite.predictions(), own=own, n_listed=63)
    lines = show(tmp_path, 120)
    assert lines[:3] == [
        "comparison: 60 of 63 listed pictures, 4 attributes, 3 folds x 2 seeds",
        "tf_efficientnet_lite0 (fallback for resnet18), ImageNet weights, frozen",
        "loss focal, missing ignore, thresholds per_attribute_f1, lr=0.1",
    ]
    assert [line.split("  ")[0] for line in lines if " -> " in line][:2] == ["* uniform (base)", ""]
    assert "  coverage" in [line[:10] for line in lines]


def test_backbones_that_differ_are_named_in_the_rows(tmp_path: Path) -> None:
    names = ["resnet18", "dinov2"]
    for place, name in zip(fake_suite.write_suite(tmp_path, names), names, strict=True):
        facts = {"name": name, "requested": name, "licence": "cc-by-nc-4.0", "non_commercial": True}
        weights = fake_suite.WEIGHTS if name == "resnet18" else fake_suite.WEIGHTS | facts
        own = fake_suite.columns() | {"backbone": str(weights["name"])}
        fake_suite.write_run(place, name, fake_suite.predictions(folds=1, seeds=1), weights=weights, own=own)
    lines = show(tmp_path, 120)
    assert lines[0] == "comparison: 60 pictures, 4 attributes, hold-out 30 + 10 + 20, 1 seed"
    assert lines[1] == "several backbones, named in the rows, frozen"
    assert lines[2] == "dinov2, ImageNet weights, frozen, NON-COMMERCIAL (cc-by-nc-4.0)"
    assert any("resnet18 (fallback tf_efficientnet_lite0) (base)" in line for line in show(tmp_path, 200))


def test_the_heading_says_what_of_the_backbone_is_trained(tmp_path: Path) -> None:
    names = ["freeze=all", "freeze=layer4", "freeze=none"]
    for place, name in zip(fake_suite.write_suite(tmp_path, names), names, strict=True):
        facts = fake_suite.WEIGHTS | {"freeze": name.removeprefix("freeze=")}
        fake_suite.write_run(place, name, fake_suite.predictions(), weights=facts)
    assert show(tmp_path, 120)[1] == (
        "tf_efficientnet_lite0 (fallback for resnet18), ImageNet weights, "
        "frozen or trained from layer4 on or trained end to end"
    )


def test_a_fallback_that_the_name_of_the_run_declares_is_not_named_twice(tmp_path: Path) -> None:
    names = ["resnet18(fallback=tf_efficientnet_lite0)", "resnet34"]
    places = fake_suite.write_suite(tmp_path, names)
    fake_suite.write_run(places[0], names[0], fake_suite.predictions())
    own = fake_suite.WEIGHTS | {"name": "resnet34", "requested": "resnet34"}
    fake_suite.write_run(places[1], names[1], fake_suite.predictions(), weights=own)
    found = table.labels(summary.summarize(index.collect(tmp_path)))
    assert [*found.values()] == [f"{names[0]} (fallback taken) (base)", "resnet34"]


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ((3, 3), ", 3 drawn views per training picture"),
        ((1, 1), ", 1 drawn view per training picture"),
        ((2, 3), ""),
        (("exact", 3), ""),
        (("exact", "exact"), ""),
        ((None, None), ""),
    ],
)
def test_heading_says_how_many_views_were_drawn(tmp_path: Path, views: tuple[object, object], said: str) -> None:
    names = [f"views={k}-{i}" for i, k in enumerate(views)]
    for place, k in zip(fake_suite.write_suite(tmp_path, names), views, strict=True):
        fake_suite.write_run(place, place.name, fake_suite.predictions())
        if k is not None:
            data = json.loads((place / run.DATA).read_text())
            run.write_data(place, data | {"views": k})
    assert show(tmp_path, 200)[0] == f"comparison: 60 pictures, 4 attributes, 3 folds x 2 seeds{said}"


def test_floors_that_differ_between_runs_are_given_as_a_range(tmp_path: Path) -> None:
    for i, place in enumerate(fake_suite.write_suite(tmp_path, ["split.seed=0", "split.seed=1"])):
        fake_suite.write_run(place, place.name, fake_suite.predictions(images=60 - 20 * i))
    lines = show(tmp_path, 200)
    assert any(re.search(r"always positive +\.\d\d to \.\d\d", line) for line in lines)
    assert any(line.startswith("a to b:") for line in lines)


def test_markdown_has_every_run_and_attribute(celeba: Path) -> None:
    text = table.markdown(index.collect(celeba))
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {1 + 5 + len(CELEBA)}
    assert [cell.strip().replace("\\|", "|") for cell in rows[0][6:]] == CELEBA
    names = [row[0].strip().removeprefix("**\\* ").strip("*").removesuffix(" (base)") for row in rows[2:]]
    assert sorted(names) == sorted([*index.collect(celeba).names.values(), *layout.BELOW])
    assert text.endswith(f"\n\n**{summary.summarize(index.collect(celeba)).statistics.verdict}**\n")  # type: ignore[union-attr]
    assert [row[0].strip().startswith("**") for row in rows[2:]] == [True] + [False] * (len(names) - 1)


@pytest.mark.parametrize("width", [40, 200])
def test_a_table_without_a_finished_run_still_names_them(tmp_path: Path, width: int) -> None:
    failed, _ = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_failed(failed, "a", "it broke")
    text = "\n".join(show(tmp_path, width))
    assert re.search(r"a \(base\) +failed: it broke", text)
    assert re.search(r"b +not run", text)
    assert "| b | not run |" in table.markdown(index.collect(tmp_path))


@given(st.text(alphabet=st.sampled_from("ab_ ,.()=-+é眼|"), max_size=60), st.integers(2, 30))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    lines = layout.wrap(text, width)
    assert squeezed("".join(lines)) == squeezed(text)
    assert max(map(cell_len, lines)) <= width


def test_the_table_starts_without_anything_heavy(comparison: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from aimonk_bench.records import index; from aimonk_bench.reporting import figures, summary, table\n"
        "collection = index.collect(Path(sys.argv[1])); table.render(collection, Console())\n"
        "summary.to_csv(summary.rows(collection))\n"
        "heavy = {'torch', 'timm', 'pandas', 'matplotlib', 'sklearn', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code, comparison], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


# The loss curve ------------------------------------------------------------------------------------------------------


def test_loss_curve_has_the_exact_texts_every_head_and_their_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = {(0, 0): 5, (0, 1): 3, (1, 0): 4}
    heads = {key: np.random.default_rng(i).random(n) for i, (key, n) in enumerate(ends.items())}
    rows = [(s, f, i + 1, loss) for (s, f), losses in heads.items() for i, loss in enumerate(losses)]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    names = ("seed", "fold", "iteration_number", "training_loss")
    history = dict(zip(names, map(np.array, zip(*shuffled, strict=True)), strict=True))
    drawn: list[Figure] = []
    save = Figure.savefig

    def spy(self: Figure, *args: object, **options: object) -> None:
        drawn.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    figures.loss_curve(history, "cost in $ of $x", tmp_path / "loss_curve.png")
    assert (tmp_path / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loss_curve.png"]
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (
        "iteration_number",
        "training_loss",
        "cost in $ of $x",
    )
    (thin,) = [artist for artist in axes.collections if isinstance(artist, LineCollection)]
    for (_, losses), segment in zip(sorted(heads.items()), thin.get_segments(), strict=True):
        np.testing.assert_array_equal(segment, np.column_stack([np.arange(1, len(losses) + 1), losses]))
    (thick,) = axes.lines
    expected = [np.mean([losses[i] for losses in heads.values() if len(losses) > i]) for i in range(5)]
    np.testing.assert_allclose(thick.get_ydata(), expected)
    assert thick.get_linewidth() > thin.get_linewidth()[0]


def test_loss_curve_of_one_head(tmp_path: Path) -> None:
    history = {"seed": [0, 0], "fold": [0, 0], "iteration_number": [1, 2], "training_loss": [0.7, 0.6]}
    figures.loss_curve(history, "Aimonk_multilabel_problem", tmp_path / "curve.png")
    assert files.PARTIAL not in str(list(tmp_path.iterdir()))
