"""A hundred points of a sweep as stacked heads against one of them: 5 learning rates x 5 decays x 4 gammas of focal.

D 512, B 16, A 4, one seed, a hold-out, ten epochs; `train_heads` from start to end, validation of every epoch
included. That each head equals its separate run is a test (`tests/training/test_trainer.py`).
"""

from __future__ import annotations

from pathlib import Path

from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.registry import Spec
from aimonk_bench.training.heads_trainer import train_heads
from aimonk_bench.training.recipe import Recipe
from experiments.benchmarks.step import BATCH, problem
from experiments.benchmarks.timing import Conditions, Panel, bars, interleaved, write

TARGET = 12.0
GRID = {
    "train.lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    "train.weight_decay": [0.0, 1e-5, 1e-4, 1e-3, 1e-2],
    "loss.gamma": [0.5, 1.0, 2.0, 3.0],
}


def main(out: Path, quick: bool = False) -> None:
    """Write sweep.json, sweep.md and sweep.png."""
    conditions = Conditions.now()
    matrix, index, data = problem(1)
    train = TrainConfig(seeds=[0], batch_size=BATCH, epochs=1 if quick else 10, optimizer=Spec("adamw"))
    entries = Spec("focal", {"gamma": 2.0, "alpha": 0.25}), Spec("ignore"), Spec("uniform")

    def trained(grid: dict[str, list[float]]) -> None:
        train_heads(matrix, index, data, Recipe(train, *entries, grid))

    cases = {"one point": lambda: trained({}), "100 points": lambda: trained(GRID)}
    seconds = interleaved(cases, 1 if quick else 5)
    ratio = seconds["100 points"] / seconds["one point"]
    rows = [{"case": name, "seconds": own, "x one point": own / seconds["one point"]} for name, own in seconds.items()]
    found = [{"figure": "100 points / one", "found": ratio, "target": f"at most {TARGET:g}", "met": ratio <= TARGET}]
    write(out, "sweep", __doc__ or "", {"Training": rows, "Target": found}, conditions)
    panel = Panel("training, times one point", "x one point", {row["case"]: row["x one point"] for row in rows}, TARGET)
    bars(out / "sweep.png", "A 100-point sweep as one stacked run", [panel])
