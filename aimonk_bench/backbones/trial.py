"""A network is tried before anything runs: it takes images of the size, its weights fit, and it can be cut.

Trying takes seconds, most of them for importing torch and timm. What was found is kept beside the feature store, so
that the same network is tried once on a machine.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from aimonk_bench.backbones.catalog import Cost
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.config.rules import whole_patches
from aimonk_bench.errors import UserError
from aimonk_bench.records.files import IDLE, read_as, remove_partial, write_json

logger = logging.getLogger(__name__)

REVISION = 6  # raise it when the check finds more than before


@dataclass(frozen=True)
class Trial:
    """What is known of a network that was tried.

    Attributes:
        features: F, the number of pooled features of an image.
        cost: of an image of that size in the whole network, trainable layers included.
        notes: what was undone in the weight file, and what was left out; one sentence each.
        patches_checked: whether images of that size consist of whole patches, of which every pixel is read; False where
            that cannot be told.
        trainable_bytes: the size of the tensors of the trainable layers.
    """

    features: int
    cost: Cost
    notes: tuple[str, ...] = ()
    patches_checked: bool = True
    trainable_bytes: int = 0


def attempt(spec: EncoderSpec, cache: Path) -> Trial:
    """Build a network, load its weights, cut it, and pass one image through it; what is found is kept.

    Weights that are not downloaded yet are not loaded.

    Args:
        spec: the network, its weights, the size of images, and the frozen layers.
        cache: a folder for what was found.

    Raises:
        UserError: the network cannot take images of this size, the weights do not fit, or it cannot be cut there.
    """
    from aimonk_bench.backbones import examination, network  # imports torch and timm

    features, cost = examination.examine(spec.weights, spec.size)
    entry, name = spec.weights.entry, spec.weights.name
    patches_checked = True
    if entry.code is not None and entry.multiple is None:  # a rule of the config has checked the others
        multiple = network.multiple(entry.timm)
        patches_checked = multiple is not None
        if multiple is not None and (expected := whole_patches(spec.size, multiple, name)) is not None:
            raise UserError(f"transform.size: found {spec.size}, expected {expected}")
    notes: tuple[str, ...] = ()
    if spec.weights.file is not None or spec.freeze not in ("all", "none"):
        notes = network.build(spec.weights, spec.size, "all" if spec.freeze == "none" else spec.freeze).notes
    trainable = 0 if spec.freeze == "all" else network.trainable_bytes(spec.weights, spec.size, spec.freeze)
    trial, file = Trial(features, cost, notes, patches_checked, trainable), _file(spec, cache)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        remove_partial(file.parent, IDLE)
        write_json(file, asdict(trial))
    except OSError as error:
        logger.warning("%s cannot be written (%s), so %s is tried again next time", file, error, name)
    return trial


def stored(spec: EncoderSpec, cache: Path) -> Trial | None:
    """What was found before; None if nothing was, or if the file is damaged. Arguments as of `attempt`."""
    file = _file(spec, cache)
    if not file.exists():
        return None
    try:
        return read_as(Trial, file)
    except UserError as error:
        logger.warning("the network is tried again: %s", "; ".join(error.problems))
        return None


def _file(spec: EncoderSpec, cache: Path) -> Path:
    return cache / "networks" / f"{_digest(spec)}.json"


def _digest(spec: EncoderSpec) -> str:
    """SHA-256 (hex) of everything that decides what a trial finds."""
    weights = spec.weights
    versions = [importlib.metadata.version(package) for package in ("timm", "torch")]
    facts = [REVISION, weights.entry.timm, weights.source, weights.sha256, spec.size, spec.freeze, *versions]
    facts += [weights.entry.code] if weights.entry.code else []
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
