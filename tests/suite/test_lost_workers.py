"""A suite some of whose runs end their worker, hang, or need more memory than there is: the others finish."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from small_suite import rows_of, statuses

from aimonk_bench import cli

PLUGIN = '''\
"""Losses that no suite should ever see."""

import resource
import signal
import time

from aimonk_bench.training.losses import masked_bce


def crash(logits, targets):
    """End the process as a fault in a library does."""
    signal.raise_signal(signal.SIGSEGV)  # in this thread, which goes no further
    return masked_bce(logits, targets)


def hang(logits, targets):
    """Never come back."""
    time.sleep(600)
    return masked_bce(logits, targets)


def hungry(logits, targets):
    """Need more memory than there is."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (8 << 30), limit[1]))
    try:
        return masked_bce(logits.new_zeros(1 << 33), targets)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


LOSSES = {"crash": crash, "hang": hang, "hungry": hungry}
'''
SUITE = """\
extends: small.yaml
plugins: [bad_losses.py]
tune: {}
run: {workers: 2, timeout: 10, retries: 0}
suite: {baseline: {loss: masked_bce}, axes: {loss: [masked_bce, crash, hang, hungry, focal]}}
"""


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the losses are for Linux")
@pytest.mark.parametrize(
    ("executor", "worker", "crashed"),
    [
        ("processes", "worker process", "was ended by SIGSEGV"),
        pytest.param("ray", "Ray worker", "ended; Ray says: The actor is dead because", marks=needs_ray),
    ],
)
def test_three_runs_fail_with_their_reasons_and_the_others_finish(
    executor: str,
    worker: str,
    crashed: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (workplace / "bad_losses.py").write_text(PLUGIN)
    (workplace / "bad.yaml").write_text(SUITE)
    out = workplace / f"lost-{executor}"
    words = ["suite", str(workplace / "bad.yaml"), "--out", str(out), "--allow-plugins", "--executor", executor]
    assert cli.main(words) == 3
    reasons = {status["columns"]["loss"]: status["reason"] for status in statuses(out)}
    assert reasons["masked_bce"] is None
    assert re.match(r"focal", next(loss for loss, reason in reasons.items() if reason is None and loss != "masked_bce"))
    assert reasons["crash"].startswith(f"its {worker} {crashed}")
    assert reasons["hang"] == f"its {worker} took longer than run.timeout, 10 s"
    assert "memory" in reasons["hungry"]
    assert {row["state"] for row in rows_of(out / "summary.csv")} == {"done", "failed"}
    printed = capsys.readouterr()
    assert all(loss in printed.out for loss in reasons)
