"""That the benchmarks still run; what they measure is not for a test."""

from __future__ import annotations

import torch
from benchmarks import rows, step, timing


def test_a_step_is_measured_beside_its_floor():
    threads = torch.get_num_threads()
    try:
        row = step.measured(1, 1)
    finally:
        torch.set_num_threads(threads)
    assert row["floor us"] > 0
    assert all(row[f"{loss} / floor"] > 1 for loss in step.LOSSES)  # the step does all of the floor, and more
    assert timing.markdown([{"a": 1, "b": 0.12345}]) == "| a | b |\n| --- | --- |\n| 1 | 0.123 |\n"


def test_training_on_stored_rows_is_measured(tmp_path):
    rows.write_store(tmp_path / "store", 300)
    found = rows.child(tmp_path / "store", 300, 2, "blocks", 1)
    assert found["anonymous MB"] >= found["start MB"] > 0
    assert found["seconds"] > 0
