"""`export` and `predict` as functions: what they hand to the serving room, and the table that comes back."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_suite
import numpy as np
import pytest
from PIL import Image

import aimonk_bench as ab

ATTRIBUTES = ("NA", "cat")


@dataclass(frozen=True)
class Prediction:
    """As `aimonk_bench.serving.predict` has it."""

    image: str
    error: str | None
    attributes: tuple[str, ...] = ATTRIBUTES

    @property
    def probabilities(self) -> np.ndarray:
        return np.full(2, np.nan) if self.error else np.array([0.25, 0.75])

    @property
    def decisions(self) -> np.ndarray:
        return np.asarray(self.probabilities > 0.5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for the serving room; holds what it was asked."""
    calls: list[dict[str, Any]] = []

    def predict(bundle: Path, images: Any, **options: Any) -> Iterator[Prediction]:
        images = list(images)
        calls.append({"bundle": bundle, "images": images, **options})
        options["progress"]("predict", len(images), len(images))
        yield from (Prediction(str(image), "damaged" if str(image) == "bad" else None) for image in images)

    def export(folder: Path, out: Path, **options: Any) -> str:
        calls.append({"folder": folder, "out": out, **options})
        return "exported"

    for name, function in (("predict", predict), ("export", export)):
        module = types.ModuleType(f"aimonk_bench.serving.{name}")
        setattr(module, name, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_predictions_are_a_table_of_exact_types(asked: list[dict[str, Any]]) -> None:
    table = ab.predict("bundle", ["a.jpg", "bad"], thresholds={"cat": 0.5}, batch=4)
    assert asked[0].items() >= {"bundle": Path("bundle"), "thresholds": {"cat": 0.5}, "batch": 4}.items()
    kinds = {"image": "string", "error": "string", "NA_probability": "float64", "NA_decision": "boolean"}
    kinds |= {"cat_probability": "float64", "cat_decision": "boolean"}
    assert {name: str(kind) for name, kind in table.dtypes.items()} == kinds
    assert table["cat_decision"].tolist()[0] is True
    assert table["NA_decision"].tolist()[0] is False
    assert table["error"].isna().tolist() == [True, False]
    assert table.iloc[1, 2:].isna().all()


@pytest.mark.parametrize(
    ("images", "count"),
    [
        ("a.jpg", 1),
        (Path("a.jpg"), 1),
        (np.zeros((4, 4, 3), np.uint8), 1),
        (Image.new("RGB", (4, 4)), 1),
        (["a.jpg", np.zeros((4, 4, 3), np.uint8)], 2),
        (np.zeros((3, 4, 4, 3), np.uint8), 3),
        ((path for path in ("a.jpg", "b.jpg")), 2),
        ([], 0),
    ],
)
def test_one_image_or_several_of_any_kind(images: Any, count: int, asked: list[dict[str, Any]]) -> None:
    reports: list[tuple[str, int, int]] = []
    assert len(ab.predict("bundle", images, progress=lambda *report: reports.append(report))) == count
    assert reports == [("predict", count, count)]


@pytest.mark.parametrize("form", [lambda suite: suite, lambda suite: suite.folder, lambda suite: str(suite.folder)])
def test_a_suite_a_run_or_a_folder_is_exported(form, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    fake_suite.comparison(tmp_path)
    suite = ab.Suite(tmp_path)
    assert ab.export(form(suite), "bundle", which="selected", head=3) == "exported"
    expected = {"folder": tmp_path, "out": Path("bundle"), "run": None, "which": "selected", "head": 3}
    assert asked[0].items() >= expected.items()
    ab.export(suite["0-masked-bce---uniform"], tmp_path / "b")
    assert asked[1]["folder"] == tmp_path / "runs" / "0-masked-bce---uniform"
