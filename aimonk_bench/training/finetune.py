"""Fine-tuning: for every seed and fold, a tail of the network and a linear head, trained end to end by torch.

It takes what `trainer.train` takes and leaves what it leaves: the same sampler, missing-label policy and loss, the same
random streams, the same choice of an epoch, the same history. A job (a seed in a fold) is a network of its own; on a
CPU as many jobs train side by side as there are cores, with an equal share of torch's threads each, which wastes less
than all threads on one. BatchNorm in the tail learns as in any training; in the trunk it is frozen.

After every epoch a job writes a checkpoint, from which it goes on as if it had never stopped: to the bit on a CPU with
the same number of threads.
"""

from __future__ import annotations

import collections
import copy
import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import aimonk_bench
from aimonk_bench import registry
from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import RunFailed
from aimonk_bench.records.environment import cores
from aimonk_bench.records.files import atomic
from aimonk_bench.registry import Spec
from aimonk_bench.training import outcome
from aimonk_bench.training.batches import Part, Plan, Streams
from aimonk_bench.training.heads import SCHEDULES, Choice, Heads
from aimonk_bench.training.missing import objective, wants_teacher
from aimonk_bench.training.outcome import Trained
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.sources import Source

logger = logging.getLogger(__name__)

AHEAD = 4  # batches read ahead by each job
CHUNK = 32  # rows at once where nothing is learned
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {  # of the table of the same name, for one network
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Task:
    """What all jobs share.

    Attributes:
        source: of the rows.
        views: [V, N] codes of each view and picture.
        probabilities: [V] of the views in training.
        targets: int8 [N, A], 0 where not observed.
        observed: bool [N, A].
        val_targets: as validation rows show them.
        val_observed: likewise.
        folds: row numbers of the three parts.
        recipe: loss, missing-label policy, sampler.
        tail: rows [B, D] -> pooled features [B, F]; copied, never changed.
        features: F.
        steps: T.
        key: what a checkpoint must bear to be taken up.
        checkpoints: their folder, None to write none.
    """

    source: Source
    views: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    observed: np.ndarray
    val_targets: np.ndarray
    val_observed: np.ndarray
    folds: Sequence[Fold]
    config: TrainConfig
    recipe: tuple[Spec, Spec, Spec]
    tail: nn.Module
    features: int
    steps: int
    device: torch.device
    key: str
    checkpoints: Path | None


def train(
    source: Source,
    probabilities: np.ndarray,
    targets: np.ndarray,
    observed: np.ndarray,
    folds: Sequence[Fold],
    train: TrainConfig,
    loss: Spec,
    missing: Spec,
    sampler: Spec,
    *,
    tail: nn.Module,
    attributes: Sequence[str],
    val_observed: np.ndarray | None = None,
    key: str = "",
    checkpoints: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Trained:
    """Train the tail and a linear head for every seed and fold.

    Args:
        source: of the rows that the tail reads.
        probabilities: [V] of the views in training.
        targets: [N, A], not read where not observed.
        observed: [N, A] bool.
        folds: row numbers of the three parts, none of them empty.
        train: the training section of the config, which `checks.check` has passed.
        loss: an elementwise or a set loss.
        missing: an entry of MISSING; one that wants a teacher is trained in two stages.
        sampler: an entry of SAMPLERS.
        tail: the part of the network that is not frozen, rows [B, D] -> pooled features [B, F], as pretrained.
        attributes: [A] names, for the notes.
        val_observed: [N, A] bool, the labels that validation rows show, if not ``observed``.
        key: of the run: a checkpoint of another run, or of other versions of this package and torch, is not taken up.
        checkpoints: a folder for them; None to write none.
        progress: called with ("train", epochs done, epochs), all jobs together, after every epoch.

    Raises:
        RunFailed: a loss is not finite, or the sampler finds nothing to draw.
    """
    shape, device = (len(probabilities), len(targets)), torch.device(pick_device(train.device))
    shown = outcome.known(targets, observed if val_observed is None else val_observed)
    task = Task(
        source,
        np.arange(shape[0] * shape[1]).reshape(shape),
        probabilities,
        *outcome.known(targets, observed),
        *shown,
        folds,
        config=train,
        recipe=(loss, missing, sampler),
        tail=tail.eval().to(device).to(memory_format=torch.channels_last),
        features=_width(tail, source, device),
        steps=-(-max(len(fold.train) for fold in folds) // train.batch_size),
        device=device,
        key=f"{key}, aimonk_bench {aimonk_bench.__version__}, torch {torch.__version__}",
        checkpoints=checkpoints,
    )
    return _outcome(task, _all(task, progress), attributes)


def _width(tail: nn.Module, source: Source, device: torch.device) -> int:
    """F."""
    with torch.inference_mode():
        found = tail.eval().to(device)(torch.from_numpy(source.undisturbed(np.zeros(1, np.int64))).to(device).float())
    return int(found.shape[-1])


class _Told:
    """Counts the epochs of all jobs, and carries the wish to stop."""

    def __init__(self, total: int, progress: Callable[[str, int, int], None] | None) -> None:
        self.stop = threading.Event()
        self._total, self._progress, self._done, self._lock = total, progress, 0, threading.Lock()

    def __call__(self, epochs: int) -> None:
        with self._lock:
            self._done += epochs
            if self._progress is not None:
                self._progress("train", self._done, self._total)


class _Stopped(Exception):
    """A job ends early because it is not wanted any more."""


@contextmanager
def _share(jobs: int) -> Iterator[None]:
    """Give each of so many jobs its share of the cores that torch has, which stays the same when fewer are left."""
    given = torch.get_num_threads()
    torch.set_num_threads(max(1, min(given, cores()) // jobs))
    try:
        yield
    finally:
        torch.set_num_threads(given)


def _all(task: Task, progress: Callable[[str, int, int], None] | None) -> list[_Job]:
    """Train every seed in every fold, side by side where the cores are torch's own; fold by fold, seed by seed."""
    cv2.setNumThreads(1)  # the threads that read have the cores already
    if task.checkpoints is not None:
        task.checkpoints.mkdir(parents=True, exist_ok=True)
    numbers = [(seed, fold) for fold in range(len(task.folds)) for seed in task.config.seeds]
    stages = 2 if wants_teacher(task.recipe[1]) else 1
    told = _Told(len(numbers) * task.config.epochs * stages, progress)
    together = min(len(numbers), cores()) if task.device.type == "cpu" else 1
    with _share(together), ThreadPoolExecutor(cores()) as readers, ThreadPoolExecutor(together) as pool:
        futures = [pool.submit(_trained, task, *number, readers, told) for number in numbers]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            told.stop.set()  # a job that is not done by now is not wanted: another failed, or the user wants an end
            for future in futures:
                future.cancel()
        ended = [future for future in futures if not future.cancelled()]
        failed = [error for future in ended if (error := future.exception()) and not isinstance(error, _Stopped)]
        if failed:
            raise failed[0]
        return [future.result() for future in futures]


def _trained(task: Task, seed: int, fold: int, readers: ThreadPoolExecutor, told: _Told) -> _Job:
    """One job from start to end, after its teacher if it has one."""
    job = _Job(task, seed, fold, readers)
    loss, missing, sampler = task.recipe
    if wants_teacher(missing):
        first = _Job(replace(task, recipe=(loss, Spec("ignore"), sampler)), seed, fold, readers, "teacher")
        first.complete(told)
        job.taught_by(first)
    job.complete(told)
    job.release()
    return job


class _Network(nn.Module):
    """Tail and linear head: rows [B, D] -> logits [B, A]."""

    def __init__(self, tail: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.tail, self.head = tail, head

    def forward(self, rows: Tensor) -> Tensor:
        """Logits of rows."""
        return cast(Tensor, self.head(self.tail(rows)))


class _Job:
    """The state of one training: a network, its optimizer, its random streams, what came of each epoch."""

    def __init__(self, task: Task, seed: int, fold: int, readers: ThreadPoolExecutor, stage: str = "") -> None:
        self.task, self.seed, self.fold, self.readers = task, seed, fold, readers
        config, (loss, missing, sampler) = task.config, task.recipe
        self.part = Part(task.folds[fold].train, task.targets, task.observed)
        self.streams = Streams.of(seed, fold)
        attributes = task.targets.shape[1]
        initial = Heads.initial(attributes, task.features, [self.streams.init])
        head = nn.Linear(task.features, attributes)
        head.load_state_dict({"weight": initial.weight[0], "bias": initial.bias[0, 0]})
        self.network = _Network(copy.deepcopy(task.tail), head.to(task.device))
        self.optimizer = self._optimizer()
        self.precision = _precision(config.precision, task.device)
        self.scaler = torch.amp.GradScaler(task.device.type, enabled=self.precision is torch.float16)
        self.schedule = registry.build("schedule", SCHEDULES, config.schedule)
        self.sampler = registry.build("sampler", SAMPLERS, sampler)
        counts = outcome.counts(self.part.targets, self.part.observed)
        positives, negatives = (torch.from_numpy(own[None]).to(task.device, torch.float32) for own in counts)
        self.objective = objective(loss, missing, positives, negatives)
        self.val_objective = objective(loss, Spec("ignore"), positives, negatives)
        self.targets, self.observed = (torch.from_numpy(own).to(task.device) for own in (task.targets, task.observed))
        self.choice = Choice(1, last=config.select == "last", patience=config.patience)
        self.best = self._weights()
        self.teacher: Tensor | None = None
        self.teacher_epoch, self.teacher_loss = 0, np.nan
        self.epoch = 0
        self.drawn = np.zeros((2, attributes), np.int64)
        self.losses: list[list[float]] = []
        self.scores: list[dict[str, float]] = []
        self.logits: dict[str, np.ndarray] = {}
        name = "-".join(filter(None, (f"fold{fold}", f"seed{seed}", stage)))
        self.file = None if task.checkpoints is None else task.checkpoints / f"{name}.pt"

    def _optimizer(self) -> torch.optim.Optimizer:
        config = self.task.config
        rates = config.lr, config.lr if config.backbone_lr is None else config.backbone_lr
        parts = [list(part.parameters()) for part in (self.network.head, self.network.tail)]
        groups = [{"params": own, "lr": rate, "rate": rate} for own, rate in zip(parts, rates, strict=True) if own]
        options = config.optimizer.options
        kind = OPTIMIZERS[config.optimizer.name]
        return kind(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True, **options)

    def taught_by(self, first: _Job) -> None:
        """Take over what a first stage says of the training rows; it is used up."""
        self.teacher = first.probabilities()
        self.teacher_epoch, self.teacher_loss = int(first.choice.epoch[0]), float(np.mean(first.losses[-1]))
        first.release()

    def complete(self, told: _Told) -> None:
        """Train until no epoch is left, from the checkpoint if there is one, and read out the kept epoch.

        Raises:
            RunFailed: a loss is not finite.
        """
        self._take_up()
        told(self.epoch)
        while self.epoch < self.task.config.epochs and self.choice.active[0]:
            self.epoch += 1
            losses = self._train(told.stop)
            self._check_finite(losses)
            scores = self._validate()
            if self.choice.choose(self.epoch, outcome.watched(self.task.config.select, scores))[0]:
                self.best = self._weights()
            self.losses.append(losses)
            self.scores.append({column: float(values[0]) for column, values in scores.items()})
            self._write()
            told(1)
        told(self.task.config.epochs - self.epoch)
        self.network.load_state_dict(self.best)
        self._write(done=True)
        fold = self.task.folds[self.fold]
        self.logits = {"val": self._predict(fold.val), "test": self._predict(fold.test)}

    def release(self) -> None:
        """Give back the memory that only training needs."""
        del self.network, self.optimizer, self.best, self.targets, self.observed

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def _train(self, stop: threading.Event) -> list[float]:
        """The T steps of an epoch: the masked mean of each batch before its step, [T]."""
        task, config = self.task, self.task.config
        shape = task.steps, config.batch_size
        plan = Plan(self.sampler, task.views, task.probabilities, [self.part], [self.streams], shape)
        pictures, codes = (found[:, 0] for found in plan.block(slice(0, task.steps)))
        for which, labels in enumerate((task.observed, task.targets)):
            self.drawn[which] += labels[pictures].sum((0, 1), dtype=np.int64)
        self.network.train()
        losses = []
        for step, rows in enumerate(self._read(codes)):
            if stop.is_set():
                raise _Stopped
            factor = self.schedule((self.epoch - 1) * task.steps + step, config.epochs * task.steps)
            losses.append(self._step(rows, torch.from_numpy(pictures[step]).to(task.device).long(), factor))
        return torch.stack(losses).tolist()

    def _read(self, codes: np.ndarray) -> Iterator[Tensor]:
        """Rows of each batch, read ahead by other threads."""
        read, upcoming = self.task.source, iter(codes)

        def more(count: int) -> Iterator[Future[np.ndarray]]:
            return (self.readers.submit(read, own, self.seed, self.epoch) for own in itertools.islice(upcoming, count))

        waiting = collections.deque(more(AHEAD))
        while waiting:
            rows = waiting.popleft().result()
            waiting.extend(more(1))
            yield self._rows(rows)

    def _rows(self, rows: np.ndarray) -> Tensor:
        found = torch.from_numpy(rows).to(self.task.device)
        return found if found.dtype == torch.uint8 else found.float()

    def _step(self, rows: Tensor, pictures: Tensor, factor: float) -> Tensor:
        """One update; gives the batch's masked mean before it."""
        config = self.task.config
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["rate"]
        self.optimizer.zero_grad()
        value = self._backward(rows, pictures)
        if config.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value

    def _backward(self, rows: Tensor, pictures: Tensor) -> Tensor:
        """Gradients of a batch, in as many parts as ``accumulate`` says; each part is divided by the whole weight."""
        targets, observed = self.targets[pictures].float(), self.observed[pictures]
        count = self.task.config.accumulate
        if count == 1:
            taught = {} if self.teacher is None else {"teacher": self.teacher[pictures]}
            value = self.objective(self._logits(rows), targets, observed, self.epoch, **taught)
            self.scaler.scale(value).backward()
            return value.detach()
        total = self.objective.fill(targets, observed)[1].sum()
        total = total + (total == 0)
        parts = []
        for own in zip(rows.chunk(count), targets.chunk(count), observed.chunk(count), strict=True):
            logits = self._logits(own[0])
            cells, weights = self.objective.policy(self.objective.loss, logits, *own[1:], self.epoch)
            part = (cells * weights).sum() / total
            self.scaler.scale(part).backward()
            parts.append(part.detach())
        return torch.stack(parts).sum()

    def _logits(self, rows: Tensor) -> Tensor:
        """Logits [B, A], float32."""
        enabled = self.precision is not torch.float32
        with torch.autocast(self.task.device.type, self.precision if enabled else None, enabled=enabled):
            logits = self.network(rows)
        return cast(Tensor, logits.float())

    def _predict(self, pictures: np.ndarray) -> np.ndarray:
        """Logits float32 [R, A] of undisturbed pictures."""
        self.network.eval()
        with torch.inference_mode():
            parts = [
                self._logits(self._rows(self.task.source.undisturbed(pictures[start : start + CHUNK])))
                for start in range(0, len(pictures), CHUNK)
            ]
            return torch.cat(parts).cpu().numpy()

    def probabilities(self) -> Tensor:
        """What the kept epoch says of the training rows, [N, A]; 0 for all other pictures."""
        every = torch.zeros(self.task.targets.shape)
        rows = self.task.folds[self.fold].train
        every[torch.from_numpy(rows)] = torch.from_numpy(self._predict(rows)).sigmoid()
        return every.to(self.task.device)

    def _check_finite(self, losses: Sequence[float]) -> None:
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            place = f"iteration {(self.epoch - 1) * self.task.steps + bad[0] + 1}"
            raise RunFailed(f"loss is not finite at epoch {self.epoch} (seed {self.seed}, fold {self.fold}, {place})")

    def _validate(self) -> dict[str, np.ndarray]:
        """The val_* columns [1]: loss, and macro metrics over what defines them."""
        task, rows = self.task, self.task.folds[self.fold].val
        logits, targets, observed = self._predict(rows), task.val_targets[rows], task.val_observed[rows]
        if not np.isfinite(logits).all():
            raise RunFailed(
                f"loss is not finite at epoch {self.epoch} (seed {self.seed}, fold {self.fold}, validation)"
            )
        own = [torch.from_numpy(each).to(task.device) for each in (logits, targets.astype(np.float32), observed)]
        loss = float(self.val_objective(own[0], own[1], own[2], self.epoch)) if observed.any() else np.nan
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        metrics = outcome.val_metrics(probability, targets, observed)
        return {"val_loss": np.array([loss])} | {column: values.reshape(1) for column, values in metrics.items()}

    def _write(self, *, done: bool = False) -> None:
        """Write the checkpoint; of a job that is done only what its results come from."""
        if self.file is None:
            return
        choice = self.choice
        training = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "streams": json.dumps([own.bit_generator.state for own in self._generators()]),
        }
        content = {
            "key": self.task.key,
            "done": done,
            "epoch": self.epoch,
            "best": self.best,
            "choice": [float(own[0]) for own in (choice.epoch, choice.active, choice.best, choice.waited)],
            "drawn": self.drawn.tolist(),
            "losses": self.losses,
            "scores": self.scores,
        }
        with atomic(self.file) as partial:
            torch.save(content if done else content | training, partial)

    def _generators(self) -> tuple[np.random.Generator, ...]:
        return self.streams.init, self.streams.sampler, self.streams.views

    def _take_up(self) -> None:
        """Go on from the checkpoint, if there is one of this run."""
        if self.file is None or not self.file.exists():
            return
        try:
            content: dict[str, Any] = torch.load(self.file, map_location=self.task.device, weights_only=True)
        except Exception as error:  # damaged files make unpicklers raise nearly anything
            logger.warning("%s is damaged, and that job begins anew: %s", self.file, " ".join(str(error).split())[:200])
            return
        if content["key"] != self.task.key:
            logger.warning(
                "%s is of another run or of another aimonk_bench or torch, and that job begins anew", self.file
            )
            return
        if not content["done"]:
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            for generator, state in zip(self._generators(), json.loads(content["streams"]), strict=True):
                generator.bit_generator.state = state
        choice = self.choice
        kept = (choice.epoch, choice.active, choice.best, choice.waited)
        for array, value in zip(kept, content["choice"], strict=True):
            array[0] = value
        self.epoch, self.best = content["epoch"], content["best"]
        self.drawn = np.array(content["drawn"], np.int64)
        self.losses, self.scores = content["losses"], content["scores"]
        logger.info("seed %d, fold %d goes on after epoch %d", self.seed, self.fold, self.epoch)


def _precision(asked: str, device: torch.device) -> torch.dtype:
    """The dtype of products; `auto` is float32 on a CPU, on CUDA bfloat16 where it is native, else float16."""
    if asked != "auto":
        return PRECISIONS[asked]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _outcome(task: Task, jobs: Sequence[_Job], attributes: Sequence[str]) -> Trained:
    """What the jobs, fold by fold and seed by seed, come to."""
    shape = len(task.folds), len(task.config.seeds)
    grid = [jobs[start : start + shape[1]] for start in range(0, len(jobs), shape[1])]
    ordered = [own[place] for place in range(shape[1]) for own in grid]  # by seed, then by fold
    drawn = np.stack([job.drawn for job in ordered], 1)
    rate = outcome.positive_rate(drawn[1], drawn[0]).reshape(*shape[::-1], -1)
    notes = outcome.sampler_notes(
        task.recipe[2].name, [fold.train for fold in task.folds], task.targets, task.observed, attributes
    )
    notes += outcome.selection_notes(
        task.config.select, [(job.seed, job.fold) for job in jobs], [bool(job.choice.scored[0]) for job in jobs]
    )
    if wants_teacher(task.recipe[1]):
        epochs, losses = ([getattr(job, f"teacher_{key}") for job in jobs] for key in ("epoch", "loss"))
        notes.append(outcome.teacher_note(task.recipe[1].name, epochs, losses))
    return Trained(
        logits=[{part: np.stack([job.logits[part] for job in own]) for part in ("val", "test")} for own in grid],
        history=outcome.history(
            [(job.seed, job.fold) for job in ordered],
            task.steps,
            [np.concatenate(job.losses) for job in ordered],
            [{key: np.array([own[key] for own in job.scores]) for key in job.scores[0]} for job in ordered],
        ),
        effective_positive_rate=rate,
        chosen_epoch=np.array([job.choice.epoch[0] for job in ordered]).reshape(shape[::-1]),
        tuning=None,
        notes=notes,
    )
