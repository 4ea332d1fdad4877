"""What a run and a suite leave on disk, and how it is read back."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import fake_suite
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aimonk_bench
from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import scores, thresholds
from aimonk_bench.records import files, history, run, suite
from aimonk_bench.records.environment import _commit, environment
from aimonk_bench.records.run import Status
from aimonk_bench.records.weights import HEADS

POLICY = registry.Spec("per_attribute_f1")
OTHER = suite.SuiteRecord("other", "f" * 64, "0-x", ("0-x",), (("x",),))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_reads_back_exactly_with_null_for_nan(value: dict[str, object]) -> None:
    text = files.dumps(value)
    assert json.loads(text) == files.plain(value)
    assert text.endswith("\n")


def test_json_takes_arrays_and_refuses_infinity() -> None:
    made = files.dumps({"a": np.array([[0.1, math.nan]]), "n": np.int64(3), "empty": {}, "none": []})
    assert json.loads(made) == {"a": [[0.1, None]], "n": 3, "empty": {}, "none": []}
    assert list(json.loads(made)) == ["a", "n", "empty", "none"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.dumps({"a": math.inf})


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (819_200, "819 kB"),
        (999_600, "1 MB"),
        (46_830_571, "46.8 MB"),
        (2e10, "20 GB"),
        (5e16, "5e+04 TB"),
    ],
)
def test_a_number_of_bytes_is_written_in_the_unit_that_fits(size: float, text: str) -> None:
    assert files.bytes_text(size) == text


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def interrupted() -> None:
        with files.atomic(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[1]", b"\xff\xfe{}", b"3", b"[" * 100_000),
        *(b'{"a": 1%s}' % (b"0" * 400), b'{"a": %d}' % 2**63, b'{"a": %d}' % (-(2**63) - 1)),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_broken_json_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json"):
        files.read_json(tmp_path / "a.json")


def test_the_largest_whole_numbers_of_json_are_read(tmp_path: Path) -> None:
    bounds = {"a": [-(2**63), 2**63 - 1, -1, 0]}
    files.write_json(tmp_path / "a.json", bounds)
    assert files.read_json(tmp_path / "a.json") == bounds


# One run -------------------------------------------------------------------------------------------------------------


def status(run_id: str = "a-1", state: str = "done") -> Status:
    reason = None if state == "done" else "it broke"
    return Status(
        *(run_id, state, {"train": 1.5}, reason, ("a",), fake_suite.columns(), fake_suite.SIMPLE),  # type: ignore[arg-type]  # state is a str
        revision=run.REVISION,
    )


def test_claim_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert run.claim(folder, "a-1", "x: 1\n") is False
    folder.mkdir()
    (folder / ".partial-1-config.yaml").touch()
    assert run.claim(folder, "a-1", "x: 1\n") is False, "what an interrupted write left is nothing"
    run.begin(folder, "x: 1\n")
    assert run.claim(folder, "a-1", "x: 1\n") is False, "the same run, interrupted"
    with pytest.raises(UserError, match="unfinished run of another config"):
        run.claim(folder, "a-1", "x: 2\n")
    assert run.claim(folder, "out", "name: another\n") is False, "the folder is called by the id"
    run.end(folder, status(state="failed"))
    assert run.claim(folder, "a-1", "x: 1\n") is False, "a failed run may be tried again"
    with pytest.raises(UserError, match=r"holds the failed run a-1, this one is b-2; delete it or name another"):
        run.claim(folder, "b-2", "x: 1\n")
    fake_suite.write_run(folder, "a", fake_suite.predictions())
    run.end(folder, status())
    assert run.claim(folder, "a-1", "name: another\n") is True
    with pytest.raises(UserError, match=r"holds the run a-1, this one is b-2.*another output folder"):
        run.claim(folder, "b-2", "x: 1\n")


@pytest.mark.parametrize(
    ("left", "now", "goes_on"),
    [
        (
            "train:\n  lr: 1.0\n  keep_weights: auto\ntune: {}\n",
            "train:\n  lr: 1.0\n  keep_weights: true\ntune: {}\n",
            True,
        ),
        ("train:\n  lr: 1.0\ntune: {}\n", "train:\n  lr: 1.0\n  keep_weights: auto\ntune: {}\n", True),
        ("train: {lr: 1.0, keep_weights: true}\n", "train: {lr: 1.0, keep_weights: false}\n", True),
        ("train: {lr: 1.0, keep_weights: auto}\n", "train: {lr: 2.0, keep_weights: auto}\n", False),
        ("train: {lr: 1.0,\n  keep_weights: false, clip: null}\n", "train: {lr: 1.0, clip: null}\n", True),
        ("name: 'a, keep_weights: true'\n", "name: 'a, keep_weights: false'\n", False),
        ("train: {lr: [1.0\n", "train: {lr: 1.0}\n", False),
        ("train: {keep_weights: auto}\nplot: {title: a}\n", "train: {keep_weights: true}\nplot: {title: b}\n", False),
    ],
)
def test_an_unfinished_run_may_go_on_with_other_weights_kept(
    tmp_path: Path, left: str, now: str, goes_on: bool
) -> None:
    run.begin(tmp_path, left)
    if goes_on:
        assert run.claim(tmp_path, "a-1", now) is False
        return
    with pytest.raises(UserError, match="unfinished run of another config"):
        run.claim(tmp_path, "a-1", now)


DAMAGE = [b"", b"{", b"[]", b"{}", b"PK\x03\x04 cut off"]


@pytest.mark.parametrize("content", [None, *DAMAGE], ids=repr)
@pytest.mark.parametrize(
    "name", [run.STATUS, run.PREDICTIONS, run.HISTORY, run.DATA, run.ENVIRONMENT, run.CONFIG, HEADS]
)
def test_a_finished_run_whose_file_is_lost_or_damaged_begins_again(
    tmp_path: Path, name: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "a-1"
    fake_suite.write_run(folder, "a", fake_suite.predictions())
    assert run.claim(folder, "a-1", fake_suite.CONFIG) is True
    lose(folder / name, content)
    assert run.claim(folder, "a-1", fake_suite.CONFIG) is False
    said_elsewhere = [(run.STATUS, None), (HEADS, None)]  # the driver names all runs without weights at once
    assert name in caplog.text or (name, content) in said_elsewhere


@pytest.mark.parametrize("content", [None, *DAMAGE], ids=repr)
@pytest.mark.parametrize("name", [run.THRESHOLDS, run.METRICS])
def test_derived_files_that_are_lost_or_damaged_are_computed_again(
    tmp_path: Path, name: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    before = (tmp_path / name).read_bytes()
    lose(tmp_path / name, content)
    assert run.claim(tmp_path, tmp_path.name, fake_suite.CONFIG) is True
    run.read(tmp_path).restore()
    assert (tmp_path / name).read_bytes() == before
    assert (name in caplog.text) == (content is not None and (name, content) != (run.METRICS, b"{}"))


def lose(path: Path, content: bytes | None) -> None:
    """Delete a file, or replace its content."""
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_predictions_are_never_an_internal_error(tmp_path: Path, seed: int) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    rng, file = np.random.default_rng(seed), tmp_path / run.PREDICTIONS
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    content[rng.integers(0, len(content), 40)] = rng.integers(0, 256, 40)
    file.write_bytes(content.tobytes()[: rng.integers(len(content) // 2, len(content) + 1)])
    with pytest.raises(UserError, match=r"predictions\.npz: found a file that cannot be used"):
        run.read(tmp_path).check(())


def test_the_predictions_of_another_run_are_refused(tmp_path: Path) -> None:
    """Which fit in every respect but what they say."""
    for name, noise in (("a-1", 0), ("b-1", 1)):
        fake_suite.write_run(tmp_path / name, name, fake_suite.predictions(noise=noise))
    run.read(tmp_path / "a-1").check(())
    shutil.copy(tmp_path / "b-1" / run.PREDICTIONS, tmp_path / "a-1")
    with pytest.raises(UserError, match=r"predictions\.npz: found a file that cannot be used \(of another run\)"):
        run.read(tmp_path / "a-1").check(())
    assert run.claim(tmp_path / "a-1", "a-1", fake_suite.CONFIG) is False


def test_the_run_of_an_earlier_version_is_named_and_left_alone(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path / "a-1", "a", fake_suite.predictions(), revision=None)
    with pytest.raises(
        UserError, match=r"holds the run a-1 of an earlier version, this one is a-2.*another output folder"
    ):
        run.claim(tmp_path / "a-1", "a-2", "x: 1\n")


def test_claim_refuses_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    for place, problem in ((tmp_path, "photo.jpg"), (tmp_path / "photo.jpg", "is a file")):
        with pytest.raises(UserError, match=problem):
            run.claim(place, "a-1", "")
        with pytest.raises(UserError, match=problem):
            suite.claim(place, OTHER)


@pytest.mark.parametrize("name", run.FILES)
def test_a_folder_in_the_place_of_a_file_of_a_run_is_refused(tmp_path: Path, name: str) -> None:
    fake_suite.write_run(tmp_path / "a-1", "a", fake_suite.predictions())
    (tmp_path / "a-1" / name).unlink(missing_ok=True)
    (tmp_path / "a-1" / name).mkdir()
    with pytest.raises(UserError) as error:
        run.claim(tmp_path / "a-1", "a-1", "x: 1\n")
    [problem] = error.value.problems
    assert problem.startswith(f"{tmp_path / 'a-1' / name}: is a folder, expected a file; move it away")


@pytest.mark.parametrize("name", [suite.FILE, *suite.DERIVED])
def test_a_folder_in_the_place_of_a_file_of_a_suite_is_refused(tmp_path: Path, name: str) -> None:
    fake_suite.write_suite(tmp_path, ["a"])
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{re.escape(name)}: is a folder, expected a file; move it away"):
        suite.claim(tmp_path, OTHER)


def test_a_lost_list_of_runs_is_written_again_and_the_runs_are_taken_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = fake_suite.write_suite(tmp_path, ["a", "b"])
    (tmp_path / suite.FILE).unlink()
    with pytest.raises(UserError, match="holds runs but no suite"):  # none of them ended
        suite.claim(tmp_path, OTHER)
    fake_suite.write_run(first, "a", fake_suite.predictions())
    with pytest.raises(UserError, match=r"suite\.json is lost: the same `aimonk-bench suite` command"):
        suite.collect(tmp_path)
    suite.claim(tmp_path, OTHER)
    assert "suite.json is lost" in caplog.messages[-1]
    fake_suite.write_suite(tmp_path, ["a", "b"])
    assert list(suite.collect(tmp_path).records) == ["0-a"]


@pytest.mark.parametrize(
    ("names", "can_go_on"),
    [
        (["config.yaml"], False),
        (["config.yaml", "status.json"], False),  # of an earlier attempt, which failed
        (["config.yaml", "checkpoints/0.partial"], False),
        (["config.yaml", "checkpoints/0-0.pt"], True),
        (["suite.json", "runs/a-1/config.yaml"], False),
        (["suite.json", "runs/a-1/status.json"], True),
        (["suite.json", "runs/a-1/checkpoints/0-0.pt"], True),
    ],
)
def test_an_interrupted_command_goes_on_from_runs_that_ended_and_from_checkpoints(
    tmp_path: Path, names: list[str], can_go_on: bool
) -> None:
    assert not suite.can_go_on(tmp_path / "nothing")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert suite.can_go_on(tmp_path) == can_go_on


def test_begin_removes_what_an_earlier_attempt_left_and_nothing_else(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".partial-99-predictions.npz").touch()
    run.begin(tmp_path, "x: 1\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "notes.txt"]
    assert (tmp_path / "config.yaml").read_text() == "x: 1\n"


def test_a_finished_run_that_is_made_again_is_replaced_as_a_whole(tmp_path: Path) -> None:
    again, checkpoint = tmp_path / run.AGAIN, tmp_path / run.CHECKPOINTS / "0.pt"
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    (tmp_path / run.TRACEBACK).touch()
    checkpoint.parent.mkdir()
    checkpoint.touch()
    (tmp_path / "notes.txt").touch()
    fake_suite.write_run(again, "a", fake_suite.predictions(noise=1))
    newer = {path.name: path.read_bytes() for path in again.iterdir()}
    assert suite.is_finished(tmp_path)
    run.replace(tmp_path, again)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == newer | {"notes.txt": b""}


def test_what_a_killed_process_left_of_a_run_that_was_made_again_goes(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    fake_suite.write_run(tmp_path / run.AGAIN, "a", fake_suite.predictions())
    assert run.claim(tmp_path, tmp_path.name, fake_suite.CONFIG) is True
    run.read(tmp_path).restore()
    assert not (tmp_path / run.AGAIN).exists()


def test_a_run_reads_back(tmp_path: Path) -> None:
    made = fake_suite.predictions()
    fake_suite.write_run(tmp_path / "a-1", "masked_bce", made)
    record = run.read(tmp_path / "a-1")
    assert (record.status.id, record.status.name, record.done) == ("a-1", ("masked_bce",), True)
    assert record.data["n_used"] == 60
    assert record.environment["weights"] == fake_suite.WEIGHTS
    np.testing.assert_array_equal(record.predictions.logits, made.logits)
    np.testing.assert_array_equal(record.thresholds.values, thresholds.tune(made, POLICY).values)
    read, expected = record.scores, scores.score(made, record.thresholds, POLICY)
    for name, values in expected.figures.per_seed.items():
        np.testing.assert_array_equal(read.figures.per_seed[name], values)
    for name, interval in expected.intervals.items():
        for field, values in vars(interval).items():
            np.testing.assert_array_equal(getattr(read.intervals[name], field), values)
    np.testing.assert_array_equal(read.validation, expected.validation)


def test_deleted_thresholds_and_metrics_come_back(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    names = (run.THRESHOLDS, run.METRICS, run.RELIABILITY)
    before = [(tmp_path / name).read_bytes() for name in names]
    for name in names:
        (tmp_path / name).unlink()
    run.read(tmp_path).restore()
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_metrics_of_an_older_revision_are_made_again(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    before = files.read_json(tmp_path / run.METRICS)
    files.write_json(tmp_path / run.METRICS, {"revision": scores.REVISION - 1, "attribute": "of another layout"})
    run.read(tmp_path).restore()
    assert files.read_json(tmp_path / run.METRICS) == before


@pytest.mark.parametrize("config", ["", "threshold: [", "name: a\n", "threshold: per_atribute_f1\n"])
def test_thresholds_cannot_come_back_without_their_policy(tmp_path: Path, config: str) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    (tmp_path / run.THRESHOLDS).unlink()
    (tmp_path / run.CONFIG).write_text(config)
    with pytest.raises(UserError, match=r"config\.yaml: "):
        _ = run.read(tmp_path).thresholds


@pytest.mark.parametrize(
    "change",
    [{"state": "runing"}, {"columns": {}}, {"seconds": {}}, {"id": 3}, {"seconds": None}, {"reason": 1}],
    ids=str,
)
def test_a_broken_status_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / run.PREDICTIONS).touch()
    run.end(tmp_path, status())
    files.write_json(tmp_path / run.STATUS, files.read_json(tmp_path / run.STATUS) | change)
    with pytest.raises(UserError, match=r"status\.json: .+"):
        run.read(tmp_path)


def test_files_of_another_version_are_called_that(tmp_path: Path) -> None:
    fake_suite.write_suite(tmp_path, ["a", "b"])
    as_before = {"names": {"0-a": "a", "1-b": "b"}}  # of a version that had maps
    files.write_json(tmp_path / suite.FILE, files.read_json(tmp_path / suite.FILE) | as_before)
    with pytest.raises(UserError, match=r"suite\.json: .*another version of aimonk_bench.*another output folder"):
        suite.collect(tmp_path)


def test_a_finished_run_without_its_files_is_named_and_a_failed_one_needs_none(tmp_path: Path) -> None:
    (tmp_path / run.PREDICTIONS).touch()
    run.end(tmp_path, status())
    with pytest.raises(UserError, match=r"data\.json"):
        run.read(tmp_path)
    run.end(tmp_path, status(state="failed"))
    assert run.read(tmp_path).data == {}


def test_history_holds_exact_floats_and_empty_fields(tmp_path: Path) -> None:
    loss = np.random.default_rng(0).random(4)
    history = {"seed": np.array([0, 0, 1, 1]), "training_loss": loss, "val_loss": np.array([np.nan, 0.5, np.nan, 1e-9])}
    files.write_csv(tmp_path / run.HISTORY, pd.DataFrame(history))
    text = (tmp_path / run.HISTORY).read_bytes().decode()
    rows = list(csv.reader(text.splitlines()))
    assert rows[0] == list(history)
    assert [float(row[1]) for row in rows[1:]] == loss.tolist()
    assert [row[2] for row in rows[1:]] == ["", "0.5", "", "1e-09"]
    assert "\r" not in text


def test_a_history_reads_back_exactly(tmp_path: Path) -> None:
    loss = np.random.default_rng(0).random(3) / 3
    columns = {name: np.arange(3) for name in history.WHOLE}
    columns |= {"training_loss": loss, "val_loss": [np.nan, 0.1, np.nan]}
    files.write_csv(tmp_path / run.HISTORY, pd.DataFrame(columns))
    read = history.read(tmp_path / run.HISTORY)
    assert list(read) == list(columns)
    for name, values in columns.items():
        np.testing.assert_array_equal(read[name], values)
    assert {read[name].dtype for name in history.WHOLE} == {np.dtype(np.int64)}


HUGE = f"seed,fold,iteration_number,epoch,training_loss\n0,0,1,1{'0' * 400},0.5\n"


@pytest.mark.parametrize("content", ["", "seed,fold\n0,x\n", 'seed\n"\n', HUGE])
def test_a_broken_history_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / run.HISTORY).write_text(content)
    with pytest.raises(UserError, match=r"history\.csv"):
        history.read(tmp_path / run.HISTORY)


def test_the_cost_of_the_backbone_reads_back_and_may_be_unknown(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path / "new", "a", fake_suite.predictions())
    fake_suite.write_run(tmp_path / "old", "a", fake_suite.predictions(), cost=None)
    new, old = (run.read(tmp_path / name).cost for name in ("new", "old"))
    assert (new.parameters, new.macs, new.images_per_second) == tuple(fake_suite.COST.values())
    assert np.isnan([old.parameters, old.macs]).all()
    assert old.images_per_second is None
    content = files.read_json(tmp_path / "new" / run.ENVIRONMENT)
    files.write_json(tmp_path / "new" / run.ENVIRONMENT, content | {"cost": {"macs": "many"}})
    with pytest.raises(UserError, match=r"environment\.json.*cost\.macs"):
        run.read(tmp_path / "new")


def test_environment_names_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = environment(fake_suite.WEIGHTS, fake_suite.COST, "torch", "cpu")
    assert content["packages"]["numpy"] == np.__version__
    assert content["processor"]
    assert (content["engine"], content["weights"]["licence"]) == ("torch", "apache-2.0")
    assert content["cost"] == fake_suite.COST
    assert content["git_commit"] is None or len(content["git_commit"].removesuffix("-dirty")) == 40


def test_the_commit_is_that_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    package = tmp_path / "aimonk_bench" / "__init__.py"
    package.parent.mkdir()
    package.touch()
    monkeypatch.setattr(aimonk_bench, "__file__", str(package))
    assert _commit() is None  # no repository, wherever the user stands
    git("init")
    git("commit", "--allow-empty", "-m", "a repository that merely surrounds it")
    assert _commit() is None
    git("add", ".")
    git("commit", "-m", "one that tracks it")
    assert _commit() == git("rev-parse", "HEAD")
    package.write_text("changed")
    assert _commit() == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", "")
    assert _commit() is None


# Many runs -----------------------------------------------------------------------------------------------------------


def test_a_suite_replaces_the_list_but_never_the_runs(tmp_path: Path) -> None:
    suite.claim(tmp_path / "new", OTHER)
    first, _ = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_failed(first, "a", "it broke")
    suite.claim(tmp_path, OTHER)
    fake_suite.write_suite(tmp_path, ["c"])
    assert run.read(first).status.reason == "it broke"
    assert list(suite.collect(tmp_path).names.values()) == [("c",)]


@pytest.mark.parametrize(
    "change",
    [
        *({"ids": 3}, {"names": {}}, {"names": [["a"]]}, {"baseline": None}, {"baseline": "c"}),
        *({"skipped": ["0-a"]}, {"skipped": {"2-c": "why"}}),
    ],
    ids=str,
)
def test_a_broken_suite_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    fake_suite.write_suite(tmp_path, ["a", "b"])
    files.write_json(tmp_path / suite.FILE, files.read_json(tmp_path / suite.FILE) | change)
    with pytest.raises(UserError, match=r"suite\.json: .+"):
        suite.collect(tmp_path)


def test_collect_finds_done_failed_and_missing_runs_and_what_is_left_out(tmp_path: Path) -> None:
    done, failed, unfinished, _ = fake_suite.write_suite(tmp_path, ["a", "b", "c", "d"], baseline=1)
    fake_suite.write_run(done, "its name in an earlier suite", fake_suite.predictions())
    fake_suite.write_failed(failed, "b", "it broke")
    run.begin(unfinished, "x: 1\n")
    (tmp_path / "runs" / "old").mkdir()
    collection = suite.collect(tmp_path)
    assert [record.status.id for record in collection.finished] == ["0-a"]
    assert [record.status.id for record in collection.failed] == ["1-b"]
    assert collection.missing == ["2-c", "3-d"]
    assert (collection.baseline, collection.left_out) == ("1-b", ("old",))
    assert list(collection.names.values()) == [("a",), ("b",), ("c",), ("d",)]


def test_a_skipped_run_is_neither_missing_nor_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done, failed_before, _, _ = fake_suite.write_suite(tmp_path, ["a", "b", "c", "d"], skipped=[1, 2])
    fake_suite.write_run(done, "a", fake_suite.predictions())
    fake_suite.write_failed(failed_before, "b", "the weights cannot be had")
    collection = suite.collect(tmp_path)
    assert (list(collection.skipped), collection.missing) == (["1-b", "2-c"], ["3-d"])
    assert (list(collection.records), collection.left_out) == (["0-a"], ())
    assert collection.skipped["2-c"].startswith("the weights cannot be had")
    fake_suite.write_suite(tmp_path, ["a"])
    [message] = caplog.messages  # nothing is left of a skipped run, so that none is missed
    assert "1 of its 4 runs" in message


def test_a_suite_of_before_skips_nothing(tmp_path: Path) -> None:
    fake_suite.write_suite(tmp_path, ["a"])
    content = files.read_json(tmp_path / suite.FILE)
    del content["skipped"]
    files.write_json(tmp_path / suite.FILE, content)
    assert suite.collect(tmp_path).skipped == {}


@pytest.mark.parametrize("name", [run.STATUS, run.DATA, run.ENVIRONMENT])
def test_collect_names_a_damaged_run_and_takes_the_others(tmp_path: Path, name: str) -> None:
    names = ["a", "b", "c"]
    places = fake_suite.write_suite(tmp_path, names)
    for place, run_name in zip(places, names, strict=True):
        fake_suite.write_run(place, run_name, fake_suite.predictions())
    lose(places[1] / name, b"[]")
    collection = suite.collect(tmp_path)
    assert list(collection.records) == ["0-a", "2-c"]
    assert str(places[1] / name) in collection.damaged["1-b"]
    assert (list(collection.damaged), collection.missing) == (["1-b"], [])


def test_collect_does_not_take_one_run_for_another(tmp_path: Path) -> None:
    places = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(places[0], "a", fake_suite.predictions())
    shutil.copytree(places[0], places[1])
    assert "found the status of 0-a" in suite.collect(tmp_path).damaged["1-b"]


@pytest.mark.parametrize(
    ("names", "fingerprint", "revision", "refused"),
    [
        (["a", "b"], "f", run.REVISION, ""),  # the same suite
        (["a", "b", "c"], "f", run.REVISION, ""),  # it gained a run
        (["a", "c"], "f", run.REVISION, ""),  # the run that it lost had failed
        (["c", "b"], "f", run.REVISION, "another config: 1 finished run of the suite comparison "),
        (["b"], "f", run.REVISION, "another config"),
        (["c"], "e", run.REVISION, "another data set"),
        (["c"], "f", run.REVISION - 1, ""),
    ],
)
def test_a_suite_leaves_out_no_finished_run_of_another_config(
    tmp_path: Path, names: list[str], fingerprint: str, revision: int, refused: str
) -> None:
    first, second = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions(), revision=revision)
    fake_suite.write_failed(second, "b", "it broke")
    ids = tuple({"a": "0-a", "b": "1-b"}.get(name, f"9-{name}") for name in names)
    record = suite.SuiteRecord("s", fingerprint * 64, ids[0], ids, tuple((name,) for name in names))
    if not refused:
        suite.claim(tmp_path, record)
        return
    with pytest.raises(UserError) as error:
        suite.claim(tmp_path, record)
    assert str(error.value).startswith(f"{tmp_path}: holds results of {refused}")
    assert "(a)" in str(error.value)
    assert str(error.value).endswith("name another output folder")


def test_a_finished_run_whose_weights_are_gone_is_not_called_one_of_another_config(tmp_path: Path) -> None:
    first, _ = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    record = suite.SuiteRecord("s", "f" * 64, "9-b", ("9-a", "9-b"), (("a",), ("b",)), {"9-a": "no weights"})
    with pytest.raises(UserError, match=r"holds 1 finished run \(a\) whose weights cannot be had any more"):
        suite.claim(tmp_path, record)


def test_a_damaged_list_of_runs_refuses_no_suite(tmp_path: Path) -> None:
    (place,) = fake_suite.write_suite(tmp_path, ["a"])
    fake_suite.write_run(place, "a", fake_suite.predictions())
    (tmp_path / suite.FILE).write_text("{")
    suite.claim(tmp_path, OTHER)


def test_a_suite_that_takes_the_folder_of_another_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_suite(tmp_path, ["a", "b"])
    assert not caplog.messages
    fake_suite.write_suite(tmp_path, ["a", "c"], name="another")
    (message,) = caplog.messages
    assert "comparison" in message
    assert "another: 1 of its 2 runs" in message
    assert "another output folder" in message
    fake_suite.write_suite(tmp_path, ["a"], name="another")
    assert "the suite another of this folder has other runs now: 1 of its 2 runs" in caplog.messages[-1]
    (tmp_path / suite.FILE).write_text("{")
    fake_suite.write_suite(tmp_path, ["a"])
    assert "suite.json is replaced" in caplog.messages[-1]


def test_collect_takes_a_single_run_and_nothing_else(tmp_path: Path) -> None:
    run.begin(tmp_path, "x: 1\n")
    with pytest.raises(UserError, match="an unfinished run"):
        suite.collect(tmp_path)
    fake_suite.write_run(tmp_path, "reference", fake_suite.predictions())
    collection = suite.collect(tmp_path)
    assert (collection.name, collection.baseline, list(collection.names.values())) == (None, None, [("reference",)])
    with pytest.raises(UserError, match=r"suite\.json or status\.json"):
        suite.collect(tmp_path / "nowhere")
    fake_suite.write_run(tmp_path / "several" / "one", "reference", fake_suite.predictions())
    with pytest.raises(UserError, match=rf"such as {tmp_path / 'several' / 'one'}$"):
        suite.collect(tmp_path / "several")


def test_checkpoints_that_cannot_be_deleted_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions())
    status = run.read(tmp_path).status
    for fails in (True, False):
        (tmp_path / run.CHECKPOINTS).mkdir(exist_ok=True)
        with monkeypatch.context() as patch:
            if fails:
                patch.setattr("shutil.rmtree", lambda folder, ignore_errors: None)
            run.end(tmp_path, status)
        assert (tmp_path / run.CHECKPOINTS).exists() == fails
    assert [record.getMessage().partition(": ")[2][:17] for record in caplog.records] == ["cannot be deleted"]
