"""Experiments as functions: the same runs as on the command line, without its streams."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_suite
import numpy as np
import pandas as pd
import pytest
import yaml
from small_suite import files_of_runs

import aimonk_bench as ab
from aimonk_bench import cli, errors
from aimonk_bench.api import work
from aimonk_bench.config import loader
from aimonk_bench.reporting.words import number
from aimonk_bench.serving import export as exporting
from aimonk_bench.suite import inspection, runner
from aimonk_bench.tables import TABLES

TIMED = ("status.json", "seconds.json")
SUITE = {"baseline": {"loss": "hill"}, "axes": {"loss": ["hill", {"name": "focal", "gamma": 1.0}]}}


@pytest.fixture
def config(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The content of small.yaml, in the folder from which its paths start."""
    monkeypatch.chdir(workplace)
    content: dict[str, Any] = yaml.safe_load((workplace / "small.yaml").read_text())
    return {"name": "small", **content}


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a run but those that hold seconds."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in TIMED}


def problems(*arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(ab.UserError) as caught:
        ab.run(*arguments, **options)
    return caught.value.problems


def test_a_run_is_that_of_the_command_line_from_a_file_a_dict_and_a_config(
    config: dict[str, Any], tmp_path: Path
) -> None:
    assert cli.main(["run", "small.yaml", "--out", str(tmp_path / "cli"), "--set", "train.lr=0.01", "--quiet"]) == 0
    expected = files(tmp_path / "cli")
    from_file = ab.run("small.yaml", {"train.lr": np.float64(0.01)}, out=tmp_path / "file")
    config["train"] |= {"lr": 0.01, "seeds": range(2)}
    from_dict = ab.run(config | {"data": {key: Path(path) for key, path in config["data"].items()}}, out=tmp_path / "d")
    from_config = ab.run(from_dict.config, out=str(tmp_path / "config"))
    status = json.loads((tmp_path / "cli" / "status.json").read_text())
    for made in (from_file, from_dict, from_config):
        assert made.id == status["id"]
        assert files(made.folder) == expected
        assert set(json.loads((made.folder / "seconds.json").read_text())) >= {"encode", "train", "total"}
    assert from_config == ab.load(tmp_path / "config")
    again = ab.run(Path("small.yaml"), ["train.lr=0.01"], out=tmp_path / "file")
    assert again.id == from_file.id


def test_a_suite_is_that_of_the_command_line(
    config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "two.yaml").write_text(f"extends: {Path('small.yaml').absolute()}\nsuite: {json.dumps(SUITE)}\n")
    assert cli.main(["suite", str(tmp_path / "two.yaml"), "--out", str(tmp_path / "cli"), "--quiet"]) == 0
    seen: list[tuple[str, int, int]] = []
    suite = {"extends": "small.yaml", "name": "two", "suite": SUITE}
    logging.getLogger("aimonk_bench").propagate = True  # the command line set it up for itself
    with caplog.at_level(logging.INFO, "aimonk_bench"):
        made = ab.suite(suite, out=tmp_path / "api", progress=lambda *report: seen.append(report))
    assert [report for report in seen if report[0] == "suite"] == [("suite", 0, 2), ("suite", 1, 2), ("suite", 2, 2)]
    first, second = (line for line in caplog.messages if line.startswith("run "))
    done = made.finished[0]
    best = number(made.summary.query("run == @done.id and attribute != 'macro'")["f1_validation"].mean())
    assert first == f"run 1 of 2: {done.name}"
    assert (
        second == f"run 2 of 2: {made.finished[1].name} (best validation F1 of this call so far: {best}, {done.name})"
    )
    assert files_of_runs(made.folder) == files_of_runs(tmp_path / "cli")
    for name in ("suite.json", "statistics.json", "summary.md"):
        assert (made.folder / name).read_bytes() == (tmp_path / "cli" / name).read_bytes()
    assert (made.name, list(made.unfinished), len(made.finished)) == ("two", [], 2)
    assert [run.config.name for run in made.finished] == [f"two-{run.id}" for run in made.finished]


def test_results_go_below_experiments_by_default(config, workplace: Path, tmp_path: Path, monkeypatch) -> None:
    def nothing(planned: object, folder: Path, clock: object, progress: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(runner, "execute_run", nothing)
    monkeypatch.chdir(tmp_path)
    config["data"] = {key: workplace / path for key, path in config["data"].items()}
    unnamed = {key: value for key, value in config.items() if key != "name"}
    for source, name in ((config, "small"), (unnamed, "experiment")):
        with pytest.raises(ab.UserError, match=f"experiments.{name}: expected a folder with suite.json or status.json"):
            ab.run(source)
        assert (tmp_path / "experiments" / name).is_dir()
    frame = pd.read_csv(workplace / "synthetic" / "labels.txt", sep=" ", header=None, keep_default_na=False)
    with pytest.raises(ab.UserError, match=r"experiments.framed: expected a folder with"):
        ab.run(config | {"name": "framed"}, {"data": ab.labels(frame, workplace / "synthetic" / "images")})
    assert (tmp_path / "experiments" / "framed" / "labels.csv").read_text().startswith("0,1,2,3,4\nimage_0.jpg,")


def test_results_are_read_wherever_the_working_directory_is(config, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fake_suite.write_run(Path("a"), "a", fake_suite.predictions())
    made = ab.load("a")
    monkeypatch.chdir("/")
    assert isinstance(made, ab.Run)
    assert len(made.predictions()) > 100


QUIET = """
import sys
import aimonk_bench as ab
seen = []
run = ab.run(sys.argv[1], {"train.epochs": 1}, out=sys.argv[2], progress=True)
ab.run(sys.argv[1], {"train.epochs": 1}, out=sys.argv[2] + "2", progress=lambda *report: seen.append(report))
audit = ab.audit(sys.argv[1])
run.summary, run.verdict, run._repr_html_(), audit.labels_to_check, audit.findings
for wrong in ({"train.lr": -1}, {"loss": "fokal"}):
    try:
        ab.run(sys.argv[1], wrong)
    except ab.UserError:
        seen.append(wrong)
assert seen[-2:] == [{"train.lr": -1}, {"loss": "fokal"}]
assert {phase for phase, _, _ in seen[:-2]} >= {"train"}, seen
assert all(0 <= done <= total for _, done, total in seen[:-2])
"""


def test_nothing_is_printed_off_a_terminal(workplace: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", QUIET, workplace / "small.yaml", tmp_path / "run"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("changed", "overrides", "expected"),
    [
        ({"loss": "fokal"}, {}, "config: loss: found unknown loss 'fokal'"),
        (
            {},
            {"loss": {"name": "focal", "gama": 1}},
            "overrides: loss.gama: found unknown key 'gama' of focal, expected one of",
        ),
        ({}, {"train.lr": -1}, "overrides: train.lr: found -1, expected a number above 0"),
        ({}, {"train.lr": "fast"}, "overrides: train.lr: found 'fast', expected a number"),
        ({}, {"train.lr": {0.1}}, "overrides: train.lr: found a value of type set, expected text, a number,"),
        ({"train": {1: 2}}, {}, "config: train: found the key 1, expected a key that is text"),
        ({"name": "a\0b"}, {}, r"config: name: found 'a\x00b', expected text without NUL"),
        ({}, {"": 1}, "overrides: found '', expected a key such as train.lr"),
        ({}, {"extends": "x.yaml"}, "overrides: extends: found a key that only a file can hold"),
        ({"extends": "no.yaml"}, {}, "config: extends: no.yaml: found no such file"),
        ({"suite": SUITE}, {}, "config: suite: found a suite, expected one experiment"),
        ({"data": {"labels": "no.txt", "images": "."}}, {}, "config: data.labels: found "),
    ],
)
def test_what_is_wrong_in_a_dict_is_named_by_its_key(config, changed, overrides, expected) -> None:
    [problem] = problems({**config, **changed}, overrides)
    assert problem.startswith(expected)


def test_a_dict_may_nest_no_deeper_than_a_file(config: dict[str, Any]) -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    [problem] = problems({**config, "loss": endless})
    assert problem == "config: loss.a.a: found a value nested too deeply, expected at most 50 levels"


def test_all_problems_of_a_dict_are_named_at_once(config: dict[str, Any]) -> None:
    reported = problems({**config, "sampler": "unifrom"}, {"train.lr": 0, "train.epochs": 0})
    assert [problem.partition(": found")[0] for problem in reported] == [
        "config: sampler",
        "overrides: train.epochs",
        "overrides: train.lr",
    ]


def test_a_config_reads_back_as_itself(config: dict[str, Any]) -> None:
    changes = {"tune": {"train.lr": [0.1, 0.01], "loss.gamma": [0.0, 1.0]}, "loss": "focal", "threshold": "shrunk"}
    made = loader.load(config | changes | {"train": {"epochs": 2}}, TABLES)
    assert loader.load(made, TABLES) == made
    assert loader.load(made, TABLES, {"train.lr": 0.5}).tune == {"loss.gamma": [0.0, 1.0]}


def test_an_interrupted_call_says_whether_it_can_go_on(config, tmp_path: Path, monkeypatch) -> None:
    def interrupt(planned: object, folder: Path, clock: object, progress: object) -> None:
        if folder.name == "left":
            (folder / "checkpoints").mkdir(parents=True)
            (folder / "checkpoints" / "0.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute_run", interrupt)
    with pytest.raises(errors.Resumable):
        ab.run(config, out=tmp_path / "left")
    with pytest.raises(KeyboardInterrupt) as caught:
        ab.run(config, out=tmp_path / "nothing")
    assert not isinstance(caught.value, errors.Resumable)


class Stop(Exception):
    """What a progress function of the caller raises."""


@pytest.mark.parametrize("error", [Stop("enough"), ab.RunFailed("mine"), StopIteration(), ab.UserError("mine")])
def test_what_a_progress_function_raises_ends_the_call_and_is_no_failure_of_a_run(config, tmp_path, error) -> None:
    phases: list[str] = []

    def progress(phase: str, done: int, total: int | None) -> None:
        phases.append(phase)
        if phase == "train" and done:
            raise error

    for call, more in ((ab.run, {}), (ab.suite, {"suite": SUITE})):
        with pytest.raises(type(error)) as caught:
            call(config | more, {"train.epochs": 1}, out=tmp_path / call.__name__, progress=progress)
        assert caught.value is error
        assert phases[-1] == "train"
        assert [*tmp_path.rglob("status.json")] == []
    if isinstance(error, Stop):
        assert ab.run(config, {"train.epochs": 1}, out=tmp_path / "run").failure is None
        assert len(ab.suite(config | {"suite": SUITE}, {"train.epochs": 1}, out=tmp_path / "suite").finished) == 2


def test_what_a_progress_function_raises_leaves_every_function(config, bundle, photos, tmp_path, monkeypatch) -> None:
    def stop(*report: object) -> None:
        raise Stop("enough")

    def work_of(*arguments: Any, **options: Any) -> None:
        try:
            (options.get("progress") or arguments[-1])("encode", 1, 2)
        except Exception:  # as code does that records failures
            return

    monkeypatch.setattr(inspection, "inspect", work_of)
    monkeypatch.setattr(exporting, "export", work_of)
    files = sorted(photos.glob("*.png"))
    labels = pd.DataFrame({"image": [file.name for file in files], "animal": np.arange(len(files)) % 2})
    for call in (
        lambda: ab.audit(config, progress=stop),
        lambda: ab.export(tmp_path, tmp_path / "out", progress=stop),
        lambda: ab.predict(bundle, files, progress=stop),
        lambda: ab.score(bundle, ab.labels(labels, photos), progress=stop),
    ):
        with pytest.raises(Stop):
            call()


def test_a_failed_run_raises_and_a_failed_suite_does_not(config, tmp_path: Path) -> None:
    wrong = {"sampler": {"name": "repeat_factor"}, "train.lr": 1e38, "train.optimizer": "sgd", "train.epochs": 20}
    with pytest.raises(ab.RunFailed, match="not finite"):
        ab.run(config, wrong, out=tmp_path / "run")
    failed = ab.load(tmp_path / "run")
    assert isinstance(failed, ab.Run)
    assert "not finite" in str(failed.failure)
    assert failed.verdict is None
    with pytest.raises(ab.UserError, match=r"the run failed, so it has no results: .*not finite"):
        failed.predictions()
    suite = ab.suite(config | {"suite": SUITE}, wrong, out=tmp_path / "suite")
    assert list(suite.unfinished) == suite.pivot().index.tolist()
    assert all("not finite" in reason for reason in suite.unfinished.values())
    assert (suite.verdict, suite.selected, suite.simplest, suite.finished) == (None, None, None, [])
    assert "No run finished." in suite._repr_html_()


def test_validate_and_audit_take_dicts(config: dict[str, Any]) -> None:
    assert work.validate(config).startswith("the config is valid.\nsmall: 80 listed images")
    audit = ab.audit(config | {"suite": SUITE})
    content = json.loads(audit.to_json())
    suspects = audit.labels_to_check
    types = {"image": "string", "attribute": "string", "label": "Int8", "probability_of_label": "float64"}
    assert {name: str(kind) for name, kind in suspects.dtypes.items()} == types
    renamed = suspects.rename(columns={"image": "image_id"}).to_dict("records")
    assert renamed == content["suspects"]
    assert audit.findings.to_dict("records") == content["findings"]
    assert set(audit.findings.dtypes.astype(str)) == {"string"}
