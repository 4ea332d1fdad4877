"""What the files of a run hold, put together from its plan, its data and its training; nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation import fairness, metrics
from aimonk_bench.evaluation.fairness import Training
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records import environment
from aimonk_bench.records.run import REVISION, Status
from aimonk_bench.suite.budgets import training_of, untuned
from aimonk_bench.suite.dataset import EncodedDataset, SplitLabels
from aimonk_bench.suite.plan import PlannedRun, complexity
from aimonk_bench.training.outcome import Trained
from aimonk_bench.training.recipe import absent_values


def predictions(trained: Trained, dataset: EncodedDataset, labels: SplitLabels, seeds: Sequence[int]) -> Predictions:
    """The logits of all folds as one table: a row per (fold, split, image), in label-file order within a part."""
    parts = [
        (number, part, getattr(fold, part)) for number, fold in enumerate(labels.folds) for part in ("val", "test")
    ]
    rows = np.concatenate([part_rows for _, _, part_rows in parts])
    sizes = [len(part_rows) for _, _, part_rows in parts]
    observed = np.concatenate([getattr(labels, part).observed[part_rows] for _, part, part_rows in parts])
    counts = [labels.train[fold.train].counts() for fold in labels.folds]  # positives and negatives [A]
    return Predictions(
        logits=np.concatenate([trained.logits[number][part] for number, part, _ in parts], axis=1),
        labels=Labels.of(dataset.labels.targets[rows], observed, dataset.labels.attributes),
        split=np.repeat([part for _, part, _ in parts], sizes),
        fold=np.repeat(np.array([number for number, _, _ in parts], np.int16), sizes),
        group=labels.groups[rows].astype(np.int32),
        image_id=np.array(dataset.listed.ids)[rows],
        seed=np.array(seeds, np.int64),
        train_positive=np.stack([positive for positive, _ in counts]).astype(np.int32),
        train_observed=np.stack([positive + negative for positive, negative in counts]).astype(np.int32),
        truth=None if dataset.truth is None else dataset.truth[rows],
    )


def data_json(planned: PlannedRun, dataset: EncodedDataset, labels: SplitLabels, trained: Trained) -> dict[str, Any]:
    """The content of ``data.json``."""
    attributes = dataset.labels.attributes
    doubts = [f"{finding.text} {finding.advice}" for finding in dataset.split_findings(planned.config.split)]
    positive, negative = dataset.labels.counts()
    observed = positive + negative
    drawn = trained.effective_positive_rate.reshape(-1, len(attributes)).T  # [A, heads]
    drawn_rate = metrics.macro(drawn, np.isfinite(drawn))  # over the heads that drew an observed label
    by_attribute = {
        "n_positive": positive,
        "n_observed": observed,
        "n_hidden": observed - labels.train.observed.sum(0),
        "prevalence": positive / np.where(observed, observed, np.nan),
        "sampled_prevalence": drawn_rate,
    }
    return {
        "n_listed": len(dataset.labels) + len(dataset.skipped),
        "n_used": len(dataset.labels),
        "skipped": [asdict(item) for item in dataset.skipped],
        "fingerprint": dataset.fingerprint,
        "folds": [{part: len(getattr(fold, part)) for part in ("train", "val", "test")} for fold in labels.folds],
        "views": planned.config.transform.views,
        "n_groups": len(np.unique(dataset.groups)),
        **{name: dict(zip(attributes, values, strict=True)) for name, values in by_attribute.items()},
        "chosen_epoch": trained.chosen_epoch,
        "tune": None if trained.tuning is None else asdict(trained.tuning),
        "training": asdict(_training(planned, trained)),
        "notes": [
            *dataset.listed.notes,
            *doubts,
            *absent_values(labels.train, labels.folds),
            *untuned(planned.config),
            *trained.notes,
        ],
        "signal": vars(dataset.association),
        "doubts": asdict(dataset.doubts(planned.config.split)),
    }


def _training(planned: PlannedRun, trained: Trained) -> Training:
    """How the heads were trained, what they chose, and whether they still improved at the end."""
    import pandas as pd

    history = pd.DataFrame({name: trained.history[name] for name in ("seed", "fold", "epoch", "val_average_precision")})
    by_epoch = history.groupby(["seed", "fold", "epoch"])["val_average_precision"].last().unstack("epoch")
    epochs, frozen = planned.config.train.epochs, planned.config.backbone.freeze == "all"
    validation = by_epoch.reindex(columns=range(1, epochs + 1)).to_numpy()
    # networks are often trained for an epoch or two on purpose
    judged = validation if frozen or epochs > 2 else validation[:0]
    gain, error = fairness.late_gain(judged)
    return replace(
        training_of(planned.config),
        ends={} if trained.tuning is None else trained.tuning.ends(),
        late_gain=gain,
        late_gain_se=error,
        late_share=fairness.late_share(judged),
        one_epoch=frozen and epochs == 1 and bool(np.isfinite(validation).any()),
    )


def environment_json(planned: PlannedRun, dataset: EncodedDataset) -> dict[str, Any]:
    """The content of ``environment.json``."""
    weights = planned.encoder.weights
    facts = {
        "name": weights.name,
        "requested": weights.requested,
        "source": weights.source,
        "file": weights.file and str(weights.file),
        "sha256": weights.sha256,
        "licence": weights.entry.licence,
        "non_commercial": weights.entry.non_commercial,
        "own_terms": weights.entry.own_terms,
        "freeze": planned.encoder.freeze,
    }
    assert planned.cost is not None  # the network of a run that is trained was tried
    cost = {**asdict(planned.cost), "images_per_second": dataset.pooled.images_per_second}
    device = pick_device(planned.config.train.device)
    plugins = [asdict(plugin) for plugin in planned.config.plugins]
    made_with = environment.environment(facts, cost, dataset.stored.engine, device)
    digests = {
        planned.encoder.digest,
        replace(planned.encoder, freeze="all").digest,
    }  # of stored and of pooled features
    return made_with | {"features": sorted(digests)} | ({"plugins": plugins} if plugins else {})


def status(
    planned: PlannedRun, seconds: Mapping[str, float], *, features: int | None = None, reason: str | None = None
) -> Status:
    """The content of ``status.json``.

    Args:
        seconds: phase -> seconds; a phase that the run did not reach is absent.
        features: D of a run that is done.
        reason: why the run failed; None if it is done.
    """
    return Status(
        id=planned.id,
        state="done" if reason is None else "failed",
        seconds={phase: round(elapsed, 3) for phase, elapsed in seconds.items()},
        reason=reason,
        name=planned.parts,
        columns=planned.columns,
        complexity=None if features is None else complexity(planned.config, features),
        revision=REVISION,
    )
