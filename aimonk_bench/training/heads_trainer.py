"""Linear heads on stored features: all seeds, folds and tuned settings of a run in one loop, as if trained one by one.

No head influences another: the losses of all heads are summed, each divided by the weights of its own labels;
gradients are clipped per head; every head chooses its epoch and stops alone (a stopped head is still updated, but no
result reads it); all heads take T steps per epoch; a head's random numbers depend on its seed and fold alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from aimonk_bench import registry
from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.backbones.threads import torch_threads
from aimonk_bench.data.labels import Labels
from aimonk_bench.progress import Progress
from aimonk_bench.records.weights import HeadWeights
from aimonk_bench.training import optimizers, tuning
from aimonk_bench.training.batches import EpochBatches, Features
from aimonk_bench.training.fit import EpochCounter, TrainingStage, fit_stages
from aimonk_bench.training.heads import Heads
from aimonk_bench.training.initial_bias import initial_bias
from aimonk_bench.training.objective import BlockLoss
from aimonk_bench.training.optimizers import OPTIMIZERS, decay_share
from aimonk_bench.training.outcome import Trained, assemble
from aimonk_bench.training.recipe import Recipe, TrainingData, check
from aimonk_bench.training.stack import Stack
from aimonk_bench.training.state import FitState
from aimonk_bench.training.tuning import Tuning

BLOCK_ELEMENTS = 1 << 20  # labels of consecutive batches gathered and filled at once
AVERAGING_POWER = 3  # eta of arXiv 1212.1824


def train_heads(
    features: np.ndarray | Tensor,
    index: np.ndarray,
    data: TrainingData,
    recipe: Recipe,
    *,
    steps: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Trained:
    """Train a linear head for every seed and fold on stored features.

    Args:
        features: [rows, D] the feature matrix; of a memory map only the rows of the batches are read.
        index: [V, N] the row of each image in each view; view 0 is the unaugmented image.
        data: labels, folds and views.
        recipe: loss, policy, sampler and options of training.
        steps: T, if not ceil(n/B) with n the largest training split.
        dtype: of weights, losses and logits.
        progress: called with ("train", epochs done, epochs) after every epoch.

    Raises:
        RunFailed: the loss of a job is not finite (of a job with tuned settings, at every setting), or the sampler has
            no row to draw.
        UserError: `recipe.check` refuses the recipe.
    """
    check(recipe, data.train_labels.shape[1])
    config, device = recipe.train, torch.device(pick_device(recipe.train.device))
    jobs = recipe.jobs(len(data.folds))
    stack = Stack(data, recipe, jobs, device, dtype, steps, storage=index[0])
    matrix = Features(features, device, dtype)
    counter = EpochCounter(recipe.epochs, progress)
    with torch_threads(recipe.threads or 1), torch.no_grad():  # a step is small; threads that wait cost more
        fitted = fit_stages(stack, lambda stage: (StackedHeads(stack, stage, matrix, index), None), counter)
        scores = _scores(stack, fitted.state)
        ranked = tuning.ranked(scores, tuning.metric_of(config), tuning.steps(config, recipe.tune))
        points = tuning.choose(ranked, fitted.state.finite.reshape(scores.shape))
        chosen = np.arange(len(jobs)) * stack.points + points
        outcomes, weights = fitted.outcomes(chosen), fitted.learner.weights(chosen)
    if not recipe.tune:
        return replace(assemble(outcomes, recipe, stack.steps), heads=weights)
    shape = len(data.folds), len(config.seeds)
    tuned = Tuning(
        metric=tuning.metric_of(config),
        points={key: stack.settings[key] for key in recipe.tune},
        scores=scores.reshape(*shape, -1).T,
        chosen={key: stack.settings[key][points].reshape(shape).T for key in recipe.tune},
    )
    notes = _tuning_notes(stack, fitted.state.finite, scores)
    return replace(assemble(outcomes, recipe, stack.steps, tuned, notes), heads=weights)


def logits_of(
    heads: HeadWeights,
    fold: int,
    features: np.ndarray | Tensor,
    index: np.ndarray,
    rows: np.ndarray,
    device: str = "cpu",
) -> np.ndarray:
    """Logits [S, R, A] of the saved heads of a fold for unaugmented images.

    Of the heads of a run, for all validation rows or all test rows of the fold, they are bit for bit those of
    training on the same machine and device. Other heads and rows may differ in the last bits, as a product of another
    shape adds in another order.

    Args:
        heads: as `weights.read_heads` reads them.
        fold: its number.
        features: [rows, D] the feature matrix.
        index: [V, N] the row of each image in each view; view 0 is the unaugmented image.
        rows: [R] numbers of images.
        device: where the heads were trained.
    """
    place = torch.device(pick_device(device))
    weight, bias = (torch.tensor(array[:, fold], device=place) for array in (heads.weight, heads.bias))
    with torch_threads(1), torch.no_grad():
        matrix = Features(features, place, weight.dtype)
        return Heads(weight, bias.unsqueeze(1)).predict(matrix, torch.from_numpy(index[0][rows])).cpu().numpy()


class StackedHeads:
    """The `Learner` of linear heads: a step is one gather, two matrix products and one update.

    With `train.averaging: polynomial` the head that predicts, and is kept, is an average of the heads at the end of
    each epoch so far (Polyak averaging). In the average over e epochs the weight of epoch i grows about as i to the
    power of `AVERAGING_POWER` (polynomial-decay averaging, Shamir and Zhang, arXiv 1212.1824). The steps of training do
    not read the average.

    Args:
        stack: the heads.
        stage: missing-label policy and teacher.
        features: the matrix.
        index: [V, N] the row of each view and image in it.
    """

    def __init__(self, stack: Stack, stage: TrainingStage, features: Features, index: np.ndarray) -> None:
        self._stack, self._features, self._index = stack, features, index.astype(np.int32, copy=False)
        generators = [rngs.init for rngs in stack.rngs()]
        of_jobs = Heads.initial(stack.attributes, features.size, generators, stack.dtype, stack.device)
        self._heads = of_jobs.repeated(stack.points)
        self._heads.bias.copy_(initial_bias(stack, stage.missing, self._heads.bias))
        self._predicting = self._heads if stack.recipe.train.averaging == "none" else self._heads.copy()
        self._chosen_heads = self._heads.copy()
        optimizer = registry.build("optimizer", OPTIMIZERS, stack.recipe.train.optimizer)
        weight, bias = self._heads.weight, self._heads.bias
        self._gradients = [torch.empty_like(weight), torch.empty_like(bias)]
        rate, decay = stack.per_head("train.lr"), stack.per_head("train.weight_decay")
        decay = decay * decay_share(stack.recipe.train.optimizer.name, stack.attributes)
        self._moves = [
            optimizer([weight], self._gradients[:1], rate, decay),
            optimizer([bias], self._gradients[1:], rate, torch.zeros_like(decay)),
        ]
        self._objective = stack.objective(stage.missing)
        self._teacher_probabilities = stage.teacher_probabilities
        self._labels = stack.tensors(stack.data.train_labels)

    def train_epoch(self, epoch: int, batches: EpochBatches) -> Tensor:
        """Take the T steps of an epoch: losses [T, H]."""
        stack = self._stack
        size = max(1, BLOCK_ELEMENTS // (stack.heads * batches.images[0, 0].size * stack.attributes))
        blocks = (slice(start, start + size) for start in range(0, stack.steps, size))
        losses = torch.cat([self._train_block(epoch, block, batches) for block in blocks])
        if stack.recipe.train.averaging != "none":
            self._predicting.approach(self._heads, (AVERAGING_POWER + 1) / (AVERAGING_POWER + epoch))
        return losses

    def _train_block(self, epoch: int, block: slice, batches: EpochBatches) -> Tensor:
        """Take some of the steps of an epoch: losses [T', H]."""
        stack, config = self._stack, self._stack.recipe.train
        images = torch.from_numpy(batches.images[block]).to(stack.device)
        rows = torch.from_numpy(self._index[batches.views[block], batches.images[block]]).to(stack.device)
        loss = BlockLoss(self._objective, self._labels_of(images), epoch, self._teacher_of(images))
        first, total = (epoch - 1) * stack.steps + block.start, config.epochs * stack.steps
        for step in range(len(images)):
            features = self._features.take(rows[step])
            self._heads.gradients(loss.grad(step, self._heads.logits(features)), features, self._gradients)
            if config.clip is not None:
                optimizers.clip(self._gradients, config.clip)
            for move in self._moves:
                move(stack.schedule(first + step, total))
        return loss.values()

    def _labels_of(self, images: Tensor) -> Labels:
        """Labels [T', H, B, A] of images [T', J, B]."""
        flat = images.flatten()

        def gather(table: Tensor) -> Tensor:
            of_jobs = table.index_select(0, flat).view(*images.shape, -1)
            return of_jobs if self._stack.points == 1 else of_jobs.repeat_interleave(self._stack.points, 1)

        return Labels(gather(self._labels.targets), gather(self._labels.observed))

    def _teacher_of(self, images: Tensor) -> Tensor | None:
        """The teacher's probabilities [T', H, B, A] for images [T', J, B]."""
        if self._teacher_probabilities is None:
            return None
        heads = torch.arange(self._stack.heads, device=images.device)[:, None]
        return self._teacher_probabilities[heads, images.long().repeat_interleave(self._stack.points, 1)]

    def predict(self, heads: slice | np.ndarray, rows: np.ndarray) -> Tensor:
        """Logits [heads, R, A] of some heads for unaugmented images."""
        return self._predicting[heads].predict(self._features, torch.from_numpy(self._index[0][rows]))

    def weights(self, heads: np.ndarray) -> HeadWeights:
        """The weights with which one head of each job predicts: ``heads`` [J]."""
        chosen, shape = self._predicting[heads], (len(self._stack.folds), -1)
        weight, bias = (
            tensor.unflatten(0, shape).swapaxes(0, 1).cpu().numpy()
            for tensor in (chosen.weight, chosen.bias.squeeze(1))
        )
        return HeadWeights(weight, bias)

    def keep(self, heads: np.ndarray) -> None:
        """Copy the weights of these heads, [H] bool."""
        numbers = torch.from_numpy(np.flatnonzero(heads)).to(self._stack.device)
        self._chosen_heads.weight[numbers] = self._predicting.weight[numbers]
        self._chosen_heads.bias[numbers] = self._predicting.bias[numbers]

    def restore(self) -> None:
        """Take the copies as the weights."""
        self._predicting = self._chosen_heads


def _scores(stack: Stack, state: FitState) -> np.ndarray:
    """The metric that chooses among the settings, at each head's chosen epoch: [J, P]."""
    column = f"val_{tuning.metric_of(stack.recipe.train)}"
    by_epoch = np.stack([scores[column] for scores in state.scores])
    values = by_epoch[state.selection.epoch - 1, np.arange(stack.heads)].astype(np.float64)
    return np.where(state.finite, values, np.nan).reshape(-1, stack.points)


def _tuning_notes(stack: Stack, finite: np.ndarray, scores: np.ndarray) -> list[str]:
    """Notes on settings that diverged, and on jobs without a defined score [J, P]."""
    diverged = (~finite).reshape(scores.shape).sum(0)
    notes = [
        f"tune: {count} of {len(stack.jobs)} heads were not finite and could not be chosen at "
        + ", ".join(f"{key} {values[point]:g}" for key, values in stack.settings.items())
        for point, count in enumerate(diverged)
        if count
    ]
    folds = sorted({fold for (_, fold), values in zip(stack.jobs, scores, strict=True) if np.isnan(values).all()})
    if folds:
        where, metric = ", ".join(map(str, folds)), tuning.metric_of(stack.recipe.train)
        notes.append(f"fold {where}: validation {metric} is defined at no setting of tune: the first one was chosen")
    return notes
