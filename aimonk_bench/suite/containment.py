"""Networks tried, and images encoded, in a worker process: a network that ends its process costs its runs alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from aimonk_bench.backbones import features, trial
from aimonk_bench.backbones.catalog import CATALOG
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.encoder_record import read_record
from aimonk_bench.backbones.features import Encode, Request
from aimonk_bench.backbones.threads import torch_threads
from aimonk_bench.backbones.trial import Trial
from aimonk_bench.config.run_fields import Executor, RunConfig
from aimonk_bench.plugins import Plugin, executed
from aimonk_bench.progress import Progress
from aimonk_bench.suite import workers
from aimonk_bench.suite.worker import NoWorker, WorkerLost
from aimonk_bench.suite.workers import Workers, can_start

MODULES = ("aimonk_bench.backbones.examination",)  # what building a network needs: torch and timm
# `encode_missing` for a pool: (plug-ins of the config, request, progress) -> {SHA-256: reason}
EncodeElsewhere = Callable[[Sequence[Plugin], Request, Progress | None], dict[str, str]]
STANDSTILL = 120.0  # seconds that a network may take to be built, or for a batch, also where `run.timeout` is shorter


def one_worker(run: RunConfig) -> Workers:
    """A pool of one worker, which starts with its first task.

    Args:
        run: has the number of retries and the limit of time.
    """
    return Workers(1, retries=run.retries, timeout=run.timeout, modules=MODULES)


def is_contained(executor: Executor, plugins: Sequence[Plugin], spec: EncoderSpec) -> bool:
    """Whether a network is tried, and images are encoded, in a worker process.

    With `serial` they are not; with `auto` where the network may be code of a plug-in; else they are.

    Args:
        executor: of the section `run`.
        plugins: of the config.
        spec: with the network.
    """
    if executor != "auto":
        return executor != "serial"
    return bool(plugins) and spec.weights.name not in CATALOG and can_start()


@contextlib.contextmanager
def lost_while_encoding() -> Iterator[None]:
    """Say of a worker that is lost in the block that it encoded, and how to go on.

    Raises:
        WorkerLost: as in the block, with more words, unless no worker can be started.
    """
    try:
        yield
    except NoWorker:
        raise
    except WorkerLost as error:
        fix = "fix: another network; `run.executor: serial` to debug it"
        raise WorkerLost(f"the images cannot be encoded: {error}; {fix}") from error


def encode_where_due(
    run: RunConfig, plugins: Sequence[Plugin], request: Request, progress: Progress | None = None
) -> dict[str, str]:
    """`features.encode_missing` for a command that trains in its own process: in a worker where `is_contained` says so.

    Args:
        run: the section of the config.
        plugins: of the config.

    Raises:
        WorkerLost, ClaimLost, UserError, RunFailed: as of `encode_missing`.
    """
    if not is_contained(run.executor, plugins, request.spec):
        return features.encode_missing(request, progress)
    with one_worker(run) as pool:  # which ends before layers are trained: it may hold memory of a GPU
        return encode_missing(pool, plugins, request, progress)


def attempt(pool: Workers, plugins: Sequence[Plugin], spec: EncoderSpec, cache: Path) -> Trial:
    """`trial.attempt` in a worker.

    Args:
        plugins: of the config, one of which may define the network.

    Raises:
        WorkerLost: it ended, or stood still, each time that the network was tried.
        UserError: as of `trial.attempt`.
    """
    task = partial(_attempt, tuple(plugins), spec, cache)
    result: Trial = pool.result(task, f"trying {spec.weights.name}", at_least=STANDSTILL)
    return result


def _attempt(plugins: Sequence[Plugin], spec: EncoderSpec, cache: Path) -> Trial:
    with executed(plugins):
        return trial.attempt(spec, cache)


def encode_missing(
    pool: Workers,
    plugins: Sequence[Plugin],
    request: Request,
    progress: Progress | None = None,
    *,
    only_first: bool = False,
) -> dict[str, str]:
    """`features.encode_missing` in a worker.

    Args:
        plugins: of the config, one of which may define the network.
        only_first: only until the encoder is opened, with the first batch that can be decoded.

    Raises:
        WorkerLost: it ended, or stood still, each time that it encoded.
        ClaimLost, UserError, RunFailed: as of `features.encode_missing`.
    """
    task = partial(_encode_missing, tuple(plugins), request, partial(features.encoded, only_first=only_first))
    name = f"encoding with {request.spec.weights.name}"
    with lost_while_encoding():
        reasons: dict[str, str] = pool.result(task, name, at_least=STANDSTILL, progress=progress)
    return reasons


def encode_beside(
    pool: Workers, run: RunConfig, plugins: Sequence[Plugin], request: Request, progress: Progress | None = None
) -> dict[str, str]:
    """`encode_missing` while workers start: meanwhile this process builds and exports a network that it never did.

    Not where `is_contained` says that a worker does so, nor where there is a limit of time, which only a worker keeps.

    Args:
        run: the section of the config.

    Raises:
        WorkerLost, ClaimLost, UserError, RunFailed: as of `encode_missing`.
    """
    is_here = run.timeout is None and not is_contained(run.executor, plugins, request.spec)
    if is_here and read_record(request.folder) is None:
        with torch_threads(1):
            features.encode_missing(request, encode=partial(features.encoded, only_first=True))
    return encode_missing(pool, plugins, request, progress)


def _encode_missing(plugins: Sequence[Plugin], request: Request, encode: Encode) -> dict[str, str]:
    with executed(plugins):
        return features.encode_missing(request, workers.report, encode=encode, alive=workers.stay_alive)
