"""The networks of a suite: their weights found, built and tried before an image is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aimonk_bench.backbones import trial, weights
from aimonk_bench.backbones.encoder import EncoderSpec, pick_device
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.backbones.trial import Trial
from aimonk_bench.backbones.weights import Weights, WeightsUnavailable
from aimonk_bench.config.fields import BackboneConfig, Config
from aimonk_bench.errors import UserError, count, sentence, write_traceback
from aimonk_bench.plugins import executed
from aimonk_bench.suite import containment
from aimonk_bench.suite.worker import WorkerLost
from aimonk_bench.suite.workers import Workers


@dataclass(frozen=True, eq=False)
class Network:
    """The network of a run.

    Attributes:
        encoder: its frozen layers; where the weights cannot be had, with a placeholder for them.
        outcome: what was found when it was tried, or why it cannot be used.
        skip: the run is left out, because the weights cannot be had.
    """

    encoder: EncoderSpec
    outcome: Trial | UserError
    skip: bool = False

    @property
    def reason(self) -> str | None:
        """Why it cannot be used; None if it can."""
        return str(self.outcome) if isinstance(self.outcome, UserError) else None

    @property
    def notes(self) -> list[str]:
        """What was undone in the weight file, and what was left out."""
        weights, notes = self.encoder.weights, () if isinstance(self.outcome, UserError) else self.outcome.notes
        return [f"{weights.file}: {note}" for note in notes]

    @property
    def warnings(self) -> list[str]:
        """What could not be checked, with the fix."""
        if isinstance(self.outcome, UserError) or self.outcome.patches_checked:
            return []
        return [
            f"{self.encoder.weights.name} cannot be built on torch's meta device, so it is not checked that "
            f"transform.size {self.encoder.size} holds whole patches; fix: `multiple` of its Entry"
        ]

    def describe(self) -> list[str]:
        """Name, size, features and weights, one line; further lines for what was done to get them."""
        weights, outcome = self.encoder.weights, self.outcome
        if isinstance(outcome, UserError):
            return list(outcome.problems)
        instead = f" (fallback for {weights.requested})" if weights.name != weights.requested else ""
        size = f"{self.encoder.size} x {self.encoder.size} pixels, {outcome.features} features"
        head = f"{weights.name}{instead}: {size}; weights: {weights.place}"
        return [
            head,
            *(f"  tried {line}" for line in weights.tried),
            *(f"  {note}" for note in (*self.notes, *self.warnings)),
        ]


def prepare(configs: Sequence[Config], *, download: bool = True, skip: bool = False) -> list[Network]:
    """Find the weights of every config's backbone and try each network once.

    It is tried in a worker process where the executor is `processes` or `ray`, and under `auto` where a plug-in may
    define it: a network that ends its process costs its runs alone.

    Args:
        configs: complete ones.
        download: False asks the hub only whether it has the weights; they are not compared with the network then.
        skip: leave out the runs whose weights cannot be had.

    Raises:
        UserError: a backbone or a device does not exist, no run is left, or the feature store has no place. What else
            is wrong with a network is its outcome.
    """
    resolved: dict[BackboneConfig, Weights | UserError] = {}
    tried: dict[tuple[Weights, int, str], Trial | UserError] = {}
    networks = []
    with containment.one_worker(configs[0].run) as pool:
        for config in configs:
            backbone = config.backbone
            if backbone not in resolved:
                try:
                    resolved[backbone] = weights.resolve(backbone, download=download, plugins=config.plugins)
                except WeightsUnavailable as error:
                    resolved[backbone] = error
            outcome = resolved[backbone]
            if isinstance(outcome, WeightsUnavailable):
                networks.append(Network(encoder_of(config, outcome.weights), outcome, skip))
                continue
            assert isinstance(outcome, Weights)
            encoder = encoder_of(config, outcome)
            key = outcome, encoder.size, encoder.freeze
            if key not in tried:
                tried[key] = _tried(encoder, config, pool)
            networks.append(Network(encoder, tried[key]))
    if all(network.skip for network in networks):
        raise UserError(list(dict.fromkeys(line for network in networks for line in network.describe())))
    return networks


def _tried(encoder: EncoderSpec, config: Config, pool: Workers) -> Trial | UserError:
    """What is found when the network of a run is tried, in a worker where `prepare` says so; or why it fails."""
    cache = FeatureStore().root
    where = f"{encoder.weights.name} at transform.size {encoder.size}"
    try:
        if (stored := trial.stored(encoder, cache)) is not None:
            return stored
        if containment.is_contained(config.run.executor, config.plugins, encoder):
            return containment.attempt(pool, config.plugins, encoder, cache)
        with executed(config.plugins):
            return trial.attempt(encoder, cache)
    except UserError as error:
        return error
    except WorkerLost as error:
        return UserError(f"{where} cannot be tried: {error}; fix: another network; `run.executor: serial` to debug it")
    except Exception as error:  # of timm or torch: it costs the runs on this network, and no other
        return UserError(f"{where} cannot be built: {sentence(error)}; {write_traceback(error)}")


def skips(names: Sequence[str], prepared: Sequence[Network], baseline: int) -> list[str]:
    """A line with the names of the runs that are skipped, and one about the baseline, if it is among them."""
    skipped = [name for name, network in zip(names, prepared, strict=True) if network.skip]
    if not skipped:
        return []
    why = "their weights cannot be had here, and suite.unavailable is skip; `aimonk-bench doctor BACKBONE` says why"
    lines = [f"skipped ({why}): {', '.join(skipped)}"]
    if prepared[baseline].skip:
        lines.append(
            f"suite.baseline: {names[baseline]} is skipped, so no run is compared with a baseline; "
            "fix: a baseline whose weights are here"
        )
    return lines


def failures(names: Sequence[str], prepared: Sequence[Network]) -> list[str]:
    """The runs, by name, whose network cannot be used: one line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, network in zip(names, prepared, strict=True):
        if network.reason is not None and not network.skip:
            by_reason.setdefault(network.reason, []).append(name)
    return [
        f"{count(len(failing), 'run')} will fail ({', '.join(failing)}): {reason}"
        for reason, failing in by_reason.items()
    ]


def encoder_of(config: Config, resolved: Weights) -> EncoderSpec:
    """The frozen layers of a config's backbone with these weights."""
    return EncoderSpec(
        weights=resolved,
        size=config.transform.size,
        engine=config.backbone.engine,
        device=pick_device(config.train.device),
        dtype=config.backbone.dtype,
        decode=config.transform.decode,
        freeze=config.backbone.freeze,
    )
