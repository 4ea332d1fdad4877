"""The audit finds what was planted, claims nothing on noise, and says what to do; its statistics against oracles."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from PIL import Image
from rich.cells import cell_len
from rich.console import Console
from statsmodels.stats.proportion import proportion_confint

from aimonk_bench import cli
from aimonk_bench.config.split_fields import Holdout, KFold
from aimonk_bench.data import headers, splits
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.near_duplicates import Hashes
from aimonk_bench.evaluation import audit, duplicates, missing_dependence, probe
from aimonk_bench.evaluation.audit import SUSPECTS, suspects
from aimonk_bench.evaluation.missing_dependence import Dependence
from aimonk_bench.evaluation.resampling import majority
from aimonk_bench.reporting import audit as report
from aimonk_bench.reporting.findings import findings
from aimonk_bench.suite import inspection
from aimonk_bench.tables import TABLES

Array = np.ndarray


def labels(images: int, attributes: int, seed: int = 0, *, missing: float = 0.15) -> tuple[Array, Array, Array]:
    """Random targets and observed labels [N, A], and groups: one for each image."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, attributes)) < 0.4).astype(np.int8)
    return targets, rng.random(targets.shape) >= missing, np.arange(images)


def dependence(
    targets: Array, observed: Array, groups: Array, features: Array | None = None, **properties: Any
) -> list[Dependence]:
    matrix = Labels.of(targets, observed, [f"a{a}" for a in range(targets.shape[1])])
    made = np.random.default_rng(9).normal(size=(len(targets), 12)) if features is None else features
    usual: dict[str, Any] = {"sizes": {}, "traits": {}} | properties
    return missing_dependence.missing_dependence(matrix, groups, features=made, seed=0, **usual)


def claimed(tests: list[Dependence]) -> set[tuple[str, str, str]]:
    return {(test.family, test.attribute, test.on) for test in tests if test.adjusted < missing_dependence.LEVEL}


def test_counts_and_pairs_against_loops() -> None:
    targets, observed, _ = labels(60, 3)
    groups, made = np.arange(60) // 2, Labels.of(targets, observed)
    folds = splits.split(KFold(scheme="kfold", folds=3), made, groups)
    result, pairs = audit.counts(made, groups, folds), audit.together(made)
    state = np.where(observed, targets, -1)
    for a in range(3):
        numbers = (result.positive[a], result.negative[a], result.missing[a])
        assert numbers == tuple((state[:, a] == value).sum() for value in (1, 0, -1))
        assert result.groups[a] == len({row // 2 for row in range(60) if observed[row, a]})
        for part, name in enumerate(("train", "val", "test")):
            for place, value in enumerate((1, 0)):
                fewest = min(sum(state[row, a] == value for row in getattr(fold, name)) for fold in folds)
                assert result.smallest[part, place, a] == fewest
    for a, b in itertools.permutations(range(3), 2):
        pairs_observed = [(x, y) for x, y in zip(state[:, a], state[:, b], strict=True) if x >= 0 and y >= 0]
        assert pairs.both[a, b] == pairs_observed.count((1, 1))
        assert pairs.first_only[a, b] == pairs_observed.count((1, 0))
        assert pairs.neither[a, b] == pairs_observed.count((0, 0))
        assert pairs.phi[a, b] == pytest.approx(np.corrcoef(np.transpose(pairs_observed))[0, 1])
        assert pairs.missing[a, b] == (~observed[:, a] & ~observed[:, b]).sum()
        assert pairs.missing_phi[a, b] == pytest.approx(np.corrcoef(observed[:, a], observed[:, b])[0, 1])


def test_what_never_occurs_together_is_told_only_where_chance_would_give_it() -> None:
    targets, observed, _ = labels(300, 4, missing=0.1)
    targets[:, 1] &= 1 - targets[:, 0]  # exclusive
    targets[:, 2] |= targets[:, 3]  # 3 implies 2
    result = {(kind, a, b) for kind, a, b, _ in audit.conflicts(audit.together(Labels.of(targets, observed)))}
    assert result == {("exclusive", 0, 1), ("implies", 3, 2)}
    targets[:, 2] = 1 - targets[:, 0] * targets[:, 2]
    assert ("one of", 0, 2) in {item[:3] for item in audit.conflicts(audit.together(Labels.of(targets, observed)))}
    assert audit.conflicts(audit.together(Labels.of(targets, observed)[:12])) == []


def test_a_group_is_one_row_with_the_majority_of_its_states() -> None:
    values = np.array([[1], [1], [0], [1], [0], [0], [1]], bool)
    observed = np.array([[1], [1], [1], [1], [1], [0], [0]], bool)
    states = majority(Labels.of(values, observed), np.array([0, 0, 0, 1, 1, 2, 2]))
    assert states.observed.ravel().tolist() == [True, False, False]
    assert states.targets[0, 0] == 1


def test_dependence_on_labels_properties_and_size_against_scipy() -> None:
    targets, observed, groups = labels(400, 2, seed=3)
    rng = np.random.default_rng(4)
    pixels, png = rng.integers(100, 110, 400).astype(float), rng.random(400) < 0.2
    tests = {
        (test.family, test.attribute): test
        for test in dependence(targets, observed, groups, sizes={"pixels": pixels}, traits={"PNG": png})
    }
    for a, b in ((0, 1), (1, 0)):
        table = [[sum((~observed[:, a]) & observed[:, b] & (targets[:, b] == v)) for v in (1, 0)]]
        table += [[sum(observed[:, a] & observed[:, b] & (targets[:, b] == v)) for v in (1, 0)]]
        test = tests["labels", f"a{a}"]
        assert test.p == pytest.approx(scipy.stats.fisher_exact(table).pvalue)
        assert test.found == pytest.approx(table[0][0] / (table[0][0] + table[1][0]))
    test = tests["size", "a0"]
    inside, outside = pixels[~observed[:, 0]], pixels[observed[:, 0]]
    assert test.p == pytest.approx(scipy.stats.mannwhitneyu(inside, outside, method="asymptotic").pvalue)
    assert (test.found, test.otherwise) == (np.median(inside), np.median(outside))
    table = [[sum(~observed[:, 1] & s) for s in (png, ~png)], [sum(observed[:, 1] & s) for s in (png, ~png)]]
    assert tests["format", "a1"].p == pytest.approx(scipy.stats.fisher_exact(table).pvalue)


def test_planted_dependence_is_found_in_its_own_family() -> None:
    targets, observed, groups = labels(600, 3, seed=1)
    rng = np.random.default_rng(2)
    features, pixels, png = rng.normal(size=(600, 12)), rng.random(600), rng.random(600) < 0.3
    properties: dict[str, Any] = {"sizes": {"pixels": pixels}, "traits": {"PNG": png}, "features": features}
    assert claimed(dependence(targets, observed, groups, **properties)) == set()
    hidden = {
        ("labels", "a0", "a1"): targets[:, 1] == 1,
        ("size", "a0", "pixels"): pixels > 0.5,
        ("format", "a0", "PNG"): png,
        ("missing", "a0", "a2"): ~observed[:, 2],
        ("features", "a0", "features"): features[:, 0] > 0,
    }
    for planted, where in hidden.items():
        seen = observed.copy()
        seen[:, 0] = rng.random(600) >= np.where(where, 0.45, 0.08)
        assert claimed(dependence(targets, seen, groups, **properties)) == {planted}


def test_copies_are_no_further_evidence() -> None:
    rng = np.random.default_rng(0)
    targets, observed, groups = labels(60, 2, seed=5, missing=0.3)
    features, pixels = rng.normal(size=(60, 6)), rng.random(60)
    once = dependence(targets, observed, groups, features, sizes={"pixels": pixels})
    rows = np.repeat(groups, 5)
    often = dependence(targets[rows], observed[rows], rows, features[rows], sizes={"pixels": pixels[rows]})
    assert [test.p for test in often] == pytest.approx([test.p for test in once])
    assert [test.family for test in once] == ["labels"] * 2 + ["missing"] + ["size"] * 2 + ["features"] * 2


def test_many_attributes_do_not_hide_what_na_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, observed, groups = labels(300, 6, seed=6)
    features = np.random.default_rng(1).normal(size=(300, 8))
    observed[:, 4] = features[:, 0] < 0.8
    planted = ("features", "a4", "features")
    monkeypatch.setattr(
        missing_dependence, "PERMUTATIONS", 99
    )  # the smallest p, 0.01, adjusted for six attributes: 0.06
    assert planted in claimed(dependence(targets, observed, groups, features))


def test_nothing_is_claimed_on_noise() -> None:
    """Five families at 0.01 each: at most 5 % of clean data sets get a warning, here at most 7 of 60 (p < .02)."""
    warned = 0
    for seed in range(60):
        targets, observed, groups = labels(200, 3, seed=seed)
        rng = np.random.default_rng(1000 + seed)
        properties: dict[str, Any] = {"sizes": {"pixels": rng.random(200)}, "traits": {"PNG": rng.random(200) < 0.3}}
        warned += bool(claimed(dependence(targets, observed, groups, rng.normal(size=(200, 8)), **properties)))
    assert warned <= 7


def test_targets_under_na_are_never_read() -> None:
    targets, observed, groups = labels(120, 3, seed=8)
    content = np.arange(120) // 2
    rng = np.random.default_rng(0)
    features, probabilities = rng.normal(size=(120, 6)), rng.random((120, 3))
    folds = splits.split(KFold(scheme="kfold", folds=2), Labels.of(targets, observed), groups)

    def everything(values: Array) -> str:
        made = Labels(values, observed, ("a", "b", "c"))  # with what stands under NA
        parts = [
            audit.counts(made, groups, folds),
            audit.together(made),
            missing_dependence.missing_dependence(made, groups, sizes={}, traits={}, features=features, seed=0),
            duplicates.disagreement(content, made),
            suspects(probabilities, made, np.ones(3, bool)),
        ]
        return repr([vars(part) if hasattr(part, "__dict__") else part for part in parts])

    assert everything(np.where(observed, targets, 1)) == everything(np.where(observed, targets, 0))


def test_disagreement_of_duplicates_against_statsmodels() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random((100, 2)) < 0.5).astype(np.int8)
    targets = np.repeat(truth, 2, axis=0)
    wrong = rng.random(targets.shape) < [0.1, 0.5]
    targets = np.where(wrong, 1 - targets, targets).astype(np.int8)
    observed = np.ones(targets.shape, bool)
    observed[0] = False
    shuffled = rng.permutation(200)
    content = (np.arange(200) // 2)[shuffled]
    result = duplicates.disagreement(content, Labels.of(targets, observed)[shuffled])
    pairs = targets.reshape(100, 2, 2)[1:]
    assert result.pairs.tolist() == [99, 99]
    assert result.differing.tolist() == (pairs[:, 0] != pairs[:, 1]).sum(axis=0).tolist()
    for a in range(2):
        expected = proportion_confint(result.differing[a], 99, method="beta")
        assert (result.low[a], result.high[a]) == pytest.approx(expected)
    share = targets[1:].mean(axis=0)
    assert result.chance == pytest.approx(2 * share * (1 - share))
    assert result.high[0] < result.chance[0] < result.high[1]  # of the second label the copies know nothing


def test_each_copy_is_in_one_pair_and_few_pairs_give_no_rate() -> None:
    content = np.array([0] * 5 + [1] * 2 + [2])
    targets = np.array([1, 0, 1, 1, 0, 1, 0, 1], np.int8)[:, None]
    result = duplicates.disagreement(content, Labels.of(targets, np.ones((8, 1))))
    assert (result.pairs[0], result.differing[0]) == (3, 2)
    assert np.isnan(result.low[0])
    assert [rows.tolist() for rows in duplicates.copies(content)] == [[0, 1, 2, 3, 4], [5, 6]]


def test_attributes_whose_missing_labels_depend_on_something_are_named_with_the_kind_of_it() -> None:
    rng = np.random.default_rng(0)
    targets, observed = rng.random((400, 4)) < 0.5, np.ones((400, 4), bool)
    observed[:, 0] = ~targets[:, 1] | (rng.random(400) < 0.6)  # a is missing only where b is positive
    observed[:, 2] = observed[:, 3] = rng.random(400) < 0.8  # c and d are missing together
    labels = Labels.of(targets, observed, tuple("abcd"))
    tests = missing_dependence.missing_dependence(labels, np.arange(400), sizes={}, traits={}, features=None, seed=0)
    assert {test.family for test in tests} == {"labels", "missing"}
    assert missing_dependence.dependent(tests) == {"a": ["labels"], "c": ["missing"], "d": ["missing"]}


def test_near_duplicates_and_those_that_a_split_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.array([0, 0b11, 0b11, 0xFF00, 0xFF00, 0, 0], np.uint64)
    usable = np.array([True, True, True, True, True, True, False])
    content, part = np.array([0, 1, 2, 3, 4, 0, 6]), np.array([0, 0, 1, 1, 1, 1, 0])
    targets = np.array([[1, 0], [1, 0], [1, 1], [0, 0], [0, 0], [1, 1], [1, 1]], np.int8)
    labels = Labels.of(targets, [[1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1]], ("a", "b"))
    result = duplicates.near_duplicates(Hashes(bits, usable), content, part, labels)
    pairs = [*zip(result.first.tolist(), result.second.tolist(), result.distance.tolist(), strict=True)]
    assert pairs == [(1, 2, 0), (0, 2, 2), (3, 4, 0), (0, 1, 2)]  # row 5 has the bytes of row 0; cut pairs first
    assert (result.total, result.cut) == (4, 2)
    assert result.alike.tolist() == [2, 0], "of the cut pairs (1, 2) and (0, 2)"
    unknown = Labels.of(targets, np.arange(7)[:, None] != [0, 0], ("a", "b"))
    assert duplicates.near_duplicates(Hashes(bits, usable), content, part, unknown).alike.tolist() == [1, 0]
    monkeypatch.setattr(duplicates, "LISTED_PAIRS", 1)
    fewer = duplicates.near_duplicates(Hashes(bits, usable), content, part, labels)
    assert (fewer.first.tolist(), fewer.total, fewer.cut) == ([1], 4, 2)


@pytest.mark.parametrize(
    "scheme", [KFold(scheme="kfold", folds=5), Holdout(scheme="holdout", val=0.2, test=0.3)], ids=["folds", "holdout"]
)
def test_chance_of_a_naive_split_to_cut_a_pair_by_simulation(scheme: KFold | Holdout) -> None:
    targets, observed, groups = labels(40, 2)
    part = duplicates.tested_part(splits.split(scheme, Labels.of(targets, observed), groups), 40)
    rng = np.random.default_rng(0)
    cut = np.mean([len(set(rng.permutation(part)[:2])) == 2 for _ in range(4000)])
    assert duplicates.cut_chance(part) == pytest.approx(cut, abs=0.03)


def confident_learning(p: Array, y: Array) -> set[int]:
    """The off-diagonal of the confident joint of one attribute, by a loop (Northcutt et al. 2021, equation 1)."""
    both = np.stack([1 - p, p], axis=1)
    limits = [both[y == k, k].mean() for k in (0, 1)]
    result = set()
    for row in range(len(y)):
        reached = [k for k in (0, 1) if both[row, k] >= limits[k]]
        if reached and max(reached, key=lambda k: both[row, k]) != y[row]:
            result.add(row)
    return result


def test_suspects_are_those_of_confident_learning_and_planted_errors_lead() -> None:
    rng = np.random.default_rng(5)
    truth = (rng.random((500, 2)) < [0.5, 0.1]).astype(np.int8)
    features = rng.normal(size=(500, 20))
    features[:, :2] += 3 * truth
    targets, observed = truth.copy(), rng.random(truth.shape) >= 0.1
    wrong = rng.permutation(500)[:25]
    targets[wrong, 0] = 1 - targets[wrong, 0]
    made = Labels.of(targets, observed)
    scores = probe.probe(features, made, np.arange(500), seed=0)
    probabilities = probe.calibrated(scores, made, np.arange(500), seed=0)
    result = suspects(probabilities, made, np.array([True, True]))
    for a in range(2):
        rows = np.flatnonzero(observed[:, a])
        expected = {int(rows[i]) for i in confident_learning(probabilities[rows, a], targets[rows, a])}
        assert result.total[a] == len(expected)
        assert {int(row) for row in result.row[result.attribute == a]} <= expected
    first = result.row[result.attribute == 0][:15]
    assert np.isin(first, wrong).mean() >= 0.8
    assert (result.positive == (targets[result.row, result.attribute] == 1)).all()
    assert len(result.row) == min(SUSPECTS, result.total.sum())
    only = suspects(probabilities, made, np.array([False, True]))
    assert only.total[0] == 0
    assert set(only.attribute.tolist()) == {1}


# The command


@pytest.mark.parametrize(("name", "kind"), [("a.tif", "TIFF"), ("b/c.JPEG", "JPEG"), ("d.png", "PNG"), ("e", None)])
def test_what_header_and_name_say_of_the_format(name: str, kind: str | None) -> None:
    assert headers.named_format(name) == kind
    for mode, grey in (("L", True), ("RGB", False)):
        file = io.BytesIO()
        Image.new(mode, (3, 2)).save(file, format=kind or "BMP")
        header = headers.read_header(file.getvalue())
        assert (header.format, header.grey) == (kind or "BMP", grey)


def wide(folder: Path, workplace: Path) -> Path:
    """Thirty copies with labels of their own, 30 attributes, one without positives, one implied by another."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    states = (rng.random((60, 30)) < 0.5).astype(int)
    states[:, 1] |= states[:, 0]
    states[:, 2] = 0
    for row in range(60):
        shutil.copy(workplace / "synthetic" / "images" / f"image_{row // 2}.jpg", folder / "images" / f"{row}.jpg")
    lines = [" ".join([f"{row}.jpg", *map(str, row_states)]) for row, row_states in enumerate(states)]
    (folder / "labels.txt").write_text("\n".join(lines))
    (folder / "wide.yaml").write_text(
        "data: {labels: labels.txt, images: images}\nsplit: {scheme: holdout, val: 0.2, test: 0.3}\n"
        "backbone: {name: tf_efficientnet_lite0}\ntransform: {size: 32}\n"
    )
    return folder / "wide.yaml"


def test_findings_of_many_attributes_and_many_copies(workplace: Path, tmp_path: Path) -> None:
    result = inspection.inspect(inspection.configured(wide(tmp_path, workplace), TABLES, []), lambda *_: None)
    by_kind = {finding.kind: finding.text for finding in findings(result)}
    assert by_kind["one_class"] == "Attributes whose labels are all negative: attr3."
    assert "attr1 is never positive without attr2" in by_kind["never"]
    assert "no better than unrelated images" in by_kind["duplicates_disagree"]
    assert "of 30 pairs" in by_kind["duplicates_disagree"]
    assert "more" in by_kind["duplicates_disagree"]  # of thirty attributes a sentence names six
    out = io.StringIO()
    report.render(result, Console(file=out, width=80))
    assert "391 more pairs with a smaller one" in out.getvalue()  # 29 of the 435 are those of attr3
    assert "no label is NA" in out.getvalue()
    assert "a hold-out" in out.getvalue()


def altered(folder: Path, workplace: Path) -> Path:
    """The small synthetic set with planted faults, as a wide table with a name longer than a terminal is wide."""
    shutil.copytree(workplace / "synthetic" / "images", folder / "images")
    lines = [line.split() for line in (workplace / "synthetic" / "labels.txt").read_text().splitlines()]
    cells = {name: row for name, *row in lines}
    place = folder / "images"
    shutil.copy(place / "image_0.jpg", place / "image_1.jpg")
    cells["image_0.jpg"][0], cells["image_1.jpg"][0] = "1", "0"
    with Image.open(place / "image_2.jpg") as image:
        image.save(place / "image_3.jpg", quality=100, subsampling=0)
        image.convert("RGBA").resize((40, 32)).save(place / "image_4.jpg", format="PNG")
        image.convert("L").save(place / "image_5.jpg")
    (place / "image_6.jpg").unlink()
    head = [
        "image",
        "attr1",
        "attr2",
        "attr3",
        "an_attribute_with_a_long_name_that_alone_would_fill_more_than_a_terminal",
    ]
    table = [",".join(head), *(",".join([name, *row]) for name, row in cells.items())]
    (folder / "labels.csv").write_text("\n".join(table) + "\n")
    (folder / "altered.yaml").write_text(
        "data: {labels: labels.csv, images: images, on_bad_image: skip}\n"
        "split: {scheme: kfold, folds: 2, val: 0.3}\nbackbone: {name: tf_efficientnet_lite0}\ntransform: {size: 32}\n"
    )
    return folder / "altered.yaml"


@pytest.fixture(scope="module")
def faulty(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return altered(tmp_path_factory.mktemp("faulty"), workplace)


def test_audit_as_json(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", str(faulty), "--format", "json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert "skipped image_6.jpg" in captured.err
    assert (result["n_listed"], result["n_used"]) == (80, 79)
    assert result["skipped"] == [{"image_id": "image_6.jpg", "reason": "missing"}]
    assert result["files"]["formats"] == {"JPEG": 78, "PNG": 1}
    assert result["files"]["misnamed"] == [{"image_id": "image_4.jpg", "format": "PNG"}]
    assert result["files"]["transparent"] == ["image_4.jpg"]
    assert result["files"]["grey"] == {"n": 1, "all": False}
    assert result["files"]["width"]["max"] == 40
    duplicates = result["duplicates"]
    assert duplicates["exact"] == [["image_0.jpg", "image_1.jpg"]]
    assert {("image_2.jpg", "image_3.jpg")} <= {(pair["a"], pair["b"]) for pair in duplicates["near"]}
    # two folds of 40 and 39
    assert duplicates["exact_pairs_cut_by_a_naive_split"] == pytest.approx(1 - (40 * 39 + 39 * 38) / (79 * 78))
    assert result["attributes"]["attr1"]["duplicates"]["differing"] == 1
    kinds = [finding["kind"] for finding in result["findings"]]
    assert {"duplicates_disagree", "skipped", "misnamed", "transparent", "grey", "duplicates"} <= set(kinds)
    levels = [finding["level"] for finding in result["findings"]]
    assert levels == sorted(levels, reverse=True)  # warnings stand first
    assert all(finding["advice"] for finding in result["findings"])


def test_audit_shows_everything_at_any_width(faulty: Path) -> None:
    result = inspection.inspect(inspection.configured(faulty, TABLES, []), lambda *_: None)
    for width in (40, 80, 120, 200):
        out = io.StringIO()
        report.render(result, Console(file=out, width=width))
        lines = out.getvalue().splitlines()
        assert max(cell_len(line) for line in lines) <= width
        assert "…" not in out.getvalue()
        text = "".join(line.strip() for line in lines).replace(" ", "")
        for part in ("image_0.jpg=image_1.jpg", "image_4.jpgisPNG", "attr1,attr2", "image_6.jpg(missing)"):
            assert part in text
        assert ("leftout" in text) == (width == 40)
    for width in range(40, 100):  # columns leave before a head is broken
        out = io.StringIO()
        report.render(result, Console(file=out, width=width))
        assert "\nattribute " in out.getvalue(), width


def test_audit_of_a_suite_is_that_of_its_baseline(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "audited.yaml").write_text(
        "extends: small.yaml\nsuite: {baseline: {loss: hill}, axes: {loss: [focal, hill]}}\n"
    )
    printed = []
    for name in ("audited.yaml", "small.yaml"):
        assert cli.main(["audit", str(workplace / name), "--format", "json", "--quiet"]) == 0
        printed.append(json.loads(capsys.readouterr().out) | {"name": ""})
    assert printed[0] == printed[1]
    assert cli.main(["audit", str(workplace / "small.yaml")]) == 0
    assert capsys.readouterr().out.startswith("audit of small: 80 images, 4 attributes")


def test_audit_refuses_what_run_refuses(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["absent.yaml"], [str(workplace / "small.yaml"), "--set", "loss=hil"]):
        assert cli.main(["audit", *arguments]) == 2
    (workplace / "empty").mkdir(exist_ok=True)
    assert cli.main(["audit", str(workplace / "small.yaml"), "--set", f"data.images={workplace / 'empty'}"]) == 2
    assert capsys.readouterr().out == ""


def test_audit_of_the_aimonk_images(aimonk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(__file__).parents[2] / "configs" / "suites" / "aimonk.yaml"
    place = ["--set", f"data.labels={aimonk / 'labels.txt'}", "--set", f"data.images={aimonk / 'images'}"]
    small = ["--set", "transform.size=32"]  # to encode them costs most of the time
    assert cli.main(["audit", str(config), *place, *small, "--format", "json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["skipped"]) == 3
    assert result["duplicates"]["n_exact_pairs"] == 7
    assert [item["image_id"] for item in result["files"]["misnamed"]] == ["image_43.jpg", "image_111.jpg"]
    assert result["files"]["transparent"] == ["image_43.jpg", "image_111.jpg"]
    assert result["files"]["grey"]["n"] == 1
