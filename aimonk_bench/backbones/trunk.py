"""The network itself: built by timm, loaded without tolerance, cut in two, exported to ONNX.

Cut before a stage, what lies below it is the *trunk*, which never changes and is computed once per picture, and what
is left the *tail*, which is trained. Imported only to encode pictures and to train a tail.
"""

from __future__ import annotations

import copy
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
LISTS = ("blocks", "stages", "layers", "features")  # what timm's networks call the lists of their stages


class Trunk(nn.Module):
    """Normalisation and network, up to global pooling or to the cut.

    uint8 [B, H, W, 3] -> float32 [B, D]: (picture / 255 - mean) / std, seen as [B, 3, H, W], through the network.
    The permuted view of such pictures already is in the channels_last format. What a cut leaves of more than one
    dimension is flattened, maps [B, C, h, w] as [B, h, w, C].
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.scale: Tensor
        self.shift: Tensor
        self.network = network
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)))
        self.register_buffer("shift", (torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def reached(self, pictures: Tensor) -> Tensor:
        """What the network leaves of pictures, uint8 [B, H, W, 3], before it is flattened."""
        channels = pictures.permute(0, 3, 1, 2).to(torch.float32)
        return cast(Tensor, self.network(channels * self.scale - self.shift))

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode pictures: uint8 [B, H, W, 3] -> float32 [B, D]."""
        found = self.reached(pictures)
        return (found.permute(0, 2, 3, 1) if found.ndim == 4 else found).flatten(1)


class Tail(nn.Module):
    """What is left of a network above a cut: rows of the trunk [B, D] -> pooled features [B, F].

    Args:
        network: with what lies below the cut taken out.
        shape: of what the trunk leaves of one picture, (C, h, w) or (tokens, C).
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self._shape = network, shape

    def forward(self, rows: Tensor) -> Tensor:
        """Pooled features of rows [B, D]."""
        if len(self._shape) == 3:
            channels, height, width = self._shape
            return cast(Tensor, self.network(rows.view(-1, height, width, channels).permute(0, 3, 1, 2)))
        return cast(Tensor, self.network(rows.view(-1, *self._shape)))


class WholeTail(nn.Module):
    """A network of which nothing is frozen: pixels, uint8 [B, size x size x 3], -> pooled features [B, F]."""

    def __init__(self, whole: Trunk, size: int) -> None:
        super().__init__()
        self.whole, self._size = whole.requires_grad_(True), size

    def forward(self, rows: Tensor) -> Tensor:
        """Pooled features of rows [B, D]."""
        return cast(Tensor, self.whole(rows.view(-1, self._size, self._size, 3)))


def build(weights: Weights, size: int, freeze: str = "all") -> Trunk:
    """Build what of the network of ``weights`` is frozen, for pictures of size x size.

    Every tensor of the network comes from the file and every tensor of the file has its place, but for the classifier,
    which is left out. ``none`` is timm's initialisation under seed 0.

    Args:
        freeze: "all", or the stage before which it ends.

    Raises:
        UserError: the file cannot be read or belongs to another network; the network cannot be cut there.
    """
    whole = _whole(weights, size)
    return whole if freeze == "all" else split(whole, weights.name, size, freeze)[0]


def build_tail(weights: Weights, size: int, freeze: str) -> Tail | WholeTail:
    """Build what of the network is trained; ``freeze`` is a stage, or "none".

    Dropout and stochastic depth, which some networks come with, are switched off: they draw from torch's global
    generator, and neither the number of jobs side by side nor an interruption may change a result.

    Raises:
        UserError: as `build`.
    """
    whole = _whole(weights, size)
    tail = WholeTail(whole, size) if freeze == "none" else split(whole, weights.name, size, freeze)[1]
    for part in tail.modules():
        if isinstance(part, timm.layers.DropPath):
            part.drop_prob = 0.0
        elif isinstance(part, nn.Dropout):
            part.p = 0.0
    return tail


def _whole(weights: Weights, size: int) -> Trunk:
    entry = weights.entry
    options: dict[str, Any] = {"img_size": size} if entry.fixed else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if weights.file is None:
            network = timm.create_model(entry.timm, pretrained=False, num_classes=0, **options)
        else:
            network = _pretrained(weights, weights.file, options)
    return Trunk(network, entry.mean, entry.std)


def split(whole: Trunk, name: str, size: int, stage: str) -> tuple[Trunk, Tail]:
    """Cut a network before ``stage`` and check, on two pictures of noise, that the parts do what the whole does.

    Args:
        whole: used up.
        name: of the backbone, for messages.
        size: of the pictures.
        stage: the path of a module, such as ``layer4`` or ``blocks.3``.

    Raises:
        UserError: there is no such stage, or the network computes something beside its stages.
    """
    if stage not in dict(whole.network.named_modules()):
        listed = ", ".join(stages(whole.network))
        choices = f"all, none or one of {listed}" if listed else f"all or none, because {name} has no stages"
        raise UserError(f"backbone.freeze: found {stage!r}, expected {choices}")
    noise = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    impossible = UserError(
        f"backbone.freeze: {name} cannot be split before {stage}, because timm's network computes something beside its "
        "stages: use all, none or another stage"
    )
    with torch.inference_mode():
        wanted = whole(noise)
    try:
        trunk = copy.deepcopy(whole)
        trunk.network = _without(trunk.network, stage, above=True)
        with torch.inference_mode():
            reached = trunk.reached(noise)
            tail = Tail(_without(whole.network, stage, above=False), tuple(reached.shape[1:]))
            found = tail(trunk(noise))
    except Exception as error:  # modules raise nearly anything where they are handed what they do not expect
        raise impossible from error
    if found.shape != wanted.shape or not torch.allclose(
        found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max())
    ):
        raise impossible
    return trunk, tail.requires_grad_(True)


def outline(name: str) -> nn.Module:
    """timm's network without its numbers, which takes no memory."""
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=0)


def stages(network: nn.Module) -> list[str]:
    """Modules before which a network may be cut: its parts with parameters, and the parts of those that are lists.

    Of a network that is all in one part, those of that part.
    """
    parts = {name: part for name, part in network.named_children() if any(True for _ in part.parameters())}
    if len(parts) == 1:
        [(outer, only)] = parts.items()
        return [f"{outer}.{name}" for name in stages(only)]
    found = []
    for name, part in parts.items():
        listed = isinstance(part, nn.Sequential | nn.ModuleList) and name in LISTS
        found += [f"{name}.{own}" for own, _ in part.named_children()] if listed else [name]
    return found[1:]  # before the first part there is nothing to freeze


def _without(network: nn.Module, stage: str, *, above: bool) -> nn.Module:
    """A network in which all that lies above the cut (the stage included), or below it, does nothing.

    The parts of a timm network stand in the order of computation. A vision transformer also does two things that are
    no parts: it adds positions, below the blocks, and picks the token to read, above them.
    """
    parent = network
    for part in stage.split("."):
        names = [name for name, _ in parent.named_children()]
        place = names.index(part)
        for name in names[place + 1 :] if above else names[:place]:
            setattr(parent, name, nn.Identity())
        last, parent = parent, getattr(parent, part)
    if above:
        setattr(last, part, nn.Identity())
    if isinstance(network, timm.models.VisionTransformer):
        object.__setattr__(network, "pool" if above else "_pos_embed", nn.Identity())  # a method, so not a part
        for name in [] if above else [name for name, _ in network.named_parameters(recurse=False)]:
            setattr(network, name, None)  # the positions and tokens that are added below
    return network


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
