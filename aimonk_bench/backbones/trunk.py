"""The network itself: built by timm, loaded without tolerance, exported to ONNX. Imported only to encode pictures."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from aimonk_bench.backbones.weights import Weights
from aimonk_bench.errors import UserError
from aimonk_bench.records.files import atomic

INPUT, OUTPUT = "pictures", "features"


class Trunk(nn.Module):
    """Normalisation and network up to global pooling, in eval mode.

    uint8 [B, H, W, 3] -> float32 [B, D]: (picture / 255 - mean) / std, seen as [B, 3, H, W], through the network.
    The permuted view of such pictures already is in the channels_last format.
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.scale: Tensor
        self.shift: Tensor
        self.network = network
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)))
        self.register_buffer("shift", (torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode pictures: uint8 [B, H, W, 3] -> float32 [B, D]."""
        channels = pictures.permute(0, 3, 1, 2).to(torch.float32)
        return cast(Tensor, self.network(channels * self.scale - self.shift))


def build(weights: Weights, size: int) -> Trunk:
    """Build the network of ``weights`` for pictures of size x size.

    Every tensor of the trunk comes from the file and every tensor of the file has its place, but for the classifier,
    which is left out. ``none`` is timm's initialisation under seed 0.

    Raises:
        UserError: the file cannot be read or belongs to another network.
    """
    entry = weights.entry
    options: dict[str, Any] = {"img_size": size} if entry.fixed else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if weights.file is None:
            network = timm.create_model(entry.timm, pretrained=False, num_classes=0, **options)
        else:
            network = _pretrained(weights, weights.file, options)
    return Trunk(network, entry.mean, entry.std)


def _pretrained(weights: Weights, file: Path, options: dict[str, Any]) -> nn.Module:
    """The network with the tensors of ``file``, by timm's own loader because it knows the older layouts of each family.

    The loader is strict only for the number of classes that the weights have; hence the classifier is built, loaded
    and removed.
    """
    name = weights.entry.timm
    try:
        state = timm.models.load_state_dict(str(file), weights_only=True)
        if weights.source == "package":
            state = _named_like(name, state)
        if not state:
            raise ValueError("there is nothing in it")  # timm would turn to the hub
        classes = _classes(name, state)
        source = {"state_dict": state, "num_classes": classes, "label_offset": 0}
        network: Any = timm.create_model(
            name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=source, **options
        )
        network.reset_classifier(0)
    except Exception as error:  # damaged and foreign files make unpicklers and timm's converters raise nearly anything
        reason = " ".join(str(error).split())[:500]
        raise UserError(f"{file}: these are not weights of {name} ({type(error).__name__}: {reason})") from error
    return cast(nn.Module, network)


def _classes(name: str, state: dict[str, Tensor]) -> int:
    """The number of classes of the classifier in ``state``, 0 without one."""
    facts: Any = timm.get_pretrained_cfg(name)
    named = facts.classifier or ()
    layers = [named] if isinstance(named, str) else list(named)
    found = (state.get(f"{layer}.weight") for layer in [*layers, "head", "fc"])  # the last two: before timm's names
    return next((len(weight) for weight in found if weight is not None), 0)


def _named_like(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a weight package timm's names.

    Such a package follows another implementation of the network. Both list their layers in the order of computation:
    the n-th tensor is the n-th, and kind (``weight``, ``running_var``) and shape must agree for all of them.
    """
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False)
    wanted, found = (
        {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
        for tensors in (network.state_dict(), state)
    )
    if wanted.keys() == found.keys():
        return state
    pairs = list(zip(wanted, found, strict=False))
    agree = [_kind(ours) == _kind(theirs) and wanted[ours].shape == found[theirs].shape for ours, theirs in pairs]
    if not (len(wanted) == len(found) == sum(agree)):
        raise ValueError(f"{sum(agree)} of {len(wanted)} tensors agree with the {len(found)} of the package")
    return {ours: found[theirs] for ours, theirs in pairs}


def _kind(key: str) -> str:
    return key.rpartition(".")[2]


def export(trunk: Trunk, file: Path, shape: tuple[int, ...]) -> None:
    """Write the trunk as ONNX for batches of exactly ``shape``, [B, H, W, 3].

    With every dimension known, paddings become constants, which onnxruntime fuses into convolutions.
    """
    with atomic(file) as partial, warnings.catch_warnings():
        # Deprecated, but it takes 1-3 s where the newer exporter takes 5-25 s, and the graphs are equally fast.
        warnings.simplefilter("ignore", DeprecationWarning)
        # What timm asserts of the shape is true of this one.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        example = torch.zeros(shape, dtype=torch.uint8)
        torch.onnx.export(
            trunk, (example,), partial, dynamo=False, opset_version=18, input_names=[INPUT], output_names=[OUTPUT]
        )
