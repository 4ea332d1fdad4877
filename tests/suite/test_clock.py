from __future__ import annotations

import contextlib

import pytest

from aimonk_bench.suite import clock as module
from aimonk_bench.suite.clock import Clock


@pytest.fixture
def time_at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that clocks read, in a list of one number."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_a_phase_inside_another_interrupts_it(time_at: list[float]) -> None:
    clock = Clock(began=97.0)
    for _ in range(2):
        with contextlib.suppress(KeyError), clock("files"):
            time_at[0] += 1
            with clock("plots"):
                time_at[0] += 10
                with clock("train"):
                    time_at[0] += 100
            with clock("plots"):
                time_at[0] += 1000
            raise KeyError
    time_at[0] += 0.5
    items = clock.itemised()
    assert list(items) == [*module.PHASES, "other", "total"]
    assert {phase: seconds for phase, seconds in items.items() if seconds} == {
        **{"start": 3, "files": 2, "plots": 2020, "train": 200},
        **{"other": 0.5, "total": 2225.5},
    }


def test_what_a_task_timed_itself_is_not_counted_twice(time_at: list[float]) -> None:
    clock = Clock()
    with clock("score"):
        time_at[0] += 10
        clock.add({"score": 6.0, "plots": 3.0})
    assert {phase: seconds for phase, seconds in clock.itemised().items() if seconds} == {
        **{"score": 7, "plots": 3, "total": 10}
    }
