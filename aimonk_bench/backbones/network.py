"""The network: built by timm, loaded strictly, cut before a stage into frozen and trainable layers, exported to ONNX.

The frozen layers never change, so their output is computed once per image and view. The trainable layers read it.
This module imports torch and timm; import it only to encode images or to train the trainable layers.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from aimonk_bench.backbones import loading
from aimonk_bench.backbones.catalog import Entry
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.errors import UserError
from aimonk_bench.records.files import atomic

INPUT, OUTPUT = "images", "features"  # names in the exported graph
LISTS = ("blocks", "stages", "layers", "features")  # attributes in which timm's networks keep their stages


class Normalise(nn.Module):
    """[B, 3, H, W] of 0 to 255 -> float32 [B, 3, H, W]: (value / 255 - mean) / std, per channel."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.scale: Tensor
        self.shift: Tensor
        # no weights: they are in no file of a network
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)), persistent=False)
        self.register_buffer("shift", (torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images."""
        return images.to(torch.float32) * self.scale - self.shift


class FrozenLayers(nn.Module):
    """Normalisation and the network up to global pooling, or up to the cut: uint8 [B, H, W, 3] -> float32 [B, D].

    The permuted view of such images already is in the channels_last format. Output of more than one dimension per image
    is flattened: feature maps as [h, w, C], tokens as [tokens, C].

    Args:
        normalise: with the mean and std of the weights.
        network: up to global pooling, or up to the cut.
        notes: what was undone in the weight file, and what was left out.
    """

    def __init__(self, normalise: Normalise, network: nn.Module, notes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.normalise, self.network, self.notes = normalise, network, notes
        self.eval().requires_grad_(False)

    def unflattened(self, images: Tensor) -> Tensor:
        """The output for images [B, H, W, 3] as [B, D], [B, tokens, C] or [B, h, w, C]."""
        output = self.network(self.normalise(images.permute(0, 3, 1, 2)))
        return cast(Tensor, output.permute(0, 2, 3, 1) if output.ndim == 4 else output)

    def forward(self, images: Tensor) -> Tensor:
        """The output for images [B, H, W, 3] as rows [B, D] of the feature store."""
        return self.unflattened(images).flatten(1)


class TrainableLayers(nn.Module):
    """The network above the cut: rows [B, D] of the feature store -> pooled features [B, F].

    Args:
        network: the layers above the cut; all layers where none is frozen.
        shape: of one row before it was flattened: (h, w, C), (tokens, C), or (H, W, 3) for pixels.
        normalise: of pixels.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], normalise: Normalise | None = None) -> None:
        super().__init__()
        self.normalise, self.network, self._shape = normalise or nn.Identity(), network, shape
        self.requires_grad_(True)

    def forward(self, rows: Tensor) -> Tensor:
        """Pooled features of rows [B, D]."""
        inputs = rows.view(-1, *self._shape)
        return cast(Tensor, self.network(self.normalise(inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs)))


def build(weights: Weights, size: int, freeze: str = "all") -> FrozenLayers:
    """Build the frozen layers for images of size x size.

    Every tensor of the network comes from the weight file, and every tensor of the file is used, except the
    classifier's. Weights ``none`` are timm's initialisation under seed 0.

    Args:
        weights: of the whole network.
        size: edge of the images in pixels.
        freeze: "all", or the stage before which the frozen layers end.

    Raises:
        UserError, RunFailed: as of :func:`loading.pretrained`; the network cannot be cut there.
    """
    whole = _whole(weights, size)
    return whole if freeze == "all" else cut(whole, weights, size, freeze)[0]


def build_trainable(weights: Weights, size: int, freeze: str) -> TrainableLayers:
    """Build the trainable layers; ``freeze`` is a stage, or "none" for the whole network.

    Dropout and stochastic depth, which some networks contain, are switched off: they draw from torch's global
    generator, so that results would depend on the number of parallel jobs and on interruptions.

    Raises:
        UserError, RunFailed: as :func:`build`.
    """
    whole = _whole(weights, size)
    if freeze == "none":
        layers = TrainableLayers(whole.network, (size, size, 3), whole.normalise)
    else:
        layers = cut(whole, weights, size, freeze)[1]
    for module in layers.modules():
        if isinstance(module, timm.layers.DropPath):
            module.drop_prob = 0.0
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
    return layers


def _whole(weights: Weights, size: int) -> FrozenLayers:
    entry = weights.entry
    notes: tuple[str, ...] = ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if weights.file is None:
            network = timm.create_model(entry.timm, pretrained=False, num_classes=0, **options(entry, size))
        else:
            network, notes = loading.pretrained(weights, weights.file, options(entry, size))
    return FrozenLayers(Normalise(entry.mean, entry.std), network, notes)


def options(entry: Entry, size: int) -> dict[str, Any]:
    """What ``create_model`` must be given beside the name."""
    return {"img_size": size} if entry.fixed else {}


def trainable_bytes(weights: Weights, size: int, freeze: str) -> int:
    """The size of the tensors of the trainable layers, for a stage at which the network can be cut, or "none"."""
    entry = weights.entry
    with torch.device("meta"):
        network = timm.create_model(entry.timm, pretrained=False, num_classes=0, **options(entry, size))
    layers = network if freeze == "none" else _without(network, freeze, above=False)
    return sum(tensor.nbytes for tensor in layers.state_dict().values())


def classifier(name: str) -> str:
    """What timm calls the last linear layer of a network, the first of several: ``fc``, ``classifier``, ``head.fc``."""
    named: Any = getattr(timm.get_pretrained_cfg(name), "classifier", None) or "head"
    return named if isinstance(named, str) else str(named[0])


def multiple(name: str) -> int | None:
    """What the size of images must be a multiple of, so that a network of timm reads every pixel.

    A convolution that reads the image in patches that do not overlap ignores what is left beyond the last whole patch.

    Returns:
        None where the network cannot be built without memory for its tensors, which a constructor may read.
    """
    try:
        return _multiple(name)
    except Exception:  # timm and constructors raise anything
        return None


@functools.cache
def _multiple(name: str) -> int:
    """`multiple` of a network that can be built so."""
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False, num_classes=0)
    strides = [
        stride
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3 and layer.padding in (0, (0, 0), "valid")
        for kernel, stride in zip(layer.kernel_size, layer.stride, strict=True)
        if kernel > 1 and kernel % stride == 0
    ]
    return math.lcm(*strides)


def cut(whole: FrozenLayers, weights: Weights, size: int, stage: str) -> tuple[FrozenLayers, TrainableLayers]:
    """Cut a network before ``stage``; on two noise images, both parts together must give what the whole gives.

    Args:
        whole: the network, which becomes a part of the result.
        weights: of the network.
        size: edge of the images in pixels.
        stage: path of a module, such as ``layer4`` or ``blocks.3``.

    Raises:
        UserError: the network has no such stage, or computes something outside its stages.
    """
    if stage not in dict(whole.network.named_modules()):
        listed = ", ".join(stages(weights.entry.timm))
        choices = f"all, none or one of {listed}" if listed else f"all or none, because {weights.name} has no stages"
        raise UserError(f"backbone.freeze: found {stage!r}, expected {choices}")
    noise = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    impossible = UserError(
        f"backbone.freeze: {weights.name} cannot be cut before {stage}, because timm's network computes something "
        "outside its stages: use all, none or another stage"
    )
    try:
        with torch.no_grad():
            expected = whole(noise)
            frozen = copy.deepcopy(whole)
            frozen.network = _without(frozen.network, stage, above=True)
            shape = tuple(frozen.unflattened(noise).shape[1:])
            trainable = TrainableLayers(_without(whole.network, stage, above=False), shape)
            output = trainable(frozen(noise))
    except Exception as error:  # a module raises nearly anything for an input of another shape
        raise impossible from error
    atol = 1e-5 * float(expected.abs().max())
    if output.shape != expected.shape or not torch.allclose(output, expected, rtol=1e-4, atol=atol):
        raise impossible
    return frozen, trainable


@functools.cache
def stages(name: str) -> tuple[str, ...]:
    """The stages before which a network of timm can be cut; the network is built without its tensors."""
    with torch.device("meta"):
        return tuple(_stages(timm.create_model(name, pretrained=False, num_classes=0)))


def _stages(network: nn.Module) -> list[str]:
    """Children with parameters, and the items of those that are lists; of a single child, that child's stages."""
    children = {name: child for name, child in network.named_children() if any(True for _ in child.parameters())}
    if len(children) == 1:
        [(outer, only)] = children.items()
        return [f"{outer}.{name}" for name in _stages(only)]
    names = []
    for name, child in children.items():
        is_list = isinstance(child, nn.Sequential | nn.ModuleList) and name in LISTS
        names += [f"{name}.{item}" for item, _ in child.named_children()] if is_list else [name]
    return names[1:]  # nothing can be frozen below the first


def _without(network: nn.Module, stage: str, *, above: bool) -> nn.Module:
    """Replace the stage and all modules above it, or all modules below it, by the identity.

    The children of a timm network stand in the order of computation. A vision transformer has two steps that are not
    children: it adds positions below the blocks, and selects a token above them.
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
        object.__setattr__(network, "pool" if above else "_pos_embed", nn.Identity())  # a method, not a child
        for name in [] if above else [name for name, _ in network.named_parameters(recurse=False)]:
            setattr(network, name, None)  # positions and tokens, which the frozen layers add
    return network


def export(layers: FrozenLayers, file: Path, batch_size: int, size: int) -> None:
    """Write the frozen layers as ONNX for batches of exactly [batch_size, size, size, 3].

    With fixed dimensions, paddings are constants, which onnxruntime fuses into convolutions.
    """
    with atomic(file) as partial:
        write_onnx(layers, torch.zeros((batch_size, size, size, 3), dtype=torch.uint8), partial, OUTPUT)


def write_onnx(module: nn.Module, images: Tensor, file: Path, output: str, batch: str | None = None) -> None:
    """Write a module as ONNX; it raises nearly anything for a module that the exporter does not support.

    Args:
        images: an example of the input, which is called `INPUT`.
        output: what the output is called.
        batch: the name of the first dimension of both, which may then have any size; None fixes it.
    """
    with warnings.catch_warnings():
        # Of the exporter, which is deprecated: it takes 1-3 s, the newer one 5-25 s, and the graphs are equally fast.
        # And of what the tracer takes for constant: the callers compare the graph with torch.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (images,),
            file,
            dynamo=False,
            opset_version=18,
            input_names=[INPUT],
            output_names=[output],
            dynamic_axes={name: {0: batch} for name in (INPUT, output)} if batch else None,
        )
