"""The benchmark `scale` measures every stage and continues where it stopped; its page follows from what is measured."""

from __future__ import annotations

import numpy as np
import pytest

from aimonk_bench.data import label_file
from aimonk_bench.records import suite
from experiments.benchmarks import __main__ as command
from experiments.benchmarks import scale, scale_page, scale_stages
from experiments.benchmarks.scale_stages import CHAIN, STAGES, Case


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(120, 3, tmp_path_factory.mktemp("scale"))


@pytest.fixture(scope="module")
def measured(case):
    """All stages but `encoding`, which needs seconds to export its network."""
    return {name: scale_stages.measured(name, case) for name in STAGES if name != "encoding"}


def test_every_stage_is_measured(case, measured):
    assert all(row["wall_s"] > 0 and row["cpu_s"] >= 0 for row in measured.values())  # the kernel counts in ticks
    assert all(row["peak_mb"] > row["inputs_mb"] - 1 > 0 for row in measured.values())  # the kernel counts roughly
    assert measured["predictions"]["written_mb"] > 0
    collection = suite.collect(scale_stages.suite_folder(case))
    assert [record.status.name for record in collection.finished] == [("masked_bce", "uniform"), ("focal", "uniform")]
    assert "masked_bce" in (case.folder / "table.txt").read_text("utf-8")
    assert (case.folder / "report.html").stat().st_size > 10_000


def test_every_image_is_a_test_row_and_no_fold_cuts_a_group(case):
    folds, groups = case.folds(), case.groups()
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(case.rows))
    for fold in folds:
        assert len(fold.train) + len(fold.val) + len(fold.test) == case.rows
        assert sum(len(set(groups[part])) for part in (fold.train, fold.val, fold.test)) == len(set(groups))
    assert len(set(groups)) < case.rows


def test_the_label_file_has_the_labels(case, measured):
    listed = label_file.load(scale_stages.DataConfig(labels=case.folder / "labels.txt", images=case.folder))
    np.testing.assert_array_equal(listed.labels.observed, case.labels().observed)
    np.testing.assert_array_equal(listed.labels.targets, case.labels().targets)


def test_a_stage_is_measured_in_a_process_of_its_own_and_a_failure_is_recorded(tmp_path, capfd):
    row = scale.measure("fingerprint", 50, 3, tmp_path)
    assert (row["stage"], row["rows"], row["attributes"]) == ("fingerprint", 50, 3)
    assert row["peak_mb"] > row["start_mb"] > 0
    assert "fingerprint" in capfd.readouterr().out
    failed = scale.measure("report", 50, 3, tmp_path)
    assert "suite" in failed["failed"]
    assert "cpu_s" not in failed


def test_an_interrupted_benchmark_continues(tmp_path):
    path = tmp_path / "scale.csv"
    assert scale.pending(scale.read(path), 10, 3, ["parsing", *CHAIN]) == ["parsing", *CHAIN]
    for stage in ("statistics", "parsing", *CHAIN[:2]):
        scale.add(path, {"stage": stage, "rows": 10, "attributes": 3, "cpu_s": 1.0, "wall_s": 2.0})
    assert scale.pending(scale.read(path), 10, 3, ["parsing", *CHAIN]) == [*CHAIN]
    assert scale.pending(scale.read(path), 20, 3, ["parsing"]) == ["parsing"]
    scale.add(path, {"stage": "parsing", "rows": 10, "attributes": 3, "failed": "MemoryError"})
    results = scale.read(path)
    assert results["stage"].tolist() == ["parsing", "predictions", "thresholds", "statistics"]
    assert np.isnan(results["cpu_s"]).tolist() == [True, False, False, False]
    assert results["failed"].tolist() == ["MemoryError", "", "", ""]


@pytest.fixture
def results(tmp_path):
    """Measurements of stages that grow by known exponents."""
    path = tmp_path / "scale.csv"
    growth = {"parsing": 1.0, "splitting": 2.0, "encoding": 1.0, "training": 1.0, "predictions": 1.0, "scoring": 0.5}
    for stage, power in growth.items():
        for rows in (1_000, 10_000, 100_000):
            made = {"cpu_s": 1e-3 * rows**power / 10, "wall_s": 1.0, "start_mb": 100.0, "inputs_mb": 110.0}
            memory = {"peak_mb": 100.0 + rows / 100, "written_mb": rows / 500}
            scale.add(path, {"stage": stage, "rows": rows, "attributes": 4} | made | memory)
    scale.add(path, {"stage": "statistics", "rows": 1_000, "attributes": 4, "failed": "MemoryError"})
    return scale.read(path)


def test_exponents_and_extrapolations_follow_the_measurements(results):
    growth = scale_page.growths(results, 4)
    assert [round(one.time, 3) for one in growth.values()] == [1, 2, 1, 1, 1, 0.5]
    assert growth["splitting"].at(1e6) == pytest.approx((1e-4 * 1e12 / 3600, 10.0), rel=1e-3)
    assert growth["scoring"].at(1e6)[0] == pytest.approx(10 * 1e-4 * 1e5**0.5 / 3600, rel=1e-3)


def test_the_page_names_what_grows_too_fast_and_what_breaks(results, tmp_path):
    planned = [("parsing", 1_000, 4), ("report", 1_000, 4), ("parsing", 10**6, 4), ("report", 10**6, 4)]
    text = scale_page.text(results, planned)
    assert "Not measured yet: 1,000 x 4 (report); 1,000,000 x 4 (all stages)." in text
    assert "Faster than n log n: splitting; of these with over 10% of the suite: splitting." in text
    assert "| statistics | failed |" in text
    assert "parsing at 2.6e+07 rows" in text  # 256 GB at 10 kB a row
    assert "Time on one core, beside encoding and training: splitting with 277,777,778 hours" in text
    scale_page.draw(tmp_path / "scale.png", results)
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_accepts_the_benchmark():
    assert command.benchmark("scale")[1] == {"out", "quick"}
    assert set(command.ALONE).isdisjoint(command.NAMES)
