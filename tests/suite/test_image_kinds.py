"""Images of every kind through the command line: what is read, what is refused, and what is printed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from tiff_files import tiff

from aimonk_bench import cli

RUN = """\
data: {labels: labels.csv, images: pics}
split: {scheme: holdout, val: 0.25, test: 0.25}
backbone: {name: resnet18, weights: none, engine: torch}
transform: {size: 32, train: []}
train: {epochs: 1, seeds: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve 8-bit images, their labels, and a config."""
    (tmp_path / "pics").mkdir()
    rng = np.random.default_rng(0)
    for n in range(12):
        cv2.imwrite(str(tmp_path / "pics" / f"{n}.png"), rng.integers(0, 256, (32, 32, 3)).astype(np.uint8))
    (tmp_path / "labels.csv").write_text("image,x\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(12)))
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def run(folder: Path, out: str, *sets: str) -> int:
    sets = tuple(part for item in sets for part in ("--set", item))
    return cli.main(["run", str(folder / "run.yaml"), *sets, "--out", str(folder / out)])


def test_one_white_for_the_data_set_is_part_of_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "eight") == 0
    config = yaml.safe_load((folder / "eight" / "config.yaml").read_text())
    assert config["data"]["white"] is None
    for n in range(6):
        pixels = np.random.default_rng(n).integers(0, 1000, (32, 32)).astype(np.uint16)
        pixels[0, 0] = 1030 if n % 2 else 1020
        cv2.imwrite(str(folder / "pics" / f"{n}.png"), pixels)
    capsys.readouterr()
    assert run(folder, "deep") == 0
    assert "data.white: 4095" in capsys.readouterr().err
    config = yaml.safe_load((folder / "deep" / "config.yaml").read_text())
    assert config["data"]["white"] == 4095
    ids = [json.loads((folder / name / "status.json").read_text())["id"] for name in ("eight", "deep")]
    assert run(folder, "stated", "data.white=4095") == 0
    ids.append(json.loads((folder / "stated" / "status.json").read_text())["id"])
    assert run(folder, "brighter", "data.white=65535") == 0
    ids.append(json.loads((folder / "brighter" / "status.json").read_text())["id"])
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3
    capsys.readouterr()
    assert run(folder, "dark", "data.white=1023") == 2
    errors = capsys.readouterr().err
    assert "labels.csv:3: image 1.png cannot be decoded: the value 1030 is above data.white" in errors
    assert "write under data: `on_bad_image: skip`" in errors
    assert cli.main(["run", str(folder / "deep" / "config.yaml"), "--out", str(folder / "deep")]) == 0
    assert "already done" in capsys.readouterr().err


def test_a_white_that_nothing_needs_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "none", "data.white=4095") == 2
    assert "data.white: found 4095" in capsys.readouterr().err


def test_files_that_are_no_images_are_one_problem_for_each_kind(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(8):
        (folder / "pics" / f"{n}.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:%d" % n)
    (folder / "pics" / "8.png").write_bytes(b"<html>404</html>")
    assert run(folder, "error") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "cannot be decoded" in line]
    assert len(lines) == 2
    assert "labels.csv:2: image 0.png cannot be decoded: a Git LFS pointer" in lines[0]
    assert "git lfs pull" in lines[0]
    assert "7 further images, such as line 3 (1.png)" in lines[0]
    assert "labels.csv:10: image 8.png cannot be decoded: an HTML page" in lines[1]


def test_only_our_lines_reach_stderr(folder: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((32, 32), 50).save(file, "JPEG")
    data = file.getvalue()
    for n in range(6):
        (folder / "pics" / f"{n}.png").write_bytes(data[:-2] + bytes([n + 1] * 9) + data[-2:])
    command = [sys.executable, "-m", "aimonk_bench", "run", str(folder / "run.yaml"), "--out", str(folder / "out")]
    environment = {**os.environ, "AIMONK_BENCH_CACHE": str(folder / "store")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    noise = [line for line in done.stderr.splitlines() if "Corrupt JPEG" in line]
    assert len(noise) == 1
    assert noise[0].startswith("warning: ")
    assert ".png: Corrupt JPEG data" in noise[0]
    assert "6 such messages" in noise[0]


def test_a_fourth_band_is_said_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:

    rng = np.random.default_rng(0)
    for n in range(4):
        (folder / "pics" / f"{n}.png").write_bytes(tiff(rng.integers(0, 256, (32, 32, 4)).astype(np.uint8)))
    assert run(folder, "bands") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "fourth band" in line]
    assert len(lines) == 1
    assert "4 such messages" in lines[0]
