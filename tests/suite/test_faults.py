"""Whatever operation on files fails, and whatever is killed when: plain runs afterwards make everything whole.

    AIMONK_BENCH_FULL=1 .venv/bin/python -m pytest -s tests/suite/test_faults.py

tries every kind of failure at every operation, each write included, and kills 50 times under every executor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faulty_files import KINDS

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs fork and /proc")
FULL = bool(os.environ.get("AIMONK_BENCH_FULL"))
SUITE = """\
extends: small.yaml
data: {labels: few.txt}
backbone: {name: test_resnet, weights: none, engine: torch}
transform: {train: []}
train: {epochs: 1, seeds: 1}
run: {executor: serial}
suite: {baseline: {loss: masked_bce}, axes: {loss: [masked_bce]}}
"""
# With several runs, also of a network that is fine-tuned and stored, so that there are checkpoints.
FULL_SUITE = (
    SUITE.replace("seeds: 1}", "seeds: 1, keep_weights: true}")
    .replace("baseline: {", "baseline: {backbone.freeze: all, ")
    .replace("axes: {loss: [masked_bce]", "axes: {backbone.freeze: [all, layer4], loss: [masked_bce, hill]")
)


@pytest.fixture(scope="module")
def tiny(workplace: Path) -> Path:
    """A small suite; a run takes half a second."""
    lines = (workplace / "synthetic" / "labels.txt").read_text().splitlines(keepends=True)
    (workplace / "few.txt").write_text("".join(lines[:28]))
    (workplace / "tiny.yaml").write_text(FULL_SUITE if FULL else SUITE)
    return workplace / "tiny.yaml"


def printed(what: str, config: Path, *options: str) -> list[dict[str, Any]]:
    """What the program `fault_runs` found."""
    words = [sys.executable, str(Path(__file__).with_name("fault_runs.py")), what, str(config), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_after_a_failure_of_any_operation_a_second_run_is_whole(tiny: Path) -> None:
    outcomes = printed("operations", tiny, *(["--full"] if FULL else []))
    assert [outcome for outcome in outcomes if outcome["problems"]] == []
    count = max(outcome["at"] for outcome in outcomes)
    print(f"{count} operations on files, {len(outcomes)} failures of {', '.join(KINDS)}")
    assert count > 60
    assert {outcome["at"] for outcome in outcomes} == set(range(1, count + 1))
    assert {outcome["code"] for outcome in outcomes} == {-9, 0, 1, 2, 3}  # 3: also where no summary can be written


@pytest.mark.parametrize("executor", ["serial", "processes", "ray"] if FULL else ["serial"])
def test_kills_at_random_moments_lose_nothing(tiny: Path, executor: str) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    seed, number = (int.from_bytes(os.urandom(4)), 50) if FULL else (0, 1)
    print(f"{executor}: seed {seed}")
    options = ["--executor", executor, "--number", str(number), "--seed", str(seed)]
    outcomes = printed("kills", tiny, *options)
    assert [outcome for outcome in outcomes if outcome["problems"]] == []
    assert len([outcome for outcome in outcomes if outcome["killed"]]) == number
