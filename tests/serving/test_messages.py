"""What `export` refuses, and how it says so; nothing is written then."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_suite
import numpy as np
import pytest

import aimonk_bench as ab
from aimonk_bench.backbones import network
from aimonk_bench.cli import DONE, WRONG, main
from aimonk_bench.config.fields import BackboneConfig, Config, DataConfig, TrainConfig
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.records import run as runs
from aimonk_bench.records import weights
from aimonk_bench.serving import choice
from aimonk_bench.serving import export as exporting
from aimonk_bench.serving.export import Exported, export
from aimonk_bench.serving.heads import kind_of, tuned_seed
from aimonk_bench.suite import tasks


def config(freeze: str = "all", seeds: tuple[int, ...] = (0, 1, 2)) -> Config:
    data = DataConfig(labels=Path("/labels.txt"), images=Path("/images"))
    train, backbone = TrainConfig(seeds=list(seeds)), BackboneConfig(freeze=freeze)
    return Config(name="a", data=data, train=train, backbone=backbone)


@pytest.mark.parametrize(
    ("head", "folds", "freeze", "seeds", "expected"),
    [
        (None, 1, "all", (0, 1, 2), ("mean", (0, 1, 2))),
        (None, 5, "all", (0, 1, 2), ("refit", (0, 1, 2))),
        ("refit", 1, "all", (4, 2), ("refit", (4, 2))),
        (2, 1, "all", (4, 2), ("seed", (2,))),
        ("2", 1, "all", (4, 2), ("seed", (2,))),
        ("mean", 1, "all", (4, 2), ("mean", (4, 2))),
        (None, 1, "layer4", (7,), ("seed", (7,))),
        ("refit", 1, "layer4", (7, 8), ("refit", (7,))),
        (None, 3, "none", (7, 8), ("refit", (7,))),
        (8, 1, "none", (7, 8), ("seed", (8,))),
        (None, 1, "layer4", (3, 4), ("seed", (3,))),
    ],
)
def test_the_head_of_a_run(head: Any, folds: int, freeze: str, seeds: tuple[int, ...], expected: tuple[Any, ...]):
    assert kind_of(head, config(freeze, seeds), folds) == expected


@pytest.mark.parametrize(
    ("head", "folds", "freeze", "seeds", "words"),
    [
        (3, 1, "all", (0, 1, 2), ["head: found 3", "0, 1, 2"]),
        ("means", 1, "all", (0,), ["found means", "refit, mean"]),
        ("mean", 5, "all", (0,), ["found mean", "5 folds", "fix: refit"]),
        (0, 5, "all", (0,), ["found 0", "5 folds", "fix: refit"]),
        ("mean", 1, "layer4", (0, 1), ["found mean", "no mean", "0, 1", "refit"]),
    ],
)
def test_a_head_that_a_run_does_not_have(head: Any, folds: int, freeze: str, seeds: tuple[int, ...], words: list[str]):
    with pytest.raises(UserError) as refused:
        kind_of(head, config(freeze, seeds), folds)
    assert [word for word in words if word not in str(refused.value)] == []


def refused(*arguments: Any, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["export", *map(str, arguments)]) == WRONG
    return capsys.readouterr().err


def test_a_folder_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(tmp_path, "-o", tmp_path / "bundle", capsys=capsys)
    assert "expected a folder with suite.json or status.json" in message


def test_a_folder_that_is_not_empty(holdout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.txt").write_text("mine")
    message = refused(holdout, "-o", tmp_path, capsys=capsys)
    assert f"{tmp_path}: holds mine.txt" in message
    assert "fix: name another output folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("kind", ["to a file", "dangling", "to itself", "to a folder that is not empty"])
def test_a_link_that_is_no_empty_folder_is_refused_before_any_work(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(choice, "choose", lambda *_: 1 / 0)
    out, target = tmp_path / "bundle", tmp_path / "target"
    if kind == "to a file":
        target.touch()
    elif kind.startswith("to a folder"):
        target.mkdir()
        (target / "mine.txt").touch()
    out.symlink_to(out if kind == "to itself" else target)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"{out}: .*expected a.* folder"):
        export(tmp_path, out)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_to_an_empty_folder_and_an_empty_folder_are_filled(tmp_path: Path):
    """The folder itself stays, because it may be the working directory or a mount."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    number = (tmp_path / "target").stat().st_ino
    with exporting._written(exporting._target(tmp_path / "link"), tmp_path / "link") as partial:
        (partial / "README.md").write_text("card")
        assert partial.stat().st_dev == (tmp_path / "target").stat().st_dev
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["README.md"]
    assert (tmp_path / "target").stat().st_ino == number


def fail_in_a_bundle(folder: Path, error: BaseException, *, exists: bool) -> str:
    """Begin a bundle that ends by an error, of which nothing may be left: what is said."""
    out = folder / "bundle"
    if exists:
        out.mkdir()
    before = sorted(folder.rglob("*"))

    def fail() -> None:
        with exporting._written(exporting._target(out), out) as partial:
            (partial / "README.md").touch()
            raise error

    with pytest.raises((type(error), UserError)) as caught:
        fail()
    assert sorted(folder.rglob("*")) == before
    return f"{caught.type.__name__}: {caught.value}"


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_is_left_of_a_bundle_that_fails(exists: bool, tmp_path: Path):
    assert fail_in_a_bundle(tmp_path, KeyboardInterrupt(), exists=exists) == "KeyboardInterrupt: "


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=f"{tmp_path / 'b'}: cannot be written: .*Permission denied"):
        exporting._written(tmp_path / "b", tmp_path / "b").__enter__()


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_leaves_nothing_and_is_said(number: int, exists: bool, tmp_path: Path):
    printed = fail_in_a_bundle(tmp_path, OSError(number, os.strerror(number)), exists=exists)
    is_full = number != errno.EIO
    assert printed.startswith("UserError: " if is_full else "OSError: ")
    assert ("bundle: cannot be made, because a disk is full" in printed) == is_full


@pytest.mark.parametrize("which", ["selected", "simplest"])
def test_which_run_of_a_folder_of_one_run(
    which: Any, holdout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    message = refused(holdout, "-o", tmp_path / "b", "--which", which, capsys=capsys)
    assert f"which: found {which}, expected nothing, because {holdout} holds a single run" in message
    with pytest.raises(UserError, match=f"which: found {which}"):
        ab.export(holdout, tmp_path / "b", which=which)


def test_a_run_and_which_one_of_the_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(tmp_path, "-o", "b", "--run", "x", "--which", "selected", capsys=capsys)
    assert "run and which: found both" in message


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: one done, one failed, one not run."""
    folder = tmp_path_factory.mktemp("suite")
    done, failed, _ = fake_suite.write_suite(folder, ["focal", "hill", "asymmetric"])
    fake_suite.write_run(done, "focal", fake_suite.predictions())
    fake_suite.write_failed(failed, "hill", "loss is not finite at epoch 3")
    return folder


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("0-fokal", ["run: found '0-fokal'", "did you mean 0-focal?"]),
        ("nothing of the kind", ["0-focal, 1-hill, 2-asymmetric"]),
        ("1-hill", ["run 1-hill failed", "loss is not finite at epoch 3"]),
        ("2-asymmetric", ["run 2-asymmetric has not ended"]),
    ],
)
def test_a_run_that_cannot_be_exported(run: str, words: list[str], suite: Path):
    with pytest.raises(UserError) as refused:
        choice.choose(suite, run)
    assert [word for word in words if word not in str(refused.value)] == []


def test_a_suite_in_which_nothing_finished(tmp_path: Path):
    (folder, other) = fake_suite.write_suite(tmp_path, ["focal", "hill"])
    fake_suite.write_failed(folder, "focal", "no room")
    with pytest.raises(UserError) as refused:
        choice.choose(tmp_path)
    assert refused.value.problems[1:] == [
        f"run {folder.name} failed (no room)",
        f"run {other.name} has not ended; the command that began it goes on with it",
    ]


@pytest.fixture
def copied(holdout: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(holdout, tmp_path / "run"))


def test_a_run_without_its_heads(copied: Path, tmp_path: Path):
    (copied / weights.HEADS).unlink()
    with pytest.raises(UserError, match=r"heads\.safetensors.*fix: run the same command as before again"):
        export(copied, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_fails_without_training_fails_before_it(
    folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """And how long training will take is said before anything is encoded."""

    def unsupported(*_: object) -> None:
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr(tasks, "encode", lambda *_: 1 / 0)
    with monkeypatch.context() as patch:
        patch.setattr(network, "write_onnx", unsupported)
        with pytest.raises(RunFailed, match=r"cannot be exported to ONNX .*unsupported"):
            export(folds, tmp_path / "bundle")
    with caplog.at_level("INFO"), pytest.raises(ZeroDivisionError):
        export(folds, tmp_path / "bundle")
    assert "training again on all 80 images: 2 seeds, " in caplog.text
    assert "by the seconds of the run" in caplog.text
    assert not list(tmp_path.iterdir())


def test_the_default_of_fine_tuned_seeds_is_the_first_and_is_said(
    fine_tuned: Path, bundle_of: Callable[..., Exported], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("INFO"):
        made = bundle_of(fine_tuned)
    assert (made.head, made.seeds) == ("seed", (0,))
    assert "head: seed 0, the first, because networks that were fine-tuned have no mean" in caplog.text
    text = (made.folder / "README.md").read_text()
    assert "it is the first of the seeds 0, 1, because networks that were fine-tuned have no mean." in text
    assert "--head 0" in text


def test_other_pretrained_weights_than_those_of_the_run(copied: Path, tmp_path: Path):
    path = copied / runs.ENVIRONMENT
    path.write_text(path.read_text().replace(runs.read(copied).environment["weights"]["sha256"], "0" * 64))
    with pytest.raises(UserError, match=f"SHA-256 .*expected {'0' * 64}"):
        export(copied, tmp_path / "bundle")


def test_a_run_of_another_machine_whose_images_are_not_here(
    copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A head needs neither the images nor the device on which it was trained."""
    path = copied / runs.CONFIG
    text = path.read_text()
    assert "device: auto" in text
    path.write_text(text.replace("labels.txt", "gone.txt").replace("device: auto", "device: cuda:7"))
    made = export(copied, tmp_path / "bundle", head=0)
    assert "gone.txt" in caplog.text
    block, text = made.bundle.aimonk_bench, (made.folder / "README.md").read_text()
    assert (block["timm_transform"]["images"], block["head"]["compared"]) == (0, {"images": 0, "largest": None})
    assert "was not measured" in text
    assert "Whether the saved weights give the logits of the run was not checked" in text
    assert "cannot warn where it is scored on the images that it has learned from" in caplog.text
    assert made.bundle.training_images is None
    assert "does not say which images the weights have learned from" in text
    assert np.isfinite(list(made.bundle.thresholds.values())).all()


def test_notes_of_thresholds_stand_in_the_bundle(copied: Path, tmp_path: Path):
    path = copied / runs.THRESHOLDS
    content = json.loads(path.read_text())
    note = {"fold": 0, "attribute": "attr4", "reason": "no observed validation positive: pooled threshold used"}
    content["notes"] = [{**note, "seeds": [1]}, {**note, "attribute": "attr1", "seeds": [0, 2]}]
    path.write_text(json.dumps(content))
    chosen = choice.choose(copied)
    assert tuned_seed(chosen.record, chosen.config, 1).notes == [f"attr4: {note['reason']}"]
    assert tuned_seed(chosen.record, chosen.config, 0).notes == [f"attr1: {note['reason']}"]


def test_the_verb_says_what_was_written(holdout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "new" / "bundle"
    assert main(["export", str(holdout), "-o", str(out), "--head", "2"]) == DONE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"wrote {out}: run {runs.read(holdout).status.id}, head seed" in printed.err
    assert sorted(path.name for path in out.parent.iterdir()) == ["bundle"]
