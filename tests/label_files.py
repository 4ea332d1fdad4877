"""Short ways to write a label file, to load it, and to read its problems."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data import label_file
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.errors import UserError


def config(file: Path, **options: Any) -> DataConfig:
    return DataConfig(labels=file, **{"images": file.parent, "on_bad_image": "skip", **options})


def read(folder: Path, content: str | bytes, name: str = "labels.txt", **options: Any) -> LabelFile:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return label_file.load(config(file, **options))


def problems(folder: Path, content: str | bytes, name: str = "labels.txt", **options: Any) -> list[str]:
    """The problems of a file without the folder: ``labels.txt:1: ...``."""
    with pytest.raises(UserError) as caught:
        read(folder, content, name, **options)
    assert caught.value.limit in (None, 20)
    return [problem.removeprefix(f"{folder}{os.sep}") for problem in caught.value.problems]


def states(labels: Labels) -> list[list[int | None]]:
    """Target, or None where it is not observed, [N][A]."""
    rows = zip(labels.targets.tolist(), labels.observed.tolist(), strict=True)
    return [[target if seen else None for target, seen in zip(*row, strict=True)] for row in rows]
