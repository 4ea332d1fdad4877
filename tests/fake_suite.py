"""Suites on disk with made-up logits, for the tests of `records` and `reporting`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pandas as pd

from aimonk_bench import registry
from aimonk_bench.evaluation import scores, thresholds
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records import files, run, suite
from aimonk_bench.records.run import Complexity, Status
from aimonk_bench.records.weights import HeadWeights, write_heads

POLICY = registry.Spec("per_attribute_f1")
CONFIG = "name: fake\nthreshold: {name: per_attribute_f1}\n"
SIMPLE = Complexity(trained=0, trainings=1, features=1280, departures=0)
WEIGHTS = {
    "name": "tf_efficientnet_lite0",
    "requested": "resnet18",
    "source": "package",
    "file": "weights.pth",
    "sha256": "0" * 64,
    "licence": "apache-2.0",
    "non_commercial": False,
}
COST = {"parameters": 3_371_008, "macs": 383_907_552, "images_per_second": None}


def predictions(
    attributes: Sequence[str] = ("attr1", "attr2", "attr3", "attr4"),
    *,
    noise: int = 0,
    signal: float = 1.0,
    **made: Any,
) -> Predictions:
    """The same images and labels whatever ``signal`` and ``noise``; the other options are those of `oracles.arrays`."""
    prevalence = np.linspace(0.8, 0.2, len(attributes))
    return oracles.predictions(
        7, attributes=attributes, prevalence=prevalence.tolist(), noise=noise, signal=signal, **made
    )


def columns(loss: str = "masked_bce", sampler: str = "uniform") -> dict[str, str]:
    return {
        "backbone": WEIGHTS["name"],
        "weights": "imagenet",
        "loss": loss,
        "missing": "ignore",
        "sampler": sampler,
    }


def write_run(
    folder: Path,
    name: str,
    made: Predictions,
    *,
    run_columns: Mapping[str, str] | None = None,
    weights: Mapping[str, object] = WEIGHTS,
    cost: Mapping[str, object] | None = COST,
    n_listed: int = 60,
    revision: int | None = run.REVISION,
    policy: registry.Spec = POLICY,
) -> None:
    """A finished run with every file that the table reads."""
    run.begin(folder, f"name: fake\nthreshold: {json.dumps(policy.plain())}\n")
    environment = {"engine": "onnxruntime", "weights": weights} | ({} if cost is None else {"cost": cost})
    files.write_json(folder / run.ENVIRONMENT, environment)
    parts = [{"train": 30, "val": 10, "test": 20}] * made.folds
    data = {"n_listed": n_listed, "n_used": 60, "skipped": [], "folds": parts}
    files.write_json(folder / run.DATA, data)
    tuned = thresholds.tune(made, policy)
    made.save(folder / run.PREDICTIONS)
    weight = np.zeros((len(made.seed), made.folds, len(made.labels.attributes), 2), np.float32)
    write_heads(folder, HeadWeights(weight, weight[..., 0]))
    files.write_json(folder / run.THRESHOLDS, tuned.to_json())
    files.write_json(folder / run.METRICS, scores.score(made, tuned, policy).to_json())
    files.write_csv(folder / run.RELIABILITY, scores.reliability(made, "none"))
    epochs = {name: [1, 2] for name in ("iteration_number", "epoch")}
    history = {"seed": [0, 0], "fold": [0, 0], **epochs, "training_loss": [0.7, 0.6]}
    files.write_csv(folder / run.HISTORY, pd.DataFrame(history))
    seconds = {"encode": 0.5, "train": 1.25, "score": 0.1}
    made_by = Status(
        id=folder.name,
        state="done",
        seconds=seconds,
        reason=None,
        name=tuple(name.split(" + ")),
        columns=run_columns or columns(),
        complexity=SIMPLE,
        revision=revision,
    )
    run.end(folder, made_by)


def write_failed(folder: Path, name: str, reason: str) -> None:
    """A run that failed before it was trained."""
    run.begin(folder, CONFIG)
    run.end(folder, Status(folder.name, "failed", {"encode": 0.5}, reason, (name,), columns("hill")))


def write_suite(
    folder: Path, names: Sequence[str], baseline: int = 0, *, name: str = "comparison", skipped: Sequence[int] = ()
) -> list[Path]:
    """``suite.json`` for runs of these names; the folders of the runs are returned, yet to be written."""
    ids = [f"{i}-" + "".join(c if c.isalnum() else "-" for c in run_name)[:20] for i, run_name in enumerate(names)]
    parts = tuple(tuple(run_name.split(" + ")) for run_name in names)
    reasons = {ids[i]: "the weights cannot be had\ntried the hub" for i in skipped}
    record = suite.SuiteRecord(name, "f" * 64, ids[baseline], tuple(ids), parts, reasons)
    suite.write(folder, record)
    return [folder / suite.RUNS / run_id for run_id in ids]


LOSSES = ("masked_bce", "pos_weight", "focal(gamma=1.0)", "asymmetric", "class_balanced")
SAMPLERS = ("uniform", "repeat_factor", "class_aware")


def comparison(folder: Path, **made: Any) -> list[str]:
    """15 runs of 5 losses x 3 samplers: 13 done, one failed, one not run. Returns the names."""
    grid = [(loss, sampler) for loss in LOSSES for sampler in SAMPLERS]
    names = [f"{loss} + {sampler}" for loss, sampler in grid]
    folders = write_suite(folder, names)
    for i, (place, axis_values) in enumerate(zip(folders[:-2], grid, strict=False)):
        signal = 0.4 + (i * 5 % 13) / 13
        run_predictions = predictions(signal=signal, noise=i, **made)
        write_run(place, names[i], run_predictions, run_columns=columns(*axis_values))
    write_failed(folders[-2], names[-2], "loss is not finite at epoch 3")
    return names
