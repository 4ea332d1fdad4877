"""What lies in the feature store: shown, verified, removed by experiment, age and size."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from aimonk_bench import cli
from aimonk_bench.api import store as api
from aimonk_bench.backbones import store
from aimonk_bench.backbones.feature_table import open_table
from aimonk_bench.errors import UserError
from aimonk_bench.records import claims

OLD, MIDDLE, NEW = "a" * 64, "b" * 64, "c" * 64
DAYS = {OLD: 40.0, MIDDLE: 10.0, NEW: 0.0}
WIDTH = 256


def encode(root: Path, digest: str, images: int) -> Path:
    """A folder with two views of each image, in blocks of ten rows, last used `DAYS` ago."""
    folder = root / "features" / digest
    folder.mkdir(parents=True)
    identity = {"network": "resnet18, timm 1", "boundary": "global pooling", "size": 224, "dtype": "float32"}
    record = {"identity": identity, "engine": "torch", "features": WIDTH, "parity": None, "reason": None}
    (folder / "encoder.json").write_text(json.dumps(record))
    names = [(f"{image:064}", view) for image in range(images) for view in ("", "flip")]
    with open_table(folder, "float32") as table:
        for start in range(0, len(names), 10):
            part = names[start : start + 10]
            table.append(part, np.full((len(part), WIDTH), start, np.float32))
    used = time.time() - 86_400 * DAYS[digest]
    os.utime(folder, (used, used))
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / "store"))
    for digest, images in ((MIDDLE, 30), (NEW, 10), (OLD, 20)):
        encode(tmp_path / "store", digest, images)
    (tmp_path / "store" / "features" / "unused").mkdir()  # nothing was encoded there yet
    return tmp_path / "store"


def left(root: Path) -> set[str]:
    return {encoder.digest for encoder in store.encoders(root)}


def test_the_store_is_shown_the_last_used_first(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = api.show()
    assert table["digest"].tolist() == [NEW, MIDDLE, OLD]
    assert table["images"].tolist() == [10, 30, 20]
    assert table["rows"].tolist() == [20, 60, 40]
    np.testing.assert_allclose(table["days"], [0, 10, 40], atol=0.01)
    for digest, size in zip(table["digest"], table["bytes"], strict=True):
        assert size == sum(file.stat().st_size for file in (root / "features" / digest).iterdir())
    assert cli.main(["cache", "show"]) == 0
    assert "resnet18" in capsys.readouterr().out


def test_damage_is_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "verify"]) == 0
    with (root / "features" / MIDDLE / "rows.f32").open("r+b") as file:
        file.seek(25 * WIDTH * 4)  # in the third block
        file.write(b"\x01")
    os.truncate(root / "features" / OLD / "rows.f32", 15 * WIDTH * 4)
    table = api.verify().set_index("digest")
    assert table["damaged"].to_dict() == {NEW: 0, MIDDLE: 1, OLD: 3}
    assert table["blocks"].to_dict() == {NEW: 2, MIDDLE: 6, OLD: 4}
    assert cli.main(["cache", "verify"]) == 1
    assert "1 of 6" in capsys.readouterr().out


def test_a_damaged_export_counts_as_a_block(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, content = root / "features" / MIDDLE, b"a network"
    record = json.loads((folder / "encoder.json").read_text())
    record |= {"engine": "onnxruntime", "model_sha256": hashlib.sha256(content).hexdigest()}
    (folder / "encoder.json").write_text(json.dumps(record))
    assert store.damage(root, MIDDLE) == (0, 6)
    (folder / "model.onnx").write_bytes(content)
    assert store.damage(root, MIDDLE) == (0, 7)
    (folder / "model.onnx").write_bytes(b"a natwork")
    assert store.damage(root, MIDDLE) == (1, 7)
    assert cli.main(["cache", "verify"]) == 1
    assert "1 of 7" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["encoder.json", "index.sqlite"])
def test_a_damaged_encoder_is_shown_and_removed(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_damaged(root / "features" / MIDDLE / name, b"\xff" * 4096, root, capsys)


@pytest.mark.parametrize("is_empty", [True, False])
def test_rows_whose_index_is_lost_are_shown_as_damaged(
    is_empty: bool, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = root / "features" / MIDDLE / "index.sqlite"
    index.unlink()
    if is_empty:
        index.touch()
    assert api.show().set_index("digest").loc[MIDDLE, "network"] == "damaged"
    assert store.damage(root, MIDDLE) is None
    assert cli.main(["cache", "verify"]) == 1
    assert index.exists() == is_empty


def test_a_store_that_is_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / "file"))
    assert cli.main(["cache", "show"]) == cli.main(["cache", "verify"]) == 2
    assert "is no folder; AIMONK_BENCH_CACHE names another place" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"boundary": None}, {"size": None}, {"size": "large"}, {"dtype": None}, {"dtype": "int4"}]
)
def test_a_record_that_lacks_what_is_shown_is_damaged(
    change: dict[str, object], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "features" / MIDDLE / "encoder.json"
    record = json.loads(file.read_text())
    record["identity"] = {key: value for key, value in (record["identity"] | change).items() if value is not None}
    check_damaged(file, json.dumps(record).encode(), root, capsys)


def check_damaged(file: Path, content: bytes, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With this content, the encoder `MIDDLE` is shown as damaged, and is removed."""
    file.write_bytes(content)
    shown = api.show().set_index("digest")
    assert shown.loc[MIDDLE, "network"] == "damaged"
    assert shown["rows"].isna().to_dict() == {NEW: False, MIDDLE: True, OLD: False}
    assert api.verify().set_index("digest")["damaged"].isna().to_dict() == {NEW: False, MIDDLE: True, OLD: False}
    assert cli.main(["cache", "verify"]) == 1
    assert "all" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged"))
    assert cli.main(["cache", "clear", "--unused-days", "5"]) == 0
    assert left(root) == {NEW}


@pytest.mark.parametrize(
    ("words", "removed"),
    [
        (["--all"], {OLD, MIDDLE, NEW}),
        (["--unused-days", "5"], {OLD, MIDDLE}),
        (["--to-gigabytes", "0.0001"], {OLD, MIDDLE}),
        (["--to-gigabytes", "1"], set()),
        (["--unused-days", "30", "--to-gigabytes", "0"], {OLD}),
        (["experiment"], {NEW, MIDDLE}),
        (["experiment", "--unused-days", "5"], {MIDDLE}),
    ],
)
def test_features_are_removed_by_experiment_age_and_size(
    words: list[str], removed: set[str], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "experiment" / "runs" / "one"
    run.mkdir(parents=True)
    (run / "environment.json").write_text(json.dumps({"features": [NEW, MIDDLE]}))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cache", "clear", *words]) == 0
    assert left(root) == {OLD, MIDDLE, NEW} - removed


def test_what_cannot_be_removed_is_said(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "clear"]) == 2
    assert cli.main(["cache", "clear", "--all", "--unused-days", "1"]) == 2
    assert cli.main(["cache", "clear", str(tmp_path)]) == 2
    assert "found no run that says which features it used" in capsys.readouterr().err
    with (
        claims.hold(claims.of_folder(root / "features" / OLD), "encodes"),
        pytest.raises(UserError, match=rf"process {os.getpid()} on .* is encoding there"),
    ):
        api.clear(everything=True)
    assert OLD in left(root)
    api.clear(everything=True)
    assert not left(root)
    assert [path.name for path in root.iterdir()] == ["features"]
