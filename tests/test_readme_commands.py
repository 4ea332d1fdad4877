"""The README's five commands from labels to predictions do what they say."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from aimonk_bench import cli
from aimonk_bench.data import synthetic

ROOT = Path(__file__).parent.parent


def test_from_labels_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "README.md").read_text("utf-8").split("## From labels to predictions in five commands")[1]
    commands = re.findall(r"^    aimonk-bench (.*)$", section.split("\n## ")[0], re.MULTILINE)
    assert len(commands) == 5
    synthetic.write(tmp_path, images=60, size=48, prevalences=(0.7, 0.6, 0.5, 0.4))
    (tmp_path / "truth.csv").unlink()
    shutil.copytree(tmp_path / "images", tmp_path / "new_images")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert cli.main(shlex.split(command)) == 0, command
    predicted = pd.read_csv("predictions.csv")
    names = [line.split()[0] for line in (tmp_path / "labels.txt").read_text().splitlines()]
    assert sorted(Path(image).name for image in predicted["image"]) == sorted(names)
    assert predicted["error"].isna().all()
    decisions = [f"attr{number}_decision" for number in range(1, 5)]
    assert predicted[decisions].isin([True, False]).all(axis=None)
