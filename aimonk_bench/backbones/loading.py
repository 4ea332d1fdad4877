"""Weights into a network: every tensor comes from the weight file that was hashed, or it is an error.

This module imports torch and timm.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from aimonk_bench.backbones import checkpoint
from aimonk_bench.backbones.catalog import Entry
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.errors import RunFailed, UserError, count
from aimonk_bench.records.files import file_sha256


def pretrained(weights: Weights, file: Path, options: dict[str, Any]) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with the tensors of ``file``, without classifier, and notes.

    timm loads them, since it converts older layouts of each family. Its loader is strict only for the number of classes
    in the file, so the classifier is built, loaded and removed.

    Args:
        weights: of the network.
        file: that of the weights.
        options: what ``create_model`` must be given beside the name.

    Raises:
        UserError: the file cannot be read, or belongs to another network.
        RunFailed: it is not the file that was hashed.
    """
    name, differences = weights.entry.timm, ""
    try:
        content = checkpoint.read(file)
        if weights.source == "package":
            content = _renamed(name, content)
        shapes = _shapes(name)
        unwrapped = checkpoint.unwrap(content, shapes)
        differences = checkpoint.differences(unwrapped.tensors, shapes)
        network = _loaded(weights.entry, unwrapped, options)
        if weights.source == "path" or weights.entry.code:
            _refuse_partial(weights.entry, unwrapped, options)
    except Exception as error:  # unpicklers and timm's converters raise nearly anything for damaged or foreign files
        _check_unchanged(file, weights.sha256)
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "  # a ValueError explains itself
        reason = differences or kind + " ".join(str(error).split())[:500]
        raise UserError(f"{file}: these are not weights of {name}: {reason}") from error
    _check_unchanged(file, weights.sha256)
    if weights.source != "path":
        return network, ()
    converted = (f"timm converted the tensors, which differ from the network's: {differences}",)
    return network, (*unwrapped.notes, *(converted if differences else ()))


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors, without its classifier, at its own image size."""
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False, num_classes=0)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def _check_unchanged(file: Path, sha256: str) -> None:
    """Compare a weight file that was read with the one that was hashed when the work was planned.

    Raises:
        RunFailed: it is another one, or cannot be read any more.
    """
    try:
        is_same = file_sha256(file) == sha256
    except OSError as error:
        raise RunFailed(f"{file} cannot be read any more: {error.strerror or error}") from error
    if not is_same:
        raise RunFailed(f"{file} changed while it was in use; fix: the same command again")


def _loaded(entry: Entry, content: checkpoint.Checkpoint, options: dict[str, Any]) -> nn.Module:
    """The network of an entry with the tensors of a weight file, without classifier."""
    name = entry.timm
    if timm.get_pretrained_cfg(name) is None:  # as plug-ins register functions, which need not load anything
        plain = timm.create_model(name, pretrained=False, num_classes=0, **options)
        plain.load_state_dict(content.tensors)
        return plain
    classes = 0 if content.complete else _count_classes(name, content.tensors)
    overlay = {"state_dict": content.tensors, "num_classes": classes, "label_offset": 0}
    loaded: Any = timm.create_model(
        name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay, **options
    )
    loaded.reset_classifier(0)
    return cast(nn.Module, loaded)


def _refuse_partial(entry: Entry, content: checkpoint.Checkpoint, options: dict[str, Any]) -> None:
    """Raise ValueError where a tensor of the network is not taken from the file.

    timm does not load the networks of every family strictly, and a function of a plug-in may load nothing. So the
    network is made again from NaN in the place of the file's numbers: what is finite then has another origin. Only
    zeros may have one, because timm adds a bias to some older layouts.
    """
    nan = {
        name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor
        for name, tensor in content.tensors.items()
    }
    state = _loaded(entry, replace(content, tensors=nan), options).state_dict()
    not_loaded = [name for name, tensor in state.items() if tensor.is_floating_point() and tensor.nan_to_num().any()]
    if not_loaded:
        fix = "; fix: let its function call timm.models.build_model_with_cfg" if entry.code else ""
        names = checkpoint.listed(not_loaded)
        raise ValueError(f"{count(len(not_loaded), 'tensor')} of the network not taken from it ({names}){fix}")


def _count_classes(name: str, state: dict[str, Tensor]) -> int:
    """The number of classes of the classifier in ``state``, 0 without a classifier."""
    facts: Any = timm.get_pretrained_cfg(name)
    classifier = facts.classifier or ()
    layers = [classifier] if isinstance(classifier, str) else list(classifier)
    tensors = (state.get(f"{layer}.weight") for layer in [*layers, "head", "fc"])  # the last two: older files
    return next((len(weight) for weight in tensors if weight is not None), 0)


def _renamed(name: str, state: Any) -> dict[str, Tensor]:
    """The tensors of a weight package under timm's names.

    The package belongs to another implementation of the same network. Both list their layers in the order of
    computation, so tensors are paired by position; kind (``weight``, ``running_var``) and shape must agree in every
    pair.
    """
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False)
    ours, theirs = (
        {key: tensor for key, tensor in tensors.items() if not key.endswith("num_batches_tracked")}
        for tensors in (network.state_dict(), state)
    )
    if ours.keys() == theirs.keys():
        return theirs
    pairs = list(zip(ours, theirs, strict=False))
    agree = sum(a.rpartition(".")[2] == b.rpartition(".")[2] and ours[a].shape == theirs[b].shape for a, b in pairs)
    if not (len(ours) == len(theirs) == agree):
        raise ValueError(f"{agree} of {len(ours)} tensors agree with the {len(theirs)} of the package")
    return {our_name: theirs[their_name] for our_name, their_name in pairs}
