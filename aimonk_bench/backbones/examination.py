"""What a network gives and what it costs, by one forward pass of an image. This module imports torch and timm."""

from __future__ import annotations

from dataclasses import replace

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aimonk_bench.backbones import network
from aimonk_bench.backbones.catalog import Cost
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.errors import UserError


def examine(weights: Weights, size: int) -> tuple[int, Cost]:
    """F, the number of pooled features of an image, and what an image costs, by one forward pass at this size.

    The network is built without its tensors (on torch's meta device), which takes no memory and little time. Where
    that fails, which says nothing about the network, it is built with tensors.

    Raises:
        UserError: it cannot be built, or cannot take images of this size.
    """
    entry, untrained = weights.entry, replace(weights, file=None)
    try:
        with torch.device("meta"):
            layers = timm.create_model(
                entry.timm, pretrained=False, num_classes=0, **network.options(entry, size)
            ).eval()
            output, cost = _measure(layers, torch.zeros(1, 3, size, size))
    except Exception:
        try:
            output, cost = _measure(network.build(untrained, size).network, torch.zeros(1, 3, size, size))
        except Exception as error:  # a network raises nearly anything for a size that it was not made for
            raise UserError(_unusable(weights, size, error)) from error
    if not isinstance(output, Tensor):
        raise UserError(f"backbone.name: {weights.name} gives a {type(output).__name__}, expected one feature vector")
    return output.flatten(1).shape[1], cost


def _unusable(weights: Weights, size: int, error: Exception) -> str:
    """Why a network gives no features of images of this size: it cannot be built, or it takes other sizes."""
    entry = weights.entry
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    try:
        network.build(replace(weights, file=None), entry.size or size)
    except Exception:
        code = "the plug-in that has it" if entry.code else "another network or transform.size"
        return f"backbone.name: {weights.name} cannot be built ({reason}); fix: {code}"
    fix = f"`transform: {{size: native}}` ({entry.size} pixels)" if entry.size else "write another number"
    return f"transform.size: {weights.name} cannot take images of {size} x {size} pixels ({reason}); fix: {fix}"


def _measure(layers: nn.Module, images: Tensor) -> tuple[object, Cost]:
    """The output of a network for one image, and its cost."""
    layers.requires_grad_(False)  # torch's counter follows gradients, which a tensor without values may lack
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = layers(images)
    # a multiply-accumulate is two floating-point operations
    return output, Cost(sum(tensor.numel() for tensor in layers.parameters()), counter.get_total_flops() // 2)
