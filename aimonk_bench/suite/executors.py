"""Where tasks run: in the driver's process, in worker processes or on a Ray cluster. No result depends on where.

A run is a generator of lists of tasks: those of a list may be done at the same time. It goes on with their futures when
all of them are done; where one raises, those that no worker has begun are given up. A task that raises is not tried
again, because it would raise again; one whose worker ends or takes too long is, see `Pool`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.config.fields import Config
from aimonk_bench.config.run_fields import RunConfig
from aimonk_bench.errors import count
from aimonk_bench.records.environment import cores
from aimonk_bench.suite import containment, ray_encoding, ray_workers
from aimonk_bench.suite.clock import Clock
from aimonk_bench.suite.containment import EncodeElsewhere
from aimonk_bench.suite.plan import folds
from aimonk_bench.suite.pool import Pool
from aimonk_bench.suite.ray_workers import RayWorkers
from aimonk_bench.suite.worker import WorkersKilled
from aimonk_bench.suite.workers import GPUS, Workers, can_start
from aimonk_bench.training.recipe import ALL_CORES, Cores

logger = logging.getLogger(__name__)

Stage = Literal["train", "score"]
WORTHWHILE = 8  # runs from which `auto` starts workers, whose start takes as long as some runs
MOST_WORKERS = 8  # that `auto` starts; each takes some 400 MB
AHEAD = 4  # tasks that may wait for the scoring worker; their predictions are in memory


@dataclass(frozen=True, eq=False)
class Task:
    """A part of a run that can be done in another process.

    Attributes:
        stage: what is done.
        run: the name of the run, for messages.
        function: without arguments; it can be pickled, and its result has `seconds`: phase -> seconds.
    """

    stage: Stage
    run: str
    function: Callable[[], Any]


R = TypeVar("R")
Work: TypeAlias = Generator[Sequence[Task], list[Future[Any]], R]  # a part of a run, with what it returns
Run: TypeAlias = Work[None]


@dataclass(frozen=True, eq=False)
class InFlight:
    """Tasks of a run that workers do."""

    tasks: Sequence[Task]
    futures: list[Future[Any]]
    run: Run

    @property
    def stage(self) -> Stage:
        """Of the tasks."""
        return self.tasks[0].stage

    @property
    def is_done(self) -> bool:
        """Whether the run can go on."""
        return all(future.done() for future in self.futures)

    @property
    def has_failed(self) -> bool:
        """Whether a task raised, so that the others are not needed."""
        return any(future.done() and future.exception() is not None for future in self.futures)


class TaskQueue:
    """Takes runs from task to task; tasks of several runs may be in flight.

    Time that the driver spends on a task or waits for it is counted in the phase called like its stage.

    Args:
        clock: of the driver.
        workers: that do the tasks of ``stages``; tasks of other stages are done in this process. None: all are.
        stages: that workers do.
        limit: tasks in flight; their data is in memory, and their runs are claimed, so that no other process does them.
        cores: for each training.
        elsewhere: encodes images in other processes; None: they are encoded in this process.

    Attributes:
        cores, elsewhere: as above.
    """

    def __init__(
        self,
        clock: Clock,
        workers: Pool[Any] | None = None,
        stages: Sequence[Stage] = (),
        limit: int = AHEAD,
        cores: Cores = ALL_CORES,
        elsewhere: EncodeElsewhere | None = None,
    ) -> None:
        self._clock, self._workers, self._stages, self._limit = clock, workers, frozenset(stages), limit
        self.cores, self.elsewhere = cores, elsewhere
        self._in_flight: list[InFlight] = []

    @property
    def trains_here(self) -> bool:
        """Whether trainings run in this process."""
        return "train" not in self._stages

    def is_measured(self, freeze: str) -> bool:
        """Whether the time of a training says how fast this machine is: not elsewhere, or with a share of its cores."""
        return not isinstance(self._workers, RayWorkers) and (self.trains_here or freeze == "all")

    def execute(self, runs: Iterable[Run]) -> None:
        """Execute runs, beginning with each in its turn.

        Where training is here and the scoring worker is behind, scoring is here, too; where training is in workers, a
        run begins when there is room among the tasks in flight. After an interruption, trainings in flight are given
        up, and what is trained is still scored.
        """
        try:
            for run in runs:
                self._advance(run)
                self._collect(None if self.trains_here else self._limit - 1)
            self._finish()
        except BaseException:
            if self._workers is not None and not self.trains_here:
                self._in_flight = [
                    item for item in self._in_flight if item.stage == "score" or (item.is_done and not item.has_failed)
                ]
                self._workers.kill()
            raise
        finally:
            try:
                self._finish()
            except BaseException:
                self._collect(0)  # the interrupted run is lost, the others are not; a second interruption ends this too
                raise

    def _finish(self) -> None:
        """Go on with all runs in flight until they end."""
        if running := len(self._in_flight):
            logger.info("%d run%s still in worker processes", running, " is" if running == 1 else "s are")
        self._collect(0)

    def _advance(self, run: Run, done: list[Future[Any]] | None = None) -> None:
        """Take a run to its next tasks in workers, or to its end.

        Args:
            done: the futures of the tasks before; None at the beginning.
        """
        try:
            tasks = next(run) if done is None else run.send(done)
        except StopIteration:
            return
        behind = self.trains_here and self._unfinished >= self._limit
        if self._workers is not None and not self._workers.killed and tasks[0].stage in self._stages and not behind:
            first = tasks[0].stage == "score"  # a trained run does not wait for the networks of the next one
            futures = [self._workers.submit(task.function, task.run, first=first) for task in tasks]
            self._in_flight.append(InFlight(tasks, futures, run))
            return
        self._advance(run, [self._done_here(task) for task in tasks])

    @property
    def _unfinished(self) -> int:
        """The number of tasks in flight."""
        return sum(not future.done() for item in self._in_flight for future in item.futures)

    def _collect(self, at_most: int | None) -> None:
        """Go on with the runs whose tasks are done.

        Args:
            at_most: wait until so few tasks are in flight; None does not wait.
        """
        while self._in_flight:
            assert self._workers is not None
            for failed in (item for item in self._in_flight if item.has_failed and not item.is_done):
                self._workers.withdraw(failed.futures)
            done = next((item for item in self._in_flight if item.is_done), None)
            if done is not None:
                self._in_flight.remove(done)  # one at a time: an interruption leaves the others to be collected
                pairs = zip(done.tasks, done.futures, strict=True)
                futures = [self._done_here(task) if _was_killed(future) else future for task, future in pairs]
                self._advance(done.run, futures)
            elif at_most is None:
                self._workers.pump(0.0)
                if not any(item.is_done for item in self._in_flight):
                    return
            elif self._unfinished <= at_most:
                return
            else:
                with self._clock(self._in_flight[0].stage):
                    self._workers.pump()

    def _done_here(self, task: Task) -> Future[Any]:
        future: Future[Any] = Future()
        with self._clock(task.stage):
            try:
                result = task.function()
            except Exception as error:
                future.set_exception(error)
            else:
                self._clock.add(result.seconds)
                future.set_result(result)
        return future


def _was_killed(future: Future[Any]) -> bool:
    return isinstance(future.exception(), WorkersKilled)


@contextlib.contextmanager
def opened(configs: Sequence[Config], run: RunConfig, clock: Clock) -> Iterator[TaskQueue]:
    """The task queue of a suite, whose workers start now.

    ``serial`` runs everything here; ``processes`` encodes, trains and scores in workers, by default as many as there
    are cores, and where layers are trained as many as there are GPUs, or as `threads` leave cores for; no more than
    there are trainings, where each seed in each fold of a run that trains layers counts as one. ``auto`` does so from
    `WORTHWHILE` runs on frozen features on, by default with at most `MOST_WORKERS`, and where there is a time limit,
    which only a worker keeps. Where a run trains layers, which uses all cores by itself, or trains on another device,
    training is here and scoring in one worker beside it. Images are encoded where training is; but ``auto`` builds a
    network here while workers start, see `containment.encode_beside`, and encodes with that of a plug-in in a worker.

    Args:
        configs: of the runs that are to be executed.
        run: the section of the suite.
        clock: of the driver.
    """
    if not configs:
        yield TaskQueue(clock)
        return
    if run.executor == "ray":
        with _on_ray(configs, run, clock) as queue:
            yield queue
        return
    frozen = sum(config.backbone.freeze == "all" for config in configs)
    trainings = sum(map(trainings_of, configs))
    number, train = 0, run.executor == "processes" or (run.executor == "auto" and run.timeout is not None)
    gpus = visible_gpus(configs) if train else []
    if train:
        shared = any(pick_device(config.train.device) != "cpu" for config in configs)
        most = max(1, len(gpus)) if shared else cores() // threads_of(configs)
        number = min(most, trainings)
    elif run.executor == "auto" and frozen >= WORTHWHILE and can_start():
        train = frozen == len(configs) and {pick_device(config.train.device) for config in configs} == {"cpu"}
        number = min(cores(), frozen, MOST_WORKERS) if train else 1
    if not (train or number):
        yield TaskQueue(clock, elsewhere=partial(containment.encode_where_due, run))
        return
    number = max(1, number if run.workers == "auto" or not train else min(run.workers, trainings))
    modules = _modules(configs) if train else []
    with Workers(number, retries=run.retries, timeout=run.timeout, gpus=gpus, modules=modules) as workers:
        workers.start()
        if train:
            share = Cores(share=max(1, cores() // number))
            elsewhere = partial(containment.encode_beside, workers, run)
            yield TaskQueue(clock, workers, ("train", "score"), number + 1, share, elsewhere)
        else:
            yield TaskQueue(clock, workers, ("score",), elsewhere=partial(containment.encode_where_due, run))


@contextlib.contextmanager
def _on_ray(configs: Sequence[Config], run: RunConfig, clock: Clock) -> Iterator[TaskQueue]:
    """The task queue of a suite on a Ray cluster, where networks are trained with the threads of this machine."""
    gpus = any(pick_device(config.train.device) != "cpu" for config in configs)
    with contextlib.ExitStack() as stack:
        with clock("start"):
            machine = None
            if any(config.backbone.freeze != "all" for config in configs):
                from aimonk_bench.training.finetune import machine_cores

                machine = machine_cores()
            nodes = stack.enter_context(ray_workers.connected())
            unused = 0 if gpus else sum(node.gpus for node in nodes)
            if unused and any(config.train.device == "auto" for config in configs):
                logger.warning(
                    "%s of the Ray cluster will not be used: train.device auto is the CPU, because this machine has no "
                    "GPU; fix: start the command on a machine with one",
                    count(unused, "GPU"),
                )
            layout = ray_workers.layout(nodes, run, sum(map(trainings_of, configs)), threads_of(configs), gpus=gpus)
            workers = RayWorkers(layout, retries=run.retries, timeout=run.timeout, modules=_modules(configs))
            stack.enter_context(workers)
            workers.start()
        share = Cores(share=layout.cpus, machine=machine)
        pool = stack.enter_context(containment.one_worker(run))
        elsewhere = partial(ray_encoding.encode_missing, workers, pool)
        yield TaskQueue(clock, workers, ("train", "score"), layout.count + 1, share, elsewhere)


def _modules(configs: Sequence[Config]) -> list[str]:
    """What training needs: torch, and timm where layers are trained."""
    room, freezes = "aimonk_bench.training", {config.backbone.freeze for config in configs}
    trained = [f"{room}.finetune", "aimonk_bench.backbones.network"] if freezes - {"all"} else []
    return [f"{room}.heads_trainer"] * ("all" in freezes) + trained


def trainings_of(config: Config) -> int:
    """The trainings of a run that workers can do at the same time: all heads are one, each network is one."""
    return 1 if config.backbone.freeze == "all" else folds(config) * len(config.train.seeds)


def threads_of(configs: Sequence[Config]) -> int:
    """The most threads with which a network or a stack of heads of these runs is trained."""

    def threads(config: Config) -> int:
        if config.run.threads != "auto":
            return config.run.threads
        if config.backbone.freeze == "all":
            return 1
        return cores() // min(cores(), trainings_of(config))

    return max(map(threads, configs), default=1)


def visible_gpus(configs: Sequence[Config]) -> list[str]:
    """The GPUs that workers take in turn: those of this process if there are several and no run names one of them."""
    devices = {config.train.device for config in configs}
    if not devices <= {"auto", "cuda"} or "cpu" in map(pick_device, devices):
        return []
    import torch

    number = torch.cuda.device_count()
    visible = os.environ.get(GPUS, ",".join(map(str, range(number)))).split(",")
    return visible[:number] if number > 1 else []
