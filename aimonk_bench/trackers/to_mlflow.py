"""Finished work in MLflow: a run of MLflow for each run, below one for the suite; logged again they are updated."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimonk_bench.errors import UserError, sentence
from aimonk_bench.trackers.content import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

ID = "aimonk_bench.id"  # tag by which a run of MLflow is found again
PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"
BATCH = 1000  # metrics of one request
PARAMETERS = 100  # of one request
LONGEST_VALUE = 6000  # signs of a parameter that MLflow keeps


def log(
    experiment: str,
    runs: Sequence[TrackedRun],
    *,
    suite: TrackedRun | None,
    uri: str | None,
    artifacts: Sequence[Path],
) -> str:
    """Log runs to an experiment of MLflow, which is made where there is none.

    Args:
        suite: what stands above the runs; None for a single run, which then gets the artifacts.
        uri: of the tracking server or store, such as ``sqlite:///mlflow.db``; None: what MLflow takes by default.
        artifacts: files and folders, kept with the suite.

    Returns:
        The uri.

    Raises:
        UserError: MLflow is not installed, or refuses.
    """
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UserError(f"mlflow cannot be imported ({error}); fix: pip install 'aimonk-bench[mlflow]'") from error
    try:
        client = mlflow.MlflowClient(uri)
        place = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if place is None else place.experiment_id
        parent = None
        if suite is not None:
            parent = _logged(client, number, suite, {})
            for artifact in artifacts:
                _keep(client, parent, artifact)
        for run in runs:
            logged = _logged(client, number, run, {} if parent is None else {PARENT: parent})
            for artifact in artifacts if parent is None else ():
                _keep(client, logged, artifact)
    except MlflowException as error:
        raise UserError(f"mlflow: {sentence(error)}") from error
    return str(client.tracking_uri)


def _logged(client: MlflowClient, experiment: str, run: TrackedRun, tags: Mapping[str, str]) -> str:
    """The id that MLflow gives to a run: one that is logged already, or a new one."""
    before = client.search_runs([experiment], f"tags.`{ID}` = '{run.id}'", max_results=1)
    milliseconds = round(1000 * run.time)
    there = before[0] if before else client.create_run(experiment, milliseconds, {ID: run.id}, run.name)
    number: str = there.info.run_id
    state = {"aimonk_bench.failure": run.failure} if run.failure else {}
    for key, value in {NAME: run.name, **tags, **state}.items():
        client.set_tag(number, key, value)
    _log_parameters(client, there, run.parameters)
    _log_metrics(client, there, run, milliseconds)
    for file in run.files:
        client.log_artifact(number, str(file))
    client.set_terminated(number, "FAILED" if run.failure else "FINISHED", milliseconds)
    return number


def _log_parameters(client: MlflowClient, there: Run, parameters: Mapping[str, str]) -> None:
    """Log the parameters that MLflow does not have; it lets none be changed, so a changed one is named."""
    from mlflow.entities import Param

    cut = {key: value[:LONGEST_VALUE] for key, value in parameters.items()}
    before = there.data.params
    if changed := sorted(key for key in cut.keys() & before.keys() if cut[key] != before[key]):
        logger.warning("mlflow: %s of run %s changed and keeps its first value", ", ".join(changed), there.info.run_id)
    new = [Param(key, value) for key, value in cut.items() if key not in before]
    for start in range(0, len(new), PARAMETERS):
        client.log_batch(there.info.run_id, params=new[start : start + PARAMETERS])


def _log_metrics(client: MlflowClient, there: Run, run: TrackedRun, milliseconds: int) -> None:
    """Log the values that MLflow does not have."""
    from mlflow.entities import Metric

    before = there.data.metrics
    metrics: list[Any] = [
        Metric(key, value, milliseconds, 0) for key, value in run.figures.items() if before.get(key) != value
    ]
    for name, curve in run.curves.items():
        if before.get(name) != curve.values[-1]:
            points = zip(curve.values.tolist(), curve.steps.tolist(), strict=True)
            metrics += [Metric(name, value, milliseconds, step) for value, step in points]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(there.info.run_id, metrics=metrics[start : start + BATCH])


def _keep(client: MlflowClient, number: str, artifact: Path) -> None:
    if artifact.is_dir():
        client.log_artifacts(number, str(artifact), artifact.name)
    else:
        client.log_artifact(number, str(artifact))
