"""Fine-tuning: the trainable layers of a network and a linear head, end to end, for seeds in folds.

Samplers, missing-label policies, losses, random generators, the choice of an epoch and the history are those of
`heads_trainer`; a job (a seed in a fold) is a stack of one head on its own copy of the network. On a CPU one job per
core trains at a time and torch's threads are divided among them, which is faster than one job with all threads.
BatchNorm is in train mode in the trainable layers and in eval mode in the frozen layers.
"""

from __future__ import annotations

import collections
import copy
import functools
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import aimonk_bench
from aimonk_bench.backbones.device_memory import AtOnce
from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.backbones.threads import torch_threads
from aimonk_bench.data.labels import Labels
from aimonk_bench.progress import Progress
from aimonk_bench.records import weights
from aimonk_bench.records.environment import cores
from aimonk_bench.records.weights import NetworkWeights
from aimonk_bench.training import optimizers
from aimonk_bench.training.batches import EpochBatches
from aimonk_bench.training.fit import EpochCounter, TrainingStage, fit_stages
from aimonk_bench.training.heads import Heads
from aimonk_bench.training.initial_bias import initial_bias
from aimonk_bench.training.objective import normalise
from aimonk_bench.training.out_of_memory import in_memory
from aimonk_bench.training.outcome import JobOutcome
from aimonk_bench.training.recipe import Job, Recipe, TrainingData
from aimonk_bench.training.sources import Source
from aimonk_bench.training.stack import Stack
from aimonk_bench.training.state import Checkpoint

BATCHES_AHEAD = 4  # that each job reads ahead
CHUNK_ROWS = 32  # images predicted at once, unless memory is short
NETWORK = "network."  # timm's network among the layers; what it names is under timm's names in a saved network
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Scratch:
    """Where jobs write checkpoints and networks.

    Attributes:
        folder: it is made where it is absent.
        key: names the run: a checkpoint of another run, or of other versions of this package and torch, is not loaded.
        keep: writes each network in its chosen epoch beside its checkpoint, with this name for the head; None writes
            none.
    """

    folder: Path
    key: str = ""
    keep: str | None = None

    @property
    def checkpoint_key(self) -> str:
        """What a checkpoint must have been written under."""
        return f"{self.key}, aimonk_bench {aimonk_bench.__version__}, torch {torch.__version__}"


@dataclass(frozen=True, eq=False)
class Shared:
    """The inputs and resources that all jobs share.

    Attributes:
        source: reads the inputs of the trainable layers.
        layers: the pretrained trainable layers: inputs [B, D] -> pooled features [B, C]. A job trains a copy of them.
        features: C.
        readers: the threads that read inputs.
        training, predicting: images at once.
        scratch: None writes nothing.
        stop: set when the jobs that still train shall end.
    """

    source: Source
    layers: nn.Module
    features: int
    readers: ThreadPoolExecutor
    training: AtOnce
    predicting: AtOnce
    scratch: Scratch | None = None
    stop: threading.Event = field(default_factory=threading.Event)


class Stopped(Exception):
    """A job ended early because another one failed or the user interrupted."""


def fine_tune(
    source: Source,
    data: TrainingData,
    recipe: Recipe,
    *,
    layers: nn.Module,
    scratch: Scratch | None = None,
    progress: Progress | None = None,
    jobs: Sequence[Job] | None = None,
) -> list[JobOutcome]:
    """Train the trainable layers and a linear head for seeds in folds; `outcome.assemble` puts all of a run together.

    Args:
        source: reads the inputs of the layers.
        data: labels, folds and views.
        recipe: loss, policy, sampler and options of training, which `recipe.check` has passed; without ``tune``.
        layers: the pretrained layers that are not frozen: inputs [B, D] -> pooled features [B, C].
        scratch: for checkpoints and networks; None writes nothing.
        progress: called with ("train", epochs done, epochs), summed over the jobs, after every epoch.
        jobs: what to train; None: every seed in every fold. What a job leaves does not depend on the others.

    Raises:
        RunFailed: a loss is not finite, or the sampler finds nothing to draw.
        ValueError: networks are to be averaged over epochs, which only stacked heads are.
    """
    if recipe.train.averaging != "none":
        raise ValueError(f"train.averaging: found {recipe.train.averaging!r}, expected 'none' for networks")
    cv2.setNumThreads(1)  # the threads that read use the cores already
    device = torch.device(pick_device(recipe.train.device))
    if scratch is not None:
        scratch.folder.mkdir(parents=True, exist_ok=True)
    all_jobs = recipe.jobs(len(data.folds))
    trained = all_jobs if jobs is None else jobs
    side_by_side, threads = _parallel(len(trained), len(all_jobs), device, recipe)
    share = recipe.cores.share or cores()
    with torch_threads(threads), ThreadPoolExecutor(share) as readers, ThreadPoolExecutor(side_by_side) as pool:
        layers = layers.eval().to(device).to(memory_format=torch.channels_last)
        stacks = [Stack(data, recipe, [job], device, torch.float32) for job in trained]
        count_epochs = EpochCounter(len(stacks) * recipe.epochs, progress)
        count_epochs(0)
        with torch.inference_mode():
            features = layers(_inputs(source.unaugmented(np.zeros(1, np.int64)), device)).shape[-1]
        at_once = AtOnce(-(-recipe.train.batch_size // recipe.train.accumulate), "training")
        shared = Shared(source, layers, features, readers, at_once, _predicting(), scratch)
        futures = [pool.submit(_train_job, stack, shared, count_epochs) for stack in stacks]
        return _results(futures, shared.stop)


def machine_cores() -> int:
    """The cores of this machine that torch's threads are to use; where two share a physical core it is one of them."""
    return min(torch.get_num_threads(), cores())


def _threads(jobs: int, device: torch.device, recipe: Recipe) -> int:
    """torch's threads for each of the jobs of a run, whichever are trained, on every share of the cores."""
    machine = recipe.cores.machine or machine_cores()
    return recipe.threads or (machine // min(jobs, machine) if device.type == "cpu" else machine)


def _parallel(trained: int, jobs: int, device: torch.device, recipe: Recipe) -> tuple[int, int]:
    """How many of the jobs to train, of all jobs of the run, train side by side, and torch's threads for each."""
    threads, share = _threads(jobs, device, recipe), recipe.cores.share or cores()
    return max(1, min(trained, share // threads)) if device.type == "cpu" else 1, threads


def _results(futures: list[Future[JobOutcome]], stop: threading.Event) -> list[JobOutcome]:
    """Wait for all jobs; stop the others when one fails or the user interrupts."""
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()
        for future in futures:
            future.cancel()
    ended = [future for future in futures if not future.cancelled()]
    failures = [error for future in ended if (error := future.exception()) and not isinstance(error, Stopped)]
    if failures:
        raise failures[0]
    return [future.result() for future in futures]


def _train_job(stack: Stack, shared: Shared, count_epochs: EpochCounter) -> JobOutcome:
    """Train one job, in one stage or in two."""
    [(seed, fold)] = stack.jobs
    scratch = shared.scratch

    def start(stage: TrainingStage) -> tuple[FineTunedNetwork, Checkpoint | None]:
        network = FineTunedNetwork(stack, stage, shared)
        if scratch is None:
            return network, None
        name = "-".join(filter(None, (f"fold{fold}", f"seed{seed}", stage.name)))
        return network, Checkpoint(scratch.folder / f"{name}.pt", scratch.checkpoint_key, network, stack.device)

    fitted = fit_stages(stack, start, count_epochs)
    (outcome,) = fitted.outcomes(np.zeros(1, int))
    if scratch is not None and scratch.keep is not None:
        file = scratch.folder / weights.network_file(fold, seed)
        weights.write_network(file, fitted.learner.weights(), scratch.keep)
    return outcome


class FineTunedNetwork:
    """The `Learner` of one network with its linear head, H = 1.

    Args:
        stack: of a single job.
        stage: missing-label policy and teacher.
        shared: by all jobs.
    """

    def __init__(self, stack: Stack, stage: TrainingStage, shared: Shared) -> None:
        self._stack, self._shared, self.device = stack, shared, stack.device
        [(self._seed, self._fold)] = stack.jobs
        config = stack.recipe.train
        head = nn.Linear(shared.features, stack.attributes)
        initial = Heads.initial(stack.attributes, shared.features, [stack.rngs()[0].init])
        bias = initial_bias(stack, stage.missing, initial.bias.to(stack.device))
        head.load_state_dict({"weight": initial.weight[0], "bias": bias[0, 0]})
        layers, head = copy.deepcopy(shared.layers), head.to(stack.device)
        self._network = nn.Sequential(collections.OrderedDict(layers=layers, head=head))
        self._optimizer = optimizers.of_network(layers, head, config)
        self._precision = _precision(config.precision, stack.device)
        self._scaler = torch.amp.GradScaler(stack.device.type, enabled=self._precision is torch.float16)
        self._objective = stack.objective(stage.missing)
        self._teacher_probabilities = stage.teacher_probabilities
        self._labels = stack.tensors(stack.data.train_labels)
        self._chosen_weights: dict[str, Tensor] = {}

    def train_epoch(self, epoch: int, batches: EpochBatches) -> Tensor:
        """Take the T steps of an epoch: losses [T, 1]."""
        stack, config = self._stack, self._stack.recipe.train
        first, total = (epoch - 1) * stack.steps, config.epochs * stack.steps
        self._network.train()
        losses = []
        for step, inputs in enumerate(self._read(batches, epoch)):
            if self._shared.stop.is_set():
                raise Stopped
            images = torch.from_numpy(batches.images[step, 0]).to(self.device).long()
            losses.append(self._step(inputs, images, epoch, stack.schedule(first + step, total)))
        return torch.stack(losses)

    def _read(self, batches: EpochBatches, epoch: int) -> Iterator[Tensor]:
        """The inputs of every batch, which other threads read ahead."""
        upcoming = zip(batches.views[:, 0], batches.images[:, 0], strict=True)

        def submit(count: int) -> Iterator[Future[np.ndarray]]:
            for views, images in itertools.islice(upcoming, count):
                yield self._shared.readers.submit(self._shared.source, views, images, self._seed, epoch)

        waiting = collections.deque(submit(BATCHES_AHEAD))
        while waiting:
            inputs = waiting.popleft().result()
            waiting.extend(submit(1))
            yield _inputs(inputs, self.device)

    def _step(self, inputs: Tensor, images: Tensor, epoch: int, factor: float) -> Tensor:
        """Take one step. Returns the loss [1] of the batch before the step."""
        config = self._stack.recipe.train
        for group in self._optimizer.param_groups:
            group["lr"] = factor * group["rate"]
        backward = functools.partial(self._backward, inputs, images, epoch)
        value = in_memory(backward, self._network, self._stack.recipe, self._shared.training)
        if config.clip is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._network.parameters(), config.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return value

    def _backward(self, inputs: Tensor, images: Tensor, epoch: int, at_once: int) -> Tensor:
        """Compute the gradients of a batch, ``at_once`` images in a part. Returns its loss [1].

        Weights are normalised over the whole batch, so that the parts sum to its mean.
        """
        self._optimizer.zero_grad()
        labels = Labels(self._labels.targets[images][None], self._labels.observed[images][None])
        teacher = None if self._teacher_probabilities is None else self._teacher_probabilities[:, images]
        if at_once >= len(images):
            value = self._objective(self._logits(inputs), labels, epoch, teacher)
            self._scaler.scale(value.sum()).backward()
            return value.detach()
        targets, weights, _ = self._objective.fill(labels, None, epoch, teacher)
        values = []
        chunks = inputs.split(at_once), targets.split(at_once, 1), normalise(weights).split(at_once, 1)
        for part_inputs, part_targets, part_weights in zip(*chunks, strict=True):
            value = (self._objective.loss(self._logits(part_inputs), part_targets) * part_weights).sum()
            self._scaler.scale(value).backward()
            values.append(value.detach())
        return torch.stack(values).sum(0, keepdim=True)

    def _logits(self, inputs: Tensor) -> Tensor:
        """Logits [1, B, A], float32."""
        return _logits(self._network, inputs, self._precision, self.device)

    def predict(self, heads: slice | np.ndarray, rows: np.ndarray) -> Tensor:
        """Logits [1, R, A] of unaugmented images by the single head."""
        shared = self._shared
        return _predict(self._network, shared.source, rows, self._precision, shared.predicting)

    def weights(self) -> NetworkWeights:
        """The present weights; the names of the layers are timm's."""
        layers, head = (
            {name: tensor.cpu().numpy() for name, tensor in self._network.get_submodule(part).state_dict().items()}
            for part in ("layers", "head")
        )
        named = {name.removeprefix(NETWORK): tensor for name, tensor in layers.items()}
        return NetworkWeights(named, head["weight"], head["bias"])

    def keep(self, heads: np.ndarray) -> None:
        """Copy the weights if the single head chose this epoch: ``heads`` [1]."""
        if heads[0]:
            self._chosen_weights = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}

    def restore(self) -> None:
        """Load the copy."""
        self._network.load_state_dict(self._chosen_weights)

    def state_dict(self, *, done: bool) -> dict[str, Any]:
        """For a checkpoint: the weights of the chosen epoch, and unless training is done the state to continue from."""
        if done:
            return {"chosen_weights": self._chosen_weights}
        return {
            "chosen_weights": self._chosen_weights,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self._chosen_weights = state["chosen_weights"]
        if "network" in state:
            self._network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])


def logits_of(
    network: NetworkWeights, layers: nn.Module, source: Source, rows: np.ndarray, recipe: Recipe, jobs: int
) -> np.ndarray:
    """Logits [R, A] of a saved network for unaugmented images: on the same machine, bit for bit those of its training.

    Args:
        network: as `weights.read_network` reads it.
        layers: as `fine_tune` got them; they take the weights of the network.
        source: reads the inputs of the layers.
        rows: [R] numbers of images: all validation rows of the network's fold, or all its test rows.
        recipe: of the run.
        jobs: F x S, which decides the number of torch's threads unless the recipe does.
    """
    cv2.setNumThreads(1)
    device = torch.device(pick_device(recipe.train.device))
    head = nn.Linear(network.weight.shape[1], len(network.bias))
    head.load_state_dict({"weight": torch.tensor(network.weight), "bias": torch.tensor(network.bias)})
    names = {name.removeprefix(NETWORK): name for name in layers.state_dict()}
    layers.load_state_dict({names.get(name, name): torch.tensor(tensor) for name, tensor in network.layers.items()})
    whole = nn.Sequential(layers.to(device).to(memory_format=torch.channels_last), head.to(device))
    with torch_threads(_threads(jobs, device, recipe)):
        return _predict(whole, source, rows, _precision(recipe.train.precision, device), _predicting())[0].cpu().numpy()


def _predicting() -> AtOnce:
    return AtOnce(CHUNK_ROWS, "predicting")


def _predict(network: nn.Module, source: Source, rows: np.ndarray, precision: torch.dtype, at_once: AtOnce) -> Tensor:
    """Logits [1, R, A] of unaugmented images."""
    network.eval()
    device = next(network.parameters()).device

    def logits(part: np.ndarray) -> Tensor:
        return _logits(network, _inputs(source.unaugmented(part), device), precision, device)

    with torch.inference_mode():
        return torch.cat(list(at_once.map(logits, rows)), 1)


def _logits(network: nn.Module, inputs: Tensor, precision: torch.dtype, device: torch.device) -> Tensor:
    """Logits [1, B, A], float32."""
    enabled = precision is not torch.float32
    with torch.autocast(device.type, precision if enabled else None, enabled=enabled):
        logits = network(inputs)
    return cast(Tensor, logits.float()[None])


def _inputs(rows: np.ndarray, device: torch.device) -> Tensor:
    """Inputs of the layers on the device: pixels as uint8, everything else as float32."""
    inputs = torch.from_numpy(rows).to(device)
    return inputs if inputs.dtype == torch.uint8 else inputs.float()


def _precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of products; `auto` is float32 on a CPU, on CUDA bfloat16 where it is native, else float16."""
    if name != "auto":
        return PRECISIONS[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
