"""The stacked trainer: all heads (seeds x folds) of one run in one loop, each as if it were trained alone.

Heads are stacked fold by fold, S = F x S'. They cannot feel each other: per-head losses are summed, each divided by
its own observed weight; gradients are clipped per head; an epoch is chosen and training stopped per head (a stopped
head moves on but is no longer looked at); all take T = ceil(n/B) steps per epoch, n the run's largest training split;
and a head's randomness comes from its seed and fold alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aimonk_bench import registry
from aimonk_bench.config.schema import TrainConfig
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.evaluation.metrics import METRICS, macro
from aimonk_bench.registry import Spec
from aimonk_bench.training.batches import Features, Streams, plan
from aimonk_bench.training.heads import OPTIMIZERS, SCHEDULES, Heads, Selection, check_optimizer
from aimonk_bench.training.losses import LOSSES, bind, reduce
from aimonk_bench.training.missing import MISSING, check_missing, ignore
from aimonk_bench.training.samplers import SAMPLERS, check_sampler, left_out

CHUNK_BYTES = 64 << 20  # features gathered at once for validation and test rows
METRIC_COLUMNS = {"val_f1_default": "f1", "val_average_precision": "average_precision", "val_roc_auc": "roc_auc"}


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves.

    Attributes:
        logits: for each fold ``{"val": [S', Rv, A], "test": [S', Rt, A]}``: rows in the order of the fold, view 0,
            the chosen weights; in the dtype of the training.
        history: the columns of history.csv, sorted by seed (as configured), fold and iteration.
        effective_positive_rate: [S', F, A] share of positives among the observed labels drawn; NaN where none was.
        chosen_epoch: [S', F], from 1.
        notes: what the user should be told.
    """

    logits: list[dict[str, np.ndarray]]
    history: dict[str, np.ndarray]
    effective_positive_rate: np.ndarray
    chosen_epoch: np.ndarray
    notes: list[str]


def check(train: TrainConfig, missing: Spec, sampler: Spec, attributes: int) -> None:
    """Refuse what the number of attributes, or this machine, makes impossible, before any picture is read.

    Raises:
        UserError: all the problems.
    """
    problems: list[str] = []
    checks: list[Callable[[], object]] = [
        lambda: device_of(train.device),
        lambda: check_optimizer(train.optimizer),
        lambda: check_missing(missing, attributes),
        lambda: check_sampler(sampler, attributes, train.batch_size),
    ]
    for refuse in checks:
        try:
            refuse()
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)


def device_of(name: str) -> torch.device:
    """The device of this name; `auto` is CUDA where there is one.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"train.device: found {name!r}, expected auto or a device of this machine ({reason})"
        ) from error


def warm_up() -> None:
    """Build and discard an optimizer: the first of a process imports torch._dynamo, seconds that are not training."""
    torch.optim.SGD([torch.zeros(1)])


def train(
    features: np.ndarray | Tensor,
    index: np.ndarray,
    probabilities: np.ndarray,
    targets: np.ndarray,
    observed: np.ndarray,
    folds: Sequence[Fold],
    train: TrainConfig,
    loss: Spec,
    missing: Spec,
    sampler: Spec,
    *,
    attributes: Sequence[str],
    steps: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[str, int, int], None] | None = None,
) -> Trained:
    """Train a linear head for every seed and fold on stored features.

    Args:
        features: [R, D] rows of the store; of a memory map only the rows asked for are read.
        index: [V, N] the row of each picture in each view; view 0 is the undisturbed picture.
        probabilities: [V] of the views in training.
        targets: [N, A], not read where not observed.
        observed: [N, A] bool.
        folds: row numbers of the three parts, none of them empty.
        train: the training section of the config.
        loss: an entry of LOSSES.
        missing: an entry of MISSING.
        sampler: an entry of SAMPLERS.
        attributes: [A] names, for the notes.
        steps: T, if not ceil(n/B) with n the largest training split.
        dtype: of weights, losses and logits.
        progress: called with ("train", epochs done, epochs) after every epoch.

    Raises:
        RunFailed: a loss is not finite, or the sampler finds nothing to draw.
        UserError: what `check` refuses.
    """
    check(train, missing, sampler, len(attributes))
    store = Features(features, device_of(train.device), dtype)
    with _one_thread():
        run = _Run(store, index, probabilities, targets, observed, folds, train, loss, missing, sampler, steps)
        for epoch in range(1, train.epochs + 1):
            run.epoch(epoch)
            if progress is not None:
                progress("train", epoch, train.epochs)
            if not run.selection.active.any():
                break
        return run.trained(sampler, attributes)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The products of a step are small: a second thread gains little, on a busy machine waiting for it costs tenfold.

    Sums do not depend on the number of cores then, so neither do the results.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Run:
    """The state of one call of `train`; jobs, streams and every [S] array are fold by fold, seed by seed."""

    def __init__(
        self,
        store: Features,
        index: np.ndarray,
        probabilities: np.ndarray,
        targets: np.ndarray,
        observed: np.ndarray,
        folds: Sequence[Fold],
        train: TrainConfig,
        loss: Spec,
        missing: Spec,
        sampler: Spec,
        steps: int | None,
    ) -> None:
        self.store, self.index, self.probabilities, self.folds, self.config = store, index, probabilities, folds, train
        self.targets, self.observed = np.where(observed, targets, 0).astype(np.int8), np.array(observed, bool)
        self.steps = steps or -(-max(len(fold.train) for fold in folds) // train.batch_size)
        self.labels = torch.from_numpy(self.targets).to(store.device, store.dtype)
        self.known = torch.from_numpy(self.observed).to(store.device)

        self.jobs = [(seed, fold) for fold in range(len(folds)) for seed in train.seeds]
        self.streams = [Streams.of(seed, fold) for seed, fold in self.jobs]
        generators = [streams.init for streams in self.streams]
        self.heads = Heads.initial(targets.shape[1], store.size, generators, store.dtype, store.device)
        optimizer = registry.build("optimizer", OPTIMIZERS, train.optimizer)
        self.optimizer = optimizer([self.heads.weight, self.heads.bias], train.lr, train.weight_decay)
        self.schedule = registry.build("schedule", SCHEDULES, train.schedule)
        self.sampler = registry.build("sampler", SAMPLERS, sampler)
        self.missing = registry.build("missing-label policy", MISSING, missing)
        self.loss = bind(registry.build("loss", LOSSES, loss), *self._counts())
        self.selection = Selection(self.heads, last=train.select == "last", patience=train.patience)

        self.val_rows, self.val_known = self._padded([fold.val for fold in folds])
        self.drawn = np.zeros((len(self.jobs), len(targets)), np.int64)
        self.lengths = np.zeros(len(self.jobs), np.int64)
        self.losses: list[np.ndarray] = []
        self.scores: list[dict[str, np.ndarray]] = []

    def _counts(self) -> list[Tensor]:
        """Observed positives and negatives among the training rows of each head, both [S, 1, A]."""
        masks = self.observed & (self.targets == 1), self.observed & (self.targets == 0)
        counts = (np.stack([mask[self.folds[fold].train].sum(0) for _, fold in self.jobs]) for mask in masks)
        return [torch.from_numpy(count).to(self.labels).unsqueeze(1) for count in counts]

    def _padded(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Rows [F, R] of unequally long parts, each padded with its own; observed [F, R, A], false on the padding."""
        rows = np.stack([np.resize(part, max(map(len, parts))) for part in parts])
        known = np.zeros((*rows.shape, self.observed.shape[1]), bool)
        for fold, part in enumerate(parts):
            known[fold, : len(part)] = self.observed[part]
        return rows, known

    def epoch(self, epoch: int) -> None:
        """Train for T steps, score the validation rows, choose and stop."""
        active = self.selection.active.copy()
        losses = self._train(epoch)
        logits = self._logits(self.heads, self.val_rows)
        self._check_finite(losses, logits, epoch)
        scores = self._validate(logits, epoch)
        watched = f"val_{self.config.select}"
        self.selection.update(self.heads, epoch, scores[watched] if watched in METRIC_COLUMNS else -scores["val_loss"])
        self.lengths += active
        self.losses.append(losses.cpu().numpy())
        self.scores.append(scores)

    def _check_finite(self, losses: Tensor, logits: Tensor, epoch: int) -> None:
        """Fail over training losses [T, S] or validation logits [F, S', R, A], naming the first that is not finite."""
        finite = torch.cat([losses.isfinite(), logits.isfinite().flatten(2).all(-1).view(1, -1)])
        bad = ~finite.cpu().numpy() & self.selection.active
        if bad.any():
            step, head = np.argwhere(bad)[0]
            seed, fold = self.jobs[head]
            place = f"iteration {(epoch - 1) * self.steps + step + 1}" if step < self.steps else "validation"
            heads = f"{bad.any(0).sum()} of {len(self.jobs)} heads"
            raise RunFailed(f"loss is not finite at epoch {epoch} (seed {seed}, fold {fold}, {place}; {heads})")

    def _train(self, epoch: int) -> Tensor:
        """The T steps of an epoch: the masked mean of each batch before its step, [T, S]."""
        shape = (self.steps, self.config.batch_size)
        parts = [self.folds[fold].train for _, fold in self.jobs]
        pictures, views = plan(
            self.sampler, self.probabilities, self.targets, self.observed, parts, self.streams, shape
        )
        for head in np.flatnonzero(self.selection.active):
            self.drawn[head] += np.bincount(pictures[head].ravel(), minlength=len(self.targets))
        # [T, S, B], so that a step reads one contiguous slice
        stored = torch.from_numpy(self.index[views, pictures]).transpose(0, 1).contiguous()
        batches = torch.from_numpy(pictures).transpose(0, 1).contiguous().to(self.labels.device)
        first, total = (epoch - 1) * self.steps, self.config.epochs * self.steps
        losses = torch.empty(stored.shape[:2], dtype=self.labels.dtype, device=self.labels.device)
        for step in range(self.steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.lr * self.schedule(first + step, total)
            losses[step] = self._step(stored[step], batches[step], epoch)
        return losses

    def _step(self, stored: Tensor, pictures: Tensor, epoch: int) -> Tensor:
        """One step of all heads on rows [S, B] of the store; their losses before it, [S]."""
        logits = self.heads(self.store.take(stored))
        cells, weights = self.missing(self.loss, logits, self.labels[pictures], self.known[pictures], epoch)
        losses = reduce(cells, weights)
        self.optimizer.zero_grad()
        losses.sum().backward()
        if self.config.clip is not None:
            self.heads.clip_gradients(self.config.clip)
        self.optimizer.step()
        return losses.detach()

    @torch.no_grad()
    def _logits(self, heads: Heads, rows: np.ndarray) -> Tensor:
        """Logits of each fold's heads on its rows [F, R], view 0: [F, S', R, A]."""
        folds, count = rows.shape
        size = self.store.size
        weight, bias = heads.weight.reshape(folds, -1, size), heads.bias.reshape(folds, 1, -1)
        chunk = max(1, CHUNK_BYTES // (folds * size * self.labels.element_size()))
        stored = torch.from_numpy(self.index[0][rows])
        parts = [
            torch.baddbmm(bias, self.store.take(some), weight.transpose(1, 2)) for some in stored.split(chunk, dim=1)
        ]
        return torch.cat(parts, 1).view(folds, count, len(self.config.seeds), -1).transpose(1, 2)

    def _validate(self, logits: Tensor, epoch: int) -> dict[str, np.ndarray]:
        """The val_* columns [S]: loss over observed cells, macro metrics over the attributes that define them."""
        known = torch.from_numpy(self.val_known).to(logits.device).unsqueeze(1).expand(logits.shape)
        labels = self.labels[torch.from_numpy(self.val_rows)].unsqueeze(1).expand(logits.shape)
        stacked = [array.flatten(0, 1) for array in (logits, labels, known)]
        cells, weights = ignore(self.loss, stacked[0], stacked[1], stacked[2], epoch)
        loss = reduce(cells, weights).cpu().numpy()
        scores = {"val_loss": np.where(weights.cpu().numpy().any((1, 2)), loss, np.nan)}
        probability = logits.cpu().double().sigmoid().numpy()
        targets, observed = self.targets[self.val_rows][:, None], self.val_known[:, None]
        for column, metric in METRIC_COLUMNS.items():
            values = METRICS[metric](probability, targets, observed, 0.5)
            scores[column] = macro(values, ~np.isnan(values)).ravel()
        return scores

    def trained(self, sampler: Spec, attributes: Sequence[str]) -> Trained:
        """The outcome, once no epoch is left."""
        logits: list[dict[str, np.ndarray]] = [{} for _ in self.folds]
        for part in ("val", "test"):
            rows = [getattr(fold, part) for fold in self.folds]
            padded = self._logits(self.selection.heads, self._padded(rows)[0]).cpu().numpy()
            for fold, own in enumerate(rows):
                logits[fold][part] = padded[fold, :, : len(own)]
        known, positive = (self.drawn @ labels for labels in (self.observed, self.observed & (self.targets == 1)))
        rate = np.divide(positive, known, out=np.full(known.shape, np.nan), where=known > 0)
        shape = (len(self.folds), len(self.config.seeds))
        return Trained(
            logits=logits,
            history=self._history(),
            effective_positive_rate=rate.reshape(*shape, -1).swapaxes(0, 1),
            chosen_epoch=self.selection.epoch.reshape(shape).T,
            notes=self._notes(sampler, attributes),
        )

    def _history(self) -> dict[str, np.ndarray]:
        """The columns of history.csv; val_* stand on the last row of an epoch, NaN on the others."""
        heads = np.arange(len(self.jobs)).reshape(len(self.folds), -1).T.ravel()  # by seed, then by fold
        rows = self.lengths[heads] * self.steps
        seeds, folds = np.array(self.jobs).T[:, heads]
        step = np.concatenate([np.arange(count) for count in rows])
        head, epoch = np.repeat(heads, rows), step // self.steps
        columns = {
            "seed": np.repeat(seeds, rows),
            "fold": np.repeat(folds, rows),
            "iteration_number": step + 1,
            "epoch": epoch + 1,
            "training_loss": np.concatenate(self.losses)[step, head].astype(np.float64),
        }
        last = step % self.steps == self.steps - 1
        for column in self.scores[0]:
            values = np.stack([scores[column] for scores in self.scores])
            columns[column] = np.where(last, values[epoch, head].astype(np.float64), np.nan)
        return columns

    def _notes(self, sampler: Spec, attributes: Sequence[str]) -> list[str]:
        """Strata the sampler left out, and heads for which the metric that selects was never defined."""
        notes = []
        for number, fold in enumerate(self.folds):
            empty = left_out(sampler.name, self.targets[fold.train], self.observed[fold.train])
            notes += [
                f"fold {number}: sampler {sampler.name} leaves out {attributes[attribute]} = {value}, "
                "which no training row is known to have"
                for attribute, value in empty
            ]
        if self.config.select != "last":
            notes += [
                f"seed {seed}, fold {fold}: validation {self.config.select} was never defined, so every epoch was "
                "trained and the last one kept"
                for (seed, fold), scored in zip(self.jobs, self.selection.scored, strict=True)
                if not scored
            ]
        return notes
