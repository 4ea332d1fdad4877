"""Work in threads: results in order, few items ahead, nothing left running."""

from __future__ import annotations

import threading
import time

import pytest

from aimonk_bench.backbones import threads
from aimonk_bench.backbones.threads import in_order


def test_results_come_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 4)

    def work(n: int) -> int:
        time.sleep(0.002 * (n % 3 == 0))  # later items are done before
        return n * n

    assert list(in_order(work, range(50))) == [n * n for n in range(50)]
    assert list(in_order(work, [])) == []


@pytest.mark.parametrize("cores", [1, 3])
def test_few_items_are_drawn_ahead(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: cores)
    drawn = []
    results = in_order(lambda n: n, (drawn.append(n) or n for n in range(1000)))  # type: ignore[func-returns-value]
    for n in range(100):
        assert next(results) == n
        assert len(drawn) <= n + 1 + 2 * cores + 1
    results.close()


def test_before_a_pause_every_result_is_handed_over() -> None:
    asked = threading.Event()

    def items():
        yield from (1, 2, None)
        asked.set()
        yield 3

    results = in_order(lambda n: n, items())
    assert [next(results), next(results)] == [1, 2]
    assert not asked.is_set()
    assert list(results) == [3]


def test_an_error_in_a_thread_is_raised_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    done = []

    def work(n: int) -> int:
        if n == 3:
            raise ZeroDivisionError
        done.append(n)
        return n

    results = in_order(work, range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(done) < 12  # those not begun are dropped
