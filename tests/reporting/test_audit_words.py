"""The words of the audit, above all where there are few labels or only one class."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from aimonk_bench.config.split_fields import Holdout, KFold, OfficialSplit
from aimonk_bench.data.group_checks import CutGroups, GroupChecks, LargeGroup, Stem
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.near_duplicates import Hashes
from aimonk_bench.data.splits import Fold
from aimonk_bench.evaluation import audit, duplicates, probe
from aimonk_bench.evaluation.association import before_training
from aimonk_bench.evaluation.audit import Audit, Files
from aimonk_bench.evaluation.duplicates import Near
from aimonk_bench.evaluation.missing_dependence import missing_dependence
from aimonk_bench.reporting import audit as report
from aimonk_bench.reporting.findings import findings, group_findings


def audited(columns: dict[str, str]) -> Audit:
    """A hold-out of half, a quarter and a quarter of images with random features; labels are written 1, 0 and ?."""
    states = np.array([list(column) for column in columns.values()]).T
    labels = Labels.of(states == "1", states != "?", tuple(columns))
    n = len(labels)
    rng, rows, groups = np.random.default_rng(0), np.arange(n), np.arange(n)
    features = rng.standard_normal((n, 40)).astype(np.float32)
    folds = [Fold(rows[: n // 2], rows[n // 2 : 3 * n // 4], rows[3 * n // 4 :])]
    part = duplicates.tested_part(folds, n)
    sizes, flags = np.full(n, 40), np.zeros(n, dtype=bool)
    before = before_training(features, labels, groups, permutations=99, seed=0)
    scores = probe.probe(features, labels, groups, seed=0)
    return Audit(
        name="small",
        ids=tuple(f"{row}.png" for row in rows),
        labels=labels,
        features="resnet18",
        skipped=[],
        content=rows,
        part=part,
        scheme=Holdout(val=0.25, test=0.25),
        groups=GroupChecks(None, [], n // 4),
        files=Files({"PNG": n}, sizes, sizes, [], flags, flags),
        counts=audit.counts(labels, groups, folds),
        together=audit.together(labels),
        dependence=missing_dependence(labels, groups, sizes={}, traits={}, features=features, seed=0),
        disagreement=duplicates.disagreement(rows, labels),
        near=duplicates.near_duplicates(Hashes(np.zeros(n, np.uint64), flags), rows, part, labels),
        before=before,
        suspects=audit.suspects(probe.calibrated(scores, labels, groups, seed=0), labels, audit.has_signal(before)),
    )


def lines_of(made: Audit) -> list[str]:
    console = Console(width=200, file=io.StringIO(), no_color=True)
    report.render(made, console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


MIXED = "110010101101"
ONE_CLASS = {"x": MIXED, "one": "1" * 12, "first": "1" * 12, "zero": "0" * 12, "na": "?" * 12}


def test_attributes_of_one_class_are_named_in_one_finding() -> None:
    (finding,) = [finding for finding in findings(audited(ONE_CLASS)) if finding.kind == "one_class"]
    assert finding.text == "Attributes whose labels are all positive: one, first; all negative: zero; all missing: na."


def test_only_attributes_that_were_tested_have_an_auc() -> None:
    (finding,) = [finding for finding in findings(audited(ONE_CLASS)) if finding.kind == "no_signal"]
    assert finding.text.count("AUC of a linear probe: x ") == 1
    assert not any(f"{name} " in finding.text.partition("probe:")[2] for name in ("one", "first", "zero", "na"))
    assert not [finding for finding in findings(audited({"na": "?" * 12})) if finding.kind == "no_signal"]


def test_few_labels_are_counted_in_the_singular_too() -> None:
    (finding,) = [finding for finding in findings(audited({"x": "110010" + "100" + "101"})) if finding.kind == "few"]
    assert "x 1 negative (1 to test on), x 1 positive (2 to test on)" in finding.text


def test_the_fewest_labels_are_named_first() -> None:
    few = {f"a{number}": "110010" + "100" + "101" for number in range(8)}
    (finding,) = [f for f in findings(audited(few | {"rare": "110010" + "000" + "000"})) if f.kind == "few"]
    assert "rows: rare 0 positives (0 to test on), a0 1 " in finding.text


@pytest.mark.parametrize(("columns", "title"), [({"x": MIXED}, "2 warnings"), ({"na": "?" * 12}, "1 warning")])
def test_findings_of_which_there_are_none_are_not_counted(columns: dict[str, str], title: str) -> None:
    assert title in lines_of(audited(columns))


def test_pairs_without_a_correlation_are_counted() -> None:
    lines = lines_of(audited(ONE_CLASS | {"y": MIXED[::-1]}))
    assert any(line.startswith("x, y ") for line in lines)
    assert not any(line.startswith("x, one ") for line in lines)
    text = " ".join(lines)
    for head in ("phi: ", "b if a, b if not a: ", "both NA: ", "phi of NA: "):
        assert text.count(head) == 1, "the legend explains the heads of the columns"
    assert "; 14 pairs without one: a label is constant, or no image has both" in text
    assert "Pairs of attributes" not in lines_of(audited({"x": MIXED, "one": "1" * 12}))


def test_what_was_not_tested_about_missing_labels_takes_one_line() -> None:
    lines = lines_of(audited({"x": MIXED, "na": "?" * 12}))
    (line,) = [line for line in lines if "nothing to test" in line]
    assert line.endswith(
        "other labels, the NA of other attributes, the size of the image, the file format, the content of the image"
    )
    assert not any("Holm-adjusted over its tests" in line for line in lines)


def test_what_missing_labels_do_not_depend_on_takes_one_line() -> None:
    rng = np.random.default_rng(0)
    columns = {name: "".join(rng.choice([*"10?"], 120)) for name in ("x", "y")}
    lines = lines_of(audited(columns))
    (line,) = [line for line in lines if line.startswith("no dependence found")]
    assert re.fullmatch(r".* in brackets: other labels \(\.\d+\), the NA of other attributes \(\.\d+\), .*", line)
    assert not any("NA rate" in line for line in lines)
    depends = columns | {"z": columns["x"].replace("0", "1")}  # missing where x is
    assert any("NA of other attributes, 3 tests: " in line for line in lines_of(audited(depends)))


def test_what_is_doubtful_about_groups_names_images_and_the_line_to_write() -> None:
    ids = [f"s{row}.png" for row in range(8)]
    near = Near(np.array([0, 2, 4, 6]), np.array([1, 3, 5, 7]), np.array([0, 2, 2, 0]), 4, 2, np.array([2]))
    checks = GroupChecks(
        stem=Stem("^(.*)_", "s1", ("s1_a.png", "s1_b.png"), stems=3, images=7),
        large=[LargeGroup("NA", "s0.png", 60), LargeGroup(None, "s4.png", 1)],
        fold=20,
        cut=CutGroups(2, 5, [("s0.png", "training", "s1.png", "test")]),
    )
    by_kind = {finding.kind: finding for finding in group_findings(KFold(), checks, near, ids)}
    expected = {
        "near_duplicates_cut": ["2 of 4 pairs", "s0.png ~ s1.png; s2.png ~ s3.png:", "near_duplicates: keep_together"],
        "groups_cut": ["2 duplicate groups", "5 images", "s0.png (training) and s1.png (test)", "scheme: kfold"],
        "large_group": ["2 groups", "20 images", "'NA' (60 images)", "that of s4.png (1 image)", "data.values.missing"],
        "common_stem": ["7 images", "s1_a.png and s1_b.png", '`data: {group: {regex: "^(.*)_"}}`'],
    }
    assert [*by_kind] == [*expected]
    for kind, parts in expected.items():
        text = f"{by_kind[kind].text} {by_kind[kind].advice}"
        assert [part for part in parts if part not in text] == []
    official = OfficialSplit(column="part")
    advice = next(iter(group_findings(official, GroupChecks(None, [], 0), near, ids))).advice
    assert "scheme: kfold, near_duplicates: keep_together" in advice
    assert [*group_findings(official, GroupChecks(None, [], 0), None, ids)] == []
