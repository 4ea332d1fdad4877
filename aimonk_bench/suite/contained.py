"""Networks tried and images encoded in worker processes: a network that ends its process costs its runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aimonk_bench.backbones import features, trial
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.features import Completion, Encode, Progress, Request
from aimonk_bench.backbones.trial import Trial
from aimonk_bench.config.run_fields import RunConfig
from aimonk_bench.plugins import Plugin, executed
from aimonk_bench.suite import workers
from aimonk_bench.suite.workers import Workers

MODULES = ("aimonk_bench.backbones.examination", "aimonk_bench.backbones.network")  # what building a network needs
PATIENCE = 120.0  # seconds that building a network, or encoding a batch, may take, also where `run.timeout` is shorter


def one_worker(run: RunConfig) -> Workers:
    """A worker process that builds networks, beside the workers that train."""
    return Workers(1, retries=run.retries, timeout=run.timeout, modules=MODULES)


def attempt(worker: Workers, plugins: Sequence[Plugin], spec: EncoderSpec, cache: Path) -> Trial:
    """`trial.attempt` in a worker.

    Args:
        plugins: of the config, one of which may define the network.

    Raises:
        WorkerLost: it ended the worker each time that it was tried.
    """
    task = partial(_attempt, tuple(plugins), spec, cache)
    tried: Trial = worker.result(task, f"trying {spec.weights.name}", at_least=PATIENCE)
    return tried


def _attempt(plugins: Sequence[Plugin], spec: EncoderSpec, cache: Path) -> Trial:
    with executed(plugins):
        return trial.attempt(spec, cache)


def completion(worker: Workers, plugins: Sequence[Plugin], encode: Encode = features.encoded) -> Completion:
    """What completes the feature store in a worker, which raises `WorkerLost` where that ends each time."""
    return partial(_in_worker, worker, tuple(plugins), encode)


def _in_worker(
    worker: Workers,
    plugins: Sequence[Plugin],
    encode: Encode,
    folder: Path,
    request: Request,
    progress: Progress | None,
    is_damaged: bool,
) -> dict[str, str]:
    task = partial(_complete, plugins, encode, folder, request, is_damaged)
    name = f"encoding with {request.spec.weights.name}"
    reasons: dict[str, str] = worker.result(task, name, at_least=PATIENCE, progress=progress)
    return reasons


def _complete(
    plugins: Sequence[Plugin], encode: Encode, folder: Path, request: Request, is_damaged: bool
) -> dict[str, str]:
    """What the worker does."""
    with executed(plugins):
        return features.complete(folder, request, workers.report, is_damaged, encode=encode, waiting=workers.stay_alive)
