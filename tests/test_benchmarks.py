"""That the benchmarks still run; what they measure is not for a test."""

from __future__ import annotations

import torch
from benchmarks import step, timing


def test_a_step_is_measured_beside_its_floor():
    threads = torch.get_num_threads()
    try:
        row = step.measured(1, 1)
    finally:
        torch.set_num_threads(threads)
    assert row["floor us"] > 0
    assert all(row[f"{loss} / floor"] > 1 for loss in step.LOSSES)  # the step does all of the floor, and more
    assert timing.markdown([{"a": 1, "b": 0.12345}]) == "| a | b |\n| --- | --- |\n| 1 | 0.123 |\n"
