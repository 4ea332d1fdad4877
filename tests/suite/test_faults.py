"""Whatever operation on files fails, and wherever the process is killed: a plain second run makes everything whole.

    AIMONK_BENCH_FULL=1 .venv/bin/python -m pytest -s tests/suite/test_faults.py

tries every kind of failure at every operation, each write included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_files import KINDS

FULL = bool(os.environ.get("AIMONK_BENCH_FULL"))
SUITE = """\
extends: small.yaml
backbone: {name: test_resnet, weights: none, engine: torch}
transform: {train: []}
train: {epochs: 1, seeds: 1}
run: {executor: serial}
suite: {baseline: {loss: masked_bce}, axes: {loss: [masked_bce, hill]}}
"""


@pytest.fixture(scope="module")
def tiny(workplace: Path) -> Path:
    """A suite of two runs that takes half a second."""
    (workplace / "tiny.yaml").write_text(SUITE)
    return workplace / "tiny.yaml"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs fork and /proc")
def test_after_a_failure_of_any_operation_a_second_run_is_whole(tiny: Path) -> None:
    program = Path(__file__).with_name("fault_runs.py")
    words = [sys.executable, program, tiny, *(["--full"] if FULL else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [outcome for outcome in outcomes if outcome["problems"]]
    assert wrong == []
    count = max(outcome["at"] for outcome in outcomes)
    print(f"{count} operations on files, {len(outcomes)} failures of {', '.join(KINDS)}")
    assert count > 100
    assert {outcome["at"] for outcome in outcomes} == set(range(1, count + 1))
    assert {outcome["code"] for outcome in outcomes} == {-9, 0, 1, 2, 3}
