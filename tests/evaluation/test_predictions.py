from __future__ import annotations

import copy
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import arrays, predictions, probabilities, run_of

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import metrics, scores, thresholds
from aimonk_bench.evaluation import predictions as module
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.registry import Spec

POLICY = Spec("per_attribute_f1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "predictions.npz"
    predictions().save(path)
    return path.read_bytes()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_sigmoid_is_the_formula_in_float64(logit: float) -> None:
    probability = sigmoid(np.float32(logit))
    assert probability.dtype == np.float64
    assert math.isclose(probability, 1 / (1 + math.exp(-logit)) if logit > -700 else 0, rel_tol=1e-15, abs_tol=1e-300)


def member(run: Predictions, name: str) -> Any:
    """An array of a run by its name in the file."""
    if name == "attribute":
        return np.array(run.labels.attributes)
    return getattr(run.labels if name in ("targets", "observed") else run, name)


@pytest.mark.parametrize("folds", [1, 3])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, folds: int) -> None:
    before = predictions(folds=folds)
    before.save(tmp_path / "predictions.npz")
    after = Predictions.load(tmp_path / "predictions.npz")
    for name, array in arrays(folds=folds).items():
        loaded = member(after, name)
        np.testing.assert_array_equal(loaded, array)
        assert loaded.dtype == array.dtype


def test_the_same_arrays_give_the_same_bytes_whatever_the_clock_or_memory_order(tmp_path: Path, saved: bytes) -> None:
    content = arrays()
    content["logits"] = np.asfortranarray(content["logits"])
    content["observed"] = np.asfortranarray(content["observed"])
    run_of(content).save(tmp_path / "predictions.npz")
    assert (tmp_path / "predictions.npz").read_bytes() == saved
    with zipfile.ZipFile(tmp_path / "predictions.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_file_is_the_one_of_the_contract(tmp_path: Path, saved: bytes) -> None:
    (tmp_path / "predictions.npz").write_bytes(saved)
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as file:
        assert set(file.files) == {*arrays(), "schema_version"}
        assert np.array_equal(file["targets"] == -1, ~file["observed"])
        assert not file["observed"].all()
        assert file["targets"].dtype == np.int8
        assert file["schema_version"] == 1


def with_truth(**options: Any) -> dict[str, Any]:
    """The arguments of `Predictions` with a truth for all but a few labels; an image has one truth in all its rows."""
    content = arrays(**options)
    rng = np.random.default_rng(1)
    _, image = np.unique(content["image_id"], return_inverse=True)
    truth = rng.choice([-1, 0, 1], (image.max() + 1, len(content["attribute"])), p=[0.1, 0.5, 0.4]).astype(np.int8)
    return content | {"truth": truth[image]}


def test_the_truth_is_saved_where_there_is_one(tmp_path: Path, saved: bytes) -> None:
    content = with_truth()
    run_of(content).save(tmp_path / "predictions.npz")
    loaded = Predictions.load(tmp_path / "predictions.npz")
    assert loaded.truth is not None
    np.testing.assert_array_equal(np.where(loaded.truth.observed, loaded.truth.targets, -1), content["truth"])
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as file:
        assert set(file.files) == {*content, "schema_version"}
        assert file["truth"].dtype == np.int8
    (tmp_path / "predictions.npz").write_bytes(saved)
    assert Predictions.load(tmp_path / "predictions.npz").truth is None


@pytest.mark.parametrize("folds", [1, 3])
def test_scoring_against_the_truth_is_scoring_on_relabelled_test_rows(folds: int) -> None:
    content = with_truth(folds=folds)
    made = run_of(content)
    test = content["split"] == "test"
    truth = content["truth"][test]
    relabelled = copy.deepcopy({name: array for name, array in content.items() if name != "truth"})
    relabelled["targets"][test], relabelled["observed"][test] = truth == 1, truth != -1
    assert (relabelled["observed"] != content["observed"]).any()
    tuned = thresholds.tune(made, POLICY)
    judged = tuned.values[:, content["fold"][~test]]
    expected = metrics.figures(run_of(relabelled), tuned, judged)
    result = metrics.against_truth(made, tuned)
    assert result is not None
    for name in ("f1_default", "f1_tuned", "average_precision", "roc_auc"):
        np.testing.assert_array_equal(result.value(name), expected.value(name))
    written = scores.score(made, tuned, POLICY).to_json()["truth"]
    assert list(written["attribute"]) == content["attribute"].tolist()
    for a, row in enumerate(written["attribute"].values()):
        assert (row["n_known"], row["n_positive"]) == ((truth[:, a] != -1).sum(), (truth[:, a] == 1).sum())
        assert row["f1_tuned"] == expected.value("f1_tuned")[a]
    assert written["macro"]["roc_auc"] == pytest.approx(expected.value("roc_auc").mean())
    assert written["coverage"]["roc_auc"] == 4
    assert metrics.against_truth(predictions(folds=folds), thresholds.tune(predictions(folds=folds), POLICY)) is None


@pytest.mark.parametrize("fold", [None, 0, 1, 2])
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_part_is_the_rows_of_its_split_and_fold(split: Literal["val", "test"], fold: int | None) -> None:
    run = predictions()
    rows = run.split == split if fold is None else (run.split == split) & (run.fold == fold)
    part = run.part(split, fold)
    for name in ("fold", "group", "image_id"):
        np.testing.assert_array_equal(getattr(part, name), getattr(run, name)[rows])
    np.testing.assert_array_equal(part.labels.targets, run.labels.targets[rows])
    np.testing.assert_array_equal(part.labels.observed, run.labels.observed[rows])
    np.testing.assert_array_equal(part.logits, run.logits[:, rows])
    np.testing.assert_array_equal(part.probabilities, probabilities(run)[:, rows])
    assert part.labels.attributes == run.labels.attributes


def set_to(name: str, index: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content[name][index] = value

    return change


def cast(name: str, kind: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({name: content[name].astype(kind)})


def swap_rows(first: int, second: int) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        order = np.arange(len(content["fold"]))
        order[[first, second]] = second, first
        for name in ("targets", "observed", "split", "fold", "group", "image_id"):
            content[name] = content[name][order]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cast("logits", np.float64), r"logits: found type float64"),
        (cast("image_id", object), r"image_id: found type object"),
        (lambda content: content.update(observed=content["observed"][:-1]), r"observed: found shape \(.*, 4\)"),
        (lambda content: content.update(seed=content["seed"][:, None]), r"seed: found shape \(2, 1\)"),
        (lambda content: content.update(seed=content["seed"][:0]), r"seed: found shape \(0,\)"),
        (set_to("logits", (1, 2, 3), np.nan), r"logits: .*not finite"),
        (set_to("targets", (0, 0), -1), r"targets: "),
        (lambda content: content.update(targets=np.ones_like(content["targets"])), r"targets: "),
        (set_to("split", 0, "tes"), r"split: "),
        (swap_rows(0, 30), r"rows: expected folds 0 to 2 in order"),
        (lambda content: content.update(fold=content["fold"] + np.int16(1)), r"rows: expected folds 0 to 2"),
        (set_to("image_id", 0, "image_7.jpg"), r"image_id: found an image twice in one fold"),
        (set_to("image_id", -1, "image_0.jpg"), r"image_id: found .* twice among the test rows"),
        (set_to("group", slice(None), 0), r"group: found one with both"),
        (set_to("attribute", 0, "hat"), r"attribute, seed: found one twice"),
        (set_to("seed", 0, 10), r"attribute, seed: found one twice"),
        (lambda content: content.update(truth=content["targets"] + np.int8(1)), r"truth: found something else"),
        (lambda content: content.update(truth=content["targets"][1:]), r"truth: found shape"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(change: Callable[[dict[str, Any]], None], message: str) -> None:
    content = arrays()
    change(content)
    with pytest.raises(ValueError, match=message):
        run_of(content)


def test_another_schema_version_is_named_with_ours(
    tmp_path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "predictions.npz"
    path.write_bytes(saved)
    monkeypatch.setattr(module, "SCHEMA_VERSION", 2)
    with pytest.raises(UserError, match=r"predictions\.npz: found schema_version 1, expected 2"):
        Predictions.load(path)


def test_a_pickle_is_never_opened(tmp_path: Path, saved: bytes) -> None:
    path = tmp_path / "predictions.npz"
    content = {**arrays(), "seed": np.array([0, "x"], dtype=object), "schema_version": 1}
    np.savez(path, **content)
    with pytest.raises(UserError, match=r"predictions\.npz: .*allow_pickle"):
        Predictions.load(path)


def test_the_mask_and_the_targets_of_a_file_must_agree(tmp_path: Path) -> None:
    np.savez(tmp_path / "predictions.npz", **arrays(), schema_version=1)  # 0, not -1, where not observed
    with pytest.raises(UserError, match=r"predictions\.npz: .*targets: expected -1 exactly where not observed"):
        Predictions.load(tmp_path / "predictions.npz")


def test_nothing_may_follow_an_array(tmp_path: Path, saved: bytes) -> None:
    path = tmp_path / "predictions.npz"
    path.write_bytes(saved)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content + b"x" * (name == "seed.npy"))
    with pytest.raises(UserError, match=r"predictions\.npz: .*seed: found bytes after the array"):
        Predictions.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"junk" * 100])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"predictions\.npz: found a file that cannot be used"):
        Predictions.load(tmp_path / "predictions.npz")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions\.npz"):
        Predictions.load(tmp_path / "predictions.npz")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_an_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, saved: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(saved)
    at = data.draw(st.integers(0, len(saved) - 1))
    if data.draw(st.booleans()):
        del damaged[at:]
    else:
        damaged[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "predictions.npz"
    path.write_bytes(damaged)
    try:
        loaded = Predictions.load(path)
    except UserError:
        return
    for name, array in arrays().items():  # a byte that nobody reads, such as a date
        np.testing.assert_array_equal(member(loaded, name), array)
