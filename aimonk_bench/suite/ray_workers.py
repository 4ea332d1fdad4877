"""Workers on a Ray cluster: actors that do tasks on this machine or on others.

A task travels as pickled bytes. What many tasks share, a feature matrix or an exported network, is put into the object
store of Ray once: each machine fetches it once, and its workers read it without a copy.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from aimonk_bench import offline
from aimonk_bench.backbones.features import FeatureMatrix
from aimonk_bench.config.run_fields import RunConfig
from aimonk_bench.errors import UserError, count
from aimonk_bench.lazy import Lazy
from aimonk_bench.records.environment import cores
from aimonk_bench.suite.pool import Pool
from aimonk_bench.suite.replies import READY, answer, prepare
from aimonk_bench.suite.worker import Worker, WorkerEnded

ray: Any = Lazy("ray")
logger = logging.getLogger(__name__)

INHERITED = ("AIMONK_BENCH_", "HF_HUB_OFFLINE", "NO_ALBUMENTATIONS_UPDATE")  # variables that workers get, by prefix
DEAD = re.compile(r"The actor is dead because [^.]*")  # how Ray says why
SILENCE = 30.0  # seconds without a worker, after which it is said that the cluster has no room
PATIENCE = 10.0  # seconds that an ended worker may take to be gone


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has."""

    cpus: int
    gpus: int


@contextlib.contextmanager
def connected() -> Iterator[list[Node]]:
    """The machines of the cluster that RAY_ADDRESS names, or of one that is started here and ended afterwards.

    A connection that this process has already is used, and stays.

    Raises:
        UserError: there is no such cluster, or none can be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray tells its makers of this cluster
    if ray.is_initialized():
        yield _nodes()
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    starting: dict[str, Any] = {"num_cpus": cores(), "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level="warning", configure_logging=False, **starting)
    except Exception as error:  # Ray raises a bare Exception where a node does not start in time
        raise UserError(_unreachable(address, str(error).partition("\n")[0])) from error
    try:
        yield _nodes()
    finally:
        ray.shutdown()


def _unreachable(address: str, reason: str) -> str:
    """What is wrong where there is no cluster."""
    if address == "local":
        return (
            f"run.executor: ray: no cluster could be started on this machine ({reason}); fix: try again, or "
            "--executor processes, which needs no cluster"
        )
    return (
        f"RAY_ADDRESS: found {address!r}, expected the address of a running Ray cluster, such as auto or host:6379, or "
        f"no value for one that is started on this machine ({reason})"
    )


def _nodes() -> list[Node]:
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(int(of_node.get("CPU", 0)), int(of_node.get("GPU", 0))) for of_node in resources]


@dataclass(frozen=True)
class Layout:
    """How many workers a cluster has, and what each of them may use."""

    count: int
    cpus: int
    gpus: int


def layout(nodes: Sequence[Node], run: RunConfig, trainings: int, threads: int, *, gpus: bool) -> Layout:
    """Divide a cluster among workers: as many as `run.workers` says, else one for each training, with a GPU if needed.

    Each gets the same number of cores, as many as there are for all of them.

    Args:
        trainings: that can be done at the same time.
        threads: cores that a worker needs.
        gpus: each worker needs a GPU.

    Raises:
        UserError: no machine has so many cores, or a GPU.
    """
    if gpus:
        nodes = [node for node in nodes if node.gpus]
        if not nodes:
            raise UserError("run.executor: ray: runs train on a GPU, but no machine of the cluster has one")

    def room(cpus: int) -> int:
        """Workers with so many cores that the cluster has room for."""
        return sum(min(node.cpus // cpus, node.gpus if gpus else node.cpus) for node in nodes)

    most, largest = room(threads), max((node.cpus for node in nodes), default=0)
    if not most:
        raise UserError(
            f"run.threads: a network is trained with {threads} threads, but the machines of the Ray cluster have "
            f"{largest} cores at most; fix: a smaller run.threads"
        )
    number = min(most, max(trainings, len(nodes))) if run.workers == "auto" else min(most, run.workers)
    cpus = next(cpus for cpus in range(largest, 0, -1) if room(cpus) >= number)
    return Layout(number, max(cpus, threads), int(gpus))


class _Remote:
    """What an actor does. It answers one task at a time; `stay` ends when the actor does.

    Args:
        variables: of its environment.
        path: where the driver finds modules, such as plug-ins; what its machine finds by itself comes first.
        modules: that tasks need and that take long to import.
    """

    def __init__(self, variables: dict[str, str], path: Sequence[str], modules: Sequence[str]) -> None:
        os.environ |= variables
        offline.obey()
        sys.path += [entry for entry in path if entry not in sys.path]
        prepare(modules)

    def ready(self) -> bytes:
        return pickle.dumps(READY)

    def stay(self) -> None:
        threading.Event().wait()

    def answer(self, task: bytes, *shared: Any) -> bytes:
        return answer(partial(_unpacked, task, shared))


class _Actor(Worker):
    """An actor."""

    def __init__(
        self, layout: Layout, modules: Sequence[str], share: Callable[[FeatureMatrix], tuple[Any, np.ndarray]]
    ) -> None:
        super().__init__()
        variables = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
        options = {"num_cpus": layout.cpus, "num_gpus": layout.gpus, "max_restarts": 0, "max_concurrency": 2}
        self._handle = ray.remote(_Remote).options(**options).remote(variables, list(sys.path), modules)
        self._share = share
        self.life = self._handle.stay.remote()
        self.reply = self._handle.ready.remote()

    def pack(self, function: Callable[[], Any]) -> tuple[bytes, list[Any]]:
        buffer = io.BytesIO()
        packer = _Packer(buffer, self._share)
        packer.dump(function)
        return buffer.getvalue(), packer.references

    def send(self, packed: tuple[bytes, list[Any]]) -> None:
        task, references = packed
        self.reply = self._handle.answer.remote(task, *references)

    def receive(self) -> bytes:
        reference, self.reply = self.reply, None
        try:
            content: bytes = ray.get(self.life if reference is None else reference)
        except ray.exceptions.RayTaskError as error:  # not of an actor that has ended
            if isinstance(error.cause, Exception):  # the text of `error` is a traceback
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise WorkerEnded(_how(error)) from error
        return content

    def kill(self) -> None:
        ray.kill(self._handle)

    def close(self) -> None:
        ray.kill(self._handle)

    def join(self) -> None:
        ray.wait([self.life], timeout=PATIENCE)


def _how(error: Exception) -> str:
    """How an actor ended, as a predicate."""
    if getattr(error, "_actor_init_failed", False):
        return f"ended before it began: {str(error).strip().splitlines()[-1]}"
    reason = DEAD.search(str(error))
    return f"ended; Ray says: {reason[0] if reason else str(error).strip().splitlines()[0]}"


class RayWorkers(Pool[_Actor]):
    """Actors of a connected cluster.

    Args:
        layout: how many, and what each may use.
        retries, timeout: as of a `Pool`.
        modules: that tasks need and that take long to import.
    """

    noun = "Ray worker"

    def __init__(
        self, layout: Layout, *, retries: int = 1, timeout: float | None = None, modules: Sequence[str] = ()
    ) -> None:
        super().__init__(layout.count, retries=retries, timeout=timeout)
        self.layout, self._modules = layout, tuple(modules)
        self._is_announced = False  # that the cluster has no room
        self._shared: dict[int, tuple[FeatureMatrix, Any, np.ndarray]] = {}  # by `id` of a matrix, which lives on here

    def put(self, content: bytes) -> Any:
        """Put what many tasks read into the object store: a part of a task that is the content where the task runs."""
        return ray.put(content)

    def _started(self) -> _Actor:
        return _Actor(self.layout, self._modules, self._share)

    def _heard(self, seconds: float | None) -> list[_Actor]:
        references = [one for worker in self._workers for one in (worker.reply, worker.life) if one is not None]
        if not any(worker.ready for worker in self._workers):
            seconds = SILENCE if seconds is None else min(seconds, SILENCE)
        began = time.monotonic()
        if ray.wait(references, num_returns=1, timeout=seconds)[0]:
            done, _ = ray.wait(references, num_returns=len(references), timeout=0)
            return [worker for worker in self._workers if worker.life in done or worker.reply in done]
        if time.monotonic() - began >= SILENCE and not self._is_announced:
            self._is_announced = True
            each = f"{count(self.layout.cpus, 'core')}{f' and {self.layout.gpus} GPU' if self.layout.gpus else ''}"
            logger.warning("waiting for the Ray cluster to have room for a worker with %s (see `ray status`)", each)
        return []

    def _share(self, matrix: FeatureMatrix) -> tuple[Any, np.ndarray]:
        """The rows of a feature matrix that its index names, in the object store, and the index of those [V, N]."""
        if id(matrix) not in self._shared:
            rows, index = np.unique(matrix.index, return_inverse=True)
            reference = ray.put(np.ascontiguousarray(matrix.rows[rows]))
            self._shared[id(matrix)] = matrix, reference, index.reshape(matrix.index.shape)
        return self._shared[id(matrix)][1:]


class _Packer(pickle.Pickler):
    """Pickles a task; what stands in the object store becomes a number.

    Attributes:
        references: to what the numbers mean.
    """

    def __init__(self, buffer: io.BytesIO, share: Callable[[FeatureMatrix], tuple[Any, np.ndarray]]) -> None:
        super().__init__(buffer)
        self._share, self.references = share, list[Any]()

    def _number(self, reference: Any) -> int:
        if reference not in self.references:
            self.references.append(reference)
        return self.references.index(reference)

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, ray.ObjectRef):
            return self._number(value), None
        if isinstance(value, FeatureMatrix):
            reference, index = self._share(value)
            return self._number(reference), {**vars(value), "rows": None, "index": index}
        return None


def _unpacked(task: bytes, shared: Sequence[Any]) -> Callable[[], Any]:
    """A task; a number in it means one of the values that stand in the object store."""

    def load(place: tuple[int, dict[str, Any] | None]) -> Any:
        number, fields = place
        return shared[number] if fields is None else FeatureMatrix(**{**fields, "rows": shared[number]})

    unpickler = pickle.Unpickler(io.BytesIO(task))
    unpickler.persistent_load = load  # type: ignore[method-assign]
    function: Callable[[], Any] = unpickler.load()
    return function
