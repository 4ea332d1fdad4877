"""`export`, `predict` and `score` as functions: what they take, and the tables that come back."""

from __future__ import annotations

import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import bundles
import fake_suite
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import aimonk_bench as ab
from aimonk_bench.serving.predict import predict

COLUMNS = ["image", "error", *(f"{name}_{what}" for name in bundles.NAMES for what in ("probability", "decision"))]
KINDS = ["string", "string", *["float64", "boolean"] * 3]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for the export; holds what it was asked."""
    calls: list[dict[str, Any]] = []

    def export(folder: Path, out: Path, **options: Any) -> str:
        calls.append({"folder": folder, "out": out, **options})
        return "exported"

    module = types.ModuleType("aimonk_bench.serving.export")
    module.export = export  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_predictions_are_a_table_of_exact_types(bundle: Path, photos: Path) -> None:
    files = [photos / "00.png", photos / "absent.png", photos / "01.png"]
    table = ab.predict(bundle, files, thresholds={"NA": 0.0}, batch=2)
    made = [*predict(bundle, files, thresholds={"NA": 0.0})]
    assert (list(table), [str(kind) for kind in table.dtypes]) == (COLUMNS, KINDS)
    assert table["image"].tolist() == [*map(str, files)]
    assert table["error"].fillna("").tolist() == ["", "missing", ""]
    assert table.iloc[1, 2:].isna().all()
    for row in (0, 2):
        np.testing.assert_allclose(table.iloc[row, 2::2].astype(float), made[row].probabilities, atol=1e-6)
        assert table.iloc[row, 3::2].tolist() == made[row].decisions.tolist()
    assert table["NA_decision"].tolist() == [True, pd.NA, True]


def test_a_file_whose_name_is_not_utf_8(bundle: Path, photos: Path, tmp_path: Path) -> None:
    file = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    shutil.copy(photos / "00.png", file)
    table = ab.predict(bundle, [file])
    assert table["error"].isna().all()
    assert table["image"][0].endswith(r"caf\udce9.png")
    assert r"caf\udce9.png" in table.to_csv().encode().decode()
    assert table._repr_html_().encode()


def test_no_images_are_a_table_of_the_same_columns(bundle: Path) -> None:
    table = ab.predict(bundle, [])
    assert (list(table), [str(kind) for kind in table.dtypes], len(table)) == (COLUMNS, KINDS, 0)


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
        (pd.Series(["a.jpg", "b.jpg"]), 2),
        ([], 0),
    ],
)
def test_one_image_or_several_of_any_kind(images: Any, count: int, bundle: Path) -> None:
    reports: list[tuple[str, int, int | None]] = []
    assert len(ab.predict(bundle, images, progress=lambda *report: reports.append(report))) == count
    assert {done for _, done, _ in reports} == {*range(1, count + 1)}


def labels_of(photos: Path) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    names = sorted(path.name for path in photos.glob("*.png"))
    return pd.DataFrame({"image": names, **{name: rng.integers(0, 2, len(names)) for name in bundles.NAMES}})


def test_scores_of_a_file_a_frame_a_dict_and_a_yaml_are_the_same(bundle: Path, photos: Path, tmp_path: Path) -> None:
    frame = labels_of(photos)
    frame.to_csv(tmp_path / "new.csv", index=False)
    (tmp_path / "new.yaml").write_text(f"data: {{labels: new.csv, images: {photos}}}\n")
    section = {"data": {"labels": str(tmp_path / "new.csv"), "images": "elsewhere"}}
    scores = ab.score(bundle, tmp_path / "new.csv", photos)
    figures = scores.figures
    assert figures["attribute"].tolist() == [*bundles.NAMES, "macro"]
    assert {"f1", "f1_low", "f1_high", "roc_auc_high", "all_positive_f1"} <= {*figures}
    assert set(figures.drop(columns=["attribute", "n_observed", "n_positive"]).dtypes.astype(str)) == {"float64"}
    for labels, images in ((ab.labels(frame, photos), None), (section, photos), (str(tmp_path / "new.yaml"), None)):
        pd.testing.assert_frame_equal(ab.score(bundle, labels, images).figures, figures)
    other = ab.score(bundle, tmp_path / "new.csv", photos, thresholds=["animal=1"], batch=3).figures
    assert other["recall"][0] == 0
    assert other["roc_auc"].equals(figures["roc_auc"])
    assert scores.skipped.dtypes.astype(str).to_dict() == {"image": "string", "line": "int64", "reason": "string"}
    assert "macro" in scores._repr_html_()
    absent = ab.score(bundle, ab.labels(pd.concat([frame, frame.head(1).assign(image="x.png")]), photos))
    assert absent.skipped.to_numpy().tolist() == [["x.png", 42, "missing"]]


@pytest.mark.parametrize("form", [lambda suite: suite, lambda suite: suite.folder, lambda suite: str(suite.folder)])
def test_a_suite_a_run_or_a_folder_is_exported(form, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    fake_suite.comparison(tmp_path)
    suite = ab.Suite(tmp_path)
    assert ab.export(form(suite), "bundle", which="selected", head=3) == "exported"
    expected = {"folder": tmp_path, "out": Path("bundle"), "run": None, "which": "selected", "head": 3}
    assert asked[0].items() >= expected.items()
    ab.export(suite["0-masked-bce---uniform"], tmp_path / "b")
    assert asked[1]["folder"] == tmp_path / "runs" / "0-masked-bce---uniform"
