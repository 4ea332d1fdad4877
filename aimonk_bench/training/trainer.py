"""The stacked trainer: all heads (seeds x folds) of one run in one loop, each as if it were trained alone.

Heads are stacked fold by fold, S = F x S'. They cannot feel each other: per-head losses are summed, each divided by
its own observed weight; gradients are clipped per head; an epoch is chosen and training stopped per head (a stopped
head moves on but is no longer looked at); all take T = ceil(n/B) steps per epoch, n the run's largest training split;
and a head's randomness comes from its seed and fold alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aimonk_bench import registry
from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.config.fields import TrainConfig, Tune
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import RunFailed
from aimonk_bench.registry import Spec
from aimonk_bench.training import outcome, tuning
from aimonk_bench.training.batches import Features, Part, Plan, Streams
from aimonk_bench.training.checks import check
from aimonk_bench.training.heads import OPTIMIZERS, SCHEDULES, Heads, Selection
from aimonk_bench.training.missing import Objective, closed, objective, wants_teacher
from aimonk_bench.training.outcome import Trained
from aimonk_bench.training.samplers import SAMPLERS, blocks
from aimonk_bench.training.steps import BLOCK_STEPS, Stepper, Threads
from aimonk_bench.training.tuning import Tuning

CHUNK_BYTES = 16 << 20  # features gathered at once for validation and test rows
CHUNK_CELLS = 1 << 18  # validation logits judged at once, by whole heads


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
    tune: Tune | None = None,
    val_observed: np.ndarray | None = None,
    steps: int | None = None,
    dtype: torch.dtype = torch.float32,
    spared: int = 0,
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
        loss: an elementwise or a set loss.
        missing: an entry of MISSING; one that wants a teacher is trained in two stages.
        sampler: an entry of SAMPLERS.
        attributes: [A] names, for the notes.
        tune: the section of the config: each head chooses a point of the product of its lists.
        val_observed: [N, A] bool, the labels that validation rows show, if not ``observed``.
        steps: T, if not ceil(n/B) with n the largest training split.
        dtype: of weights, losses and logits.
        spared: cores that something else is using.
        progress: called with ("train", epochs done, epochs) after every epoch.

    Raises:
        RunFailed: a loss is not finite (of a head that tunes: at every point), or the sampler finds nothing to draw.
        UserError: what `check` refuses.
    """
    check(train, loss, missing, sampler, len(attributes))
    seen = observed if val_observed is None else val_observed
    store, known = Features(features, torch.device(pick_device(train.device)), dtype), outcome.known(targets, observed)
    data = _Data(store, index, probabilities, *known, *outcome.known(targets, seen), folds)
    recipe = _Recipe(train, loss, missing, sampler, tune or Tune(), steps)
    # without automatic differentiation anywhere, torch need not prepare for it at each of its calls
    with Threads(spared) as threads, torch.inference_mode(closed(loss, missing)):
        return _completed(data, recipe, threads, progress).outcome(attributes)


def _completed(
    data: _Data, recipe: _Recipe, threads: Threads, progress: Callable[[str, int, int], None] | None
) -> _Run:
    """A run from start to end, after its teacher's if the policy wants one."""
    epochs, taught = recipe.train.epochs, wants_teacher(recipe.missing)

    def told(done: int) -> None:
        if progress is not None:
            progress("train", done, 2 * epochs if taught else epochs)

    first = None
    if taught:
        first = _Run(data, replace(recipe, missing=Spec("ignore")), threads, None)
        first.complete(told)
    run = _Run(data, recipe, threads, first)
    run.complete(lambda done: told(epochs + done if taught else done))
    return run


@dataclass(frozen=True, eq=False)
class _Data:
    """What there is to learn from; targets are 0 where they are not observed."""

    store: Features
    index: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    observed: np.ndarray
    val_targets: np.ndarray
    val_observed: np.ndarray
    folds: Sequence[Fold]

    def padded(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows [F, R] of a part, unequally long, each padded with its own; which of them are real [F, R]."""
        parts = [getattr(fold, part) for fold in self.folds]
        longest = max(map(len, parts))
        rows = np.stack([np.resize(own, longest) for own in parts])
        return rows, np.arange(longest) < np.array([[len(own)] for own in parts])

    def as_stored(self, rows: np.ndarray) -> np.ndarray:
        """These pictures in the order in which their view 0 lies in the store."""
        ordered: np.ndarray = rows[np.argsort(self.index[0][rows], kind="stable")]
        return ordered


@dataclass(frozen=True, eq=False)
class _Recipe:
    """How to learn."""

    train: TrainConfig
    loss: Spec
    missing: Spec
    sampler: Spec
    tune: Tune
    steps: int | None


class _Run:
    """The state of one stage of training.

    Jobs (J = F x S') and streams are fold by fold, seed by seed; each job is P heads in a row, one per grid point,
    which start alike and read the same batches; [S] arrays are over all S = J x P heads. After a first stage, the heads
    it leaves are the teachers of those that stand in the same places.
    """

    def __init__(self, data: _Data, recipe: _Recipe, threads: Threads, first: _Run | None) -> None:
        self.data, self.recipe, self.config, self.threads, self.first = data, recipe, recipe.train, threads, first
        self.steps = recipe.steps or -(-max(len(fold.train) for fold in data.folds) // self.config.batch_size)
        device, dtype = data.store.device, data.store.dtype
        self.jobs = [(seed, fold) for fold in range(len(data.folds)) for seed in self.config.seeds]
        self.grid = tuning.grid(self.config, recipe.tune)
        self.points = len(self.grid["train.lr"])
        self.streams = [Streams.of(seed, fold) for seed, fold in self.jobs]
        generators = [streams.init for streams in self.streams]
        start = Heads.initial(data.targets.shape[1], data.store.size, generators, dtype, device)
        self.heads = start.repeated(self.points)
        own = {key: np.tile(values, len(self.jobs)) for key, values in self.grid.items()}
        optimizer = registry.build("optimizer", OPTIMIZERS, self.config.optimizer)
        self.optimizer = optimizer(self.heads.both, own.pop("train.lr"), own.pop("train.weight_decay"))
        self.schedule = registry.build("schedule", SCHEDULES, self.config.schedule)
        in_blocks = self.config.order == "blocks"
        self.sampler = blocks if in_blocks else registry.build("sampler", SAMPLERS, recipe.sampler)
        positives, negatives = self._counts()
        options = {
            key.removeprefix("loss."): torch.from_numpy(values).to(positives).view(-1, 1, 1)
            for key, values in own.items()
        }
        self.objective = objective(recipe.loss, recipe.missing, positives, negatives, options)
        self._prepare_validation(positives, negatives, options)
        batch = len(self.jobs), self.config.batch_size
        self.stepper = Stepper(self.heads, self.optimizer, data.store, self.objective, batch, self.config.clip)
        targets, weights = torch.from_numpy(data.targets).to(device, dtype), torch.from_numpy(data.observed).to(device)
        if self.objective.slope is not None:
            targets, weights = self.objective.fill(targets, weights)
        self.labels = torch.cat([targets, weights.to(dtype)], 1)  # [N, 2 A]: one gather fetches both
        self.tally = outcome.Tally(data.targets, data.observed)
        rows = [data.as_stored(fold.train) if in_blocks else fold.train for fold in data.folds]
        self.parts = [Part(own, data.targets, data.observed) for own in rows]
        self.selection = Selection(self.heads, last=self.config.select == "last", patience=self.config.patience)
        self.teacher = None if first is None else first.probabilities()
        everyone = np.ones(len(self.heads.weight), bool)
        self.finite: np.ndarray = everyone if first is None else first.finite.copy()
        self.selection.active &= self.finite
        self.drawn = np.zeros((2, len(self.heads.weight), data.targets.shape[1]), np.int64)
        self.lengths = np.zeros(len(self.heads.weight), np.int64)
        self.losses: list[np.ndarray] = []
        self.scores: list[dict[str, np.ndarray]] = []

    def _prepare_validation(self, positives: Tensor, negatives: Tensor, options: dict[str, Tensor]) -> None:
        """The validation rows of each fold, and the objectives of as many heads as are judged at once."""
        self.val_rows, real = self.data.padded("val")
        self.val_known = self.data.val_observed[self.val_rows] & real[..., None]
        size = max(1, CHUNK_CELLS // self.val_known[0].size)
        self.val_objectives: list[tuple[slice, Objective]] = []
        for start in range(0, len(positives), size):
            heads = slice(start, min(start + size, len(positives)))
            own = {key: values[heads] for key, values in options.items()}
            judge = objective(self.recipe.loss, Spec("ignore"), positives[heads], negatives[heads], own)
            self.val_objectives.append((heads, judge))

    def _counts(self) -> tuple[Tensor, Tensor]:
        """Observed positives and negatives among the training rows of each head, both [S, 1, A]."""
        data = self.data
        found = np.array([outcome.counts(data.targets[own.train], data.observed[own.train]) for own in data.folds])
        both = torch.from_numpy(found[[fold for _, fold in self.jobs]]).to(self.heads.weight)
        positives, negatives = both.repeat_interleave(self.points, 0).split(1, 1)
        return positives, negatives

    def complete(self, told: Callable[[int], None]) -> None:
        """Train until no epoch or no head is left."""
        for epoch in range(1, self.config.epochs + 1):
            self._epoch(epoch)
            told(epoch)
            if not self.selection.active.any():
                break

    def _epoch(self, epoch: int) -> None:
        """Train for T steps, score the validation rows, choose and stop."""
        active = self.selection.active.copy()
        losses = self._train(epoch)
        logits = self._logits(self.heads, self.val_rows)
        self._check_finite(losses, logits, epoch)
        scores = self._validate(logits, epoch)
        self.selection.update(self.heads, epoch, outcome.watched(self.config.select, scores))
        self.lengths += active
        self.losses.append(losses.cpu().numpy())
        self.scores.append(scores)

    def _check_finite(self, losses: Tensor, logits: Tensor, epoch: int) -> None:
        """Drop heads whose training losses [T, S] or validation logits [F, S/F, R, A] are not finite.

        Fails where a job has no head left, naming the first value that is not finite.
        """
        finite = torch.cat([losses.isfinite(), logits.isfinite().flatten(2).all(-1).view(1, -1)])
        bad = ~finite.cpu().numpy() & self.selection.active
        self.finite &= ~bad.any(0)
        self.selection.active &= self.finite
        lost = ~self.finite.reshape(-1, self.points).any(1)
        if lost.any():
            step, head = np.argwhere(bad & np.repeat(lost, self.points))[0]
            seed, fold = self.jobs[head // self.points]
            place = f"iteration {(epoch - 1) * self.steps + step + 1}" if step < self.steps else "validation"
            heads = f"{lost.sum()} of {len(self.jobs)} heads"
            raise RunFailed(f"loss is not finite at epoch {epoch} (seed {seed}, fold {fold}, {place}; {heads})")

    def _train(self, epoch: int) -> Tensor:
        """The T steps of an epoch: the masked mean of each batch before its step, [T, S]."""
        data, shape = self.data, (self.steps, self.config.batch_size)
        parts = [self.parts[fold] for _, fold in self.jobs]
        plan = Plan(self.sampler, data.index, data.probabilities, parts, self.streams, shape)
        self._count(plan)
        losses = self.heads.weight.new_empty(self.steps, len(self.heads.weight))
        for start in range(0, self.steps, BLOCK_STEPS):
            block = slice(start, min(start + BLOCK_STEPS, self.steps))
            with self.threads.block(block.stop - start):
                pictures, stored = (torch.from_numpy(rows).to(self.labels.device) for rows in plan.block(block))
                self._block(pictures, stored.flatten(1), epoch, start, losses[block])
        return losses

    def _block(self, pictures: Tensor, stored: Tensor, epoch: int, start: int, losses: Tensor) -> None:
        """The steps from ``start`` on for pictures [T', J, B], rows of the store [T', J x B]; fills losses [T', S]."""
        first, total = (epoch - 1) * self.steps + start, self.config.epochs * self.steps
        factors = [self.schedule(first + step, total) for step in range(len(pictures))]
        for at in range(0, len(pictures), self.stepper.steps):
            own = slice(at, at + self.stepper.steps)
            drawn = pictures[own]
            labels = self.labels.index_select(0, drawn.flatten()).view(*drawn.shape, -1)
            if self.objective.slope is not None:
                self.stepper.closed(stored[own], labels, factors[own], losses[own])
            else:
                taught = self._taught(drawn)
                self.stepper.differentiated(stored[own], labels, factors[own], losses[own], epoch, taught)

    def _count(self, plan: Plan) -> None:
        """Add up the labels that an epoch draws."""
        self.drawn += self.tally(plan.orders).repeat(self.points, 1) * self.selection.active[:, None]

    def _taught(self, pictures: Tensor) -> dict[str, Tensor]:
        """What the heads of the first stage say of pictures [T', J, B], if there was one: ``teacher`` [T', S, B, A]."""
        if self.teacher is None:
            return {}
        heads = torch.arange(len(self.teacher), device=pictures.device)[:, None]
        own = pictures.long().repeat_interleave(self.points, 1)
        return {"teacher": self.teacher[heads, own].transpose(2, 3).contiguous().transpose(2, 3)}

    def probabilities(self) -> Tensor:
        """What the kept heads say of their training rows, view 0: [S, N, A], 0 for all other pictures."""
        data = self.data
        found = self._logits(self.selection.heads, data.padded("train")[0]).sigmoid()
        every = found.new_zeros(*found.shape[:2], len(data.targets), found.shape[-1])
        for fold, own in enumerate(data.folds):
            every[fold][:, torch.from_numpy(own.train)] = found[fold, :, : len(own.train)]
        return every.flatten(0, 1)

    def _logits(self, heads: Heads, rows: np.ndarray) -> Tensor:
        """Logits of each fold's heads, as many for each, on its rows [F, R], view 0: [F, S/F, R, A]."""
        store = self.data.store
        chunk = max(1, CHUNK_BYTES // (len(rows) * store.size * self.heads.weight.element_size()))
        stored = torch.from_numpy(self.data.index[0][rows])
        logits = heads.weight.new_empty(len(heads.weight), rows.shape[1], heads.weight.shape[1])
        for own, some in zip(logits.split(chunk, 1), stored.split(chunk, 1), strict=True):
            own.copy_(heads(store.take(some)))
        return logits.view(len(rows), -1, *logits.shape[1:])

    def _validate(self, logits: Tensor, epoch: int) -> dict[str, np.ndarray]:
        """The val_* columns [S] of logits [F, S/F, R, A]: loss, and macro metrics over what defines them."""
        heads = logits.flatten(0, 1)
        found = [self._judge(heads[own], own, judge, epoch) for own, judge in self.val_objectives]
        return {column: np.concatenate([scores[column] for scores in found]) for column in found[0]}

    def _judge(self, logits: Tensor, heads: slice, judge: Objective, epoch: int) -> dict[str, np.ndarray]:
        """The val_* columns of some heads."""
        folds = np.arange(heads.start, heads.stop) // (len(self.heads.weight) // len(self.data.folds))
        targets, observed = self.data.val_targets[self.val_rows[folds]], self.val_known[folds]
        labels, known = (torch.from_numpy(array).to(logits.device) for array in (targets, observed))
        loss = judge(logits, labels.to(logits), known, epoch)
        scores = {"val_loss": torch.where(known.any(-1).any(-1), loss, torch.nan).cpu().numpy()}
        return scores | outcome.val_metrics(logits.cpu().double().sigmoid().numpy(), targets, observed)

    def outcome(self, attributes: Sequence[str]) -> Trained:
        """The outcome, once no epoch is left: of each job the head of the point it chooses."""
        scores = self._scores()
        metric = tuning.metric_of(self.config)
        points = tuning.choose(-scores if metric == "loss" else scores, self.finite.reshape(scores.shape))
        chosen = np.arange(len(self.jobs)) * self.points + points
        shape = len(self.data.folds), len(self.config.seeds)
        known, positive = self.drawn[:, chosen]
        rate = outcome.positive_rate(positive, known)
        tuned = Tuning(
            metric=metric,
            points={key: self.grid[key] for key in self.recipe.tune},
            scores=scores.reshape(*shape, -1).T,
            chosen={key: self.grid[key][points].reshape(shape).T for key in self.recipe.tune},
        )
        return Trained(
            logits=self._predicted(self.selection.heads.some(chosen)),
            history=self._history(chosen),
            effective_positive_rate=rate.reshape(*shape, -1).swapaxes(0, 1),
            chosen_epoch=self.selection.epoch[chosen].reshape(shape).T,
            tuning=tuned if self.recipe.tune else None,
            notes=self._notes(attributes, chosen) + (self._tuning_notes(scores) if self.recipe.tune else []),
        )

    def _scores(self) -> np.ndarray:
        """The metric that chooses among the points, at the epoch each head keeps: [J, P]."""
        column = f"val_{tuning.metric_of(self.config)}"
        values = np.stack([scores[column] for scores in self.scores])
        own = values[self.selection.epoch - 1, np.arange(values.shape[1])].astype(np.float64)
        return np.where(self.finite, own, np.nan).reshape(-1, self.points)

    def _predicted(self, heads: Heads) -> list[dict[str, np.ndarray]]:
        """Logits of the validation and test rows of every fold."""
        logits: list[dict[str, np.ndarray]] = [{} for _ in self.data.folds]
        for part in ("val", "test"):
            padded = self._logits(heads, self.data.padded(part)[0]).cpu().numpy()
            for fold, own in enumerate(self.data.folds):
                logits[fold][part] = padded[fold, :, : len(getattr(own, part))]
        return logits

    def _history(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of history.csv for the chosen heads [J]; val_* stand on the last row of an epoch, else NaN."""
        order = np.arange(len(chosen)).reshape(len(self.data.folds), -1).T.ravel()  # by seed, then by fold
        losses = np.stack(self.losses)
        scores = {key: np.stack([own[key] for own in self.scores]) for key in self.scores[0]}
        epochs = [(head, self.lengths[head]) for head in chosen[order]]
        return outcome.history(
            [self.jobs[job] for job in order],
            self.steps,
            [losses[:count, :, head].ravel() for head, count in epochs],
            [{key: values[:count, head] for key, values in scores.items()} for head, count in epochs],
        )

    def _notes(self, attributes: Sequence[str], chosen: np.ndarray) -> list[str]:
        """Strata the sampler left out, heads whose epoch no score chose, and what the first stage came to."""
        data, parts = self.data, [fold.train for fold in self.data.folds]
        notes = outcome.sampler_notes(self.recipe.sampler.name, parts, data.targets, data.observed, attributes)
        notes += outcome.selection_notes(self.config.select, self.jobs, self.selection.scored[chosen])
        if self.first is not None:
            epochs, losses = self.first.selection.epoch[chosen], self.first.last_losses()[chosen]
            notes.append(outcome.teacher_note(self.recipe.missing.name, epochs, losses))
        return notes

    def last_losses(self) -> np.ndarray:
        """The mean training loss of each head's last epoch: [S]."""
        means = np.stack([losses.mean(0) for losses in self.losses])
        last: np.ndarray = means[self.lengths - 1, np.arange(means.shape[1])]
        return last

    def _tuning_notes(self, scores: np.ndarray) -> list[str]:
        """Points lost because they diverged, and jobs that no score [J, P] helped to choose."""
        notes = [
            f"tune: {lost} of {len(self.jobs)} heads were not finite and could not be chosen at "
            + ", ".join(f"{key} {values[point]:g}" for key, values in self.grid.items())
            for point, lost in enumerate((~self.finite).reshape(scores.shape).sum(0))
            if lost
        ]
        return notes + [
            f"seed {seed}, fold {fold}: validation {tuning.metric_of(self.config)} is defined at no point of tune, so "
            "the first was taken"
            for (seed, fold), own in zip(self.jobs, scores, strict=True)
            if np.isnan(own).all()
        ]
