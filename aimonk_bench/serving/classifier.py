"""The whole network of a bundle: pretrained layers of timm, those that were trained, and the head as timm's classifier.

This module imports torch and timm.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import timm
import torch
from torch import Tensor, nn

from aimonk_bench.backbones import examination, network
from aimonk_bench.backbones.network import Normalise
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.serving.heads import Tensors

FOLDED = 1e-5  # largest accepted difference between timm's classifier and the head, relative to the largest logit


class TorchClassifier(nn.Module):
    """Images float32 [B, 3, H, W], RGB from 0 to 255 -> logits [B, A].

    Attributes:
        normalise: with mean and std of the pretrained weights.
        network: of timm, with the head as its classifier.
    """

    def __init__(self, normalise: Normalise, network: nn.Module) -> None:
        super().__init__()
        self.normalise, self.network = normalise, network
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return cast(Tensor, self.network(self.normalise(images)))


def untrained(weights: Weights, size: int, attributes: int) -> TorchClassifier:
    """The network with random weights in the head, which shows whether it can be exported."""
    features, _ = examination.examine(weights, size)
    weight = np.random.default_rng(0).normal(0, features**-0.5, (attributes, features)).astype(np.float32)
    return build(weights, size, Tensors(weight, np.zeros(attributes, np.float32), {}, "random weights"))


def build(weights: Weights, size: int, tensors: Tensors) -> TorchClassifier:
    """Build the network and put the head into it.

    Raises:
        UserError: the weights do not fit the network.
        RunFailed: timm's network has no linear classifier on its pooled features.
    """
    layers = network.build(weights, size)
    whole: Any = layers.network
    there = whole.state_dict()
    trained = {name: torch.tensor(tensor) for name, tensor in tensors.layers.items()}
    strange = [name for name, tensor in trained.items() if name not in there or tensor.shape != there[name].shape]
    if strange:
        lacking = f"which {weights.name} does not have, or has in another shape"
        raise UserError(
            f"{tensors.place}: found {', '.join(strange[:6])}, {lacking}; fix: put back the file of the run"
        )
    whole.load_state_dict(trained, strict=False)
    noise = torch.rand((2, 3, size, size), generator=torch.Generator().manual_seed(0))
    weight, bias = torch.tensor(tensors.weight), torch.tensor(tensors.bias)
    with torch.inference_mode():
        features = whole(noise)
    if features.shape[1] != weight.shape[1]:
        raise UserError(
            f"{tensors.place}: found a head on {weight.shape[1]} features, expected {features.shape[1]} as "
            f"{weights.name} has; fix: put back the file of the run"
        )
    expected = features @ weight.T + bias
    if not all(hasattr(whole, method) for method in ("reset_classifier", "get_classifier")):
        raise RunFailed(_refusal(weights, "it has no reset_classifier and get_classifier"))
    with torch.random.fork_rng(devices=[]):  # the values that it draws are replaced
        whole.reset_classifier(len(bias))
    head = whole.get_classifier()
    if not isinstance(head, nn.Linear) or head.weight.shape != weight.shape:
        raise RunFailed(_refusal(weights, "its classifier is no single linear layer"))
    head.load_state_dict({"weight": weight, "bias": bias})
    classifier = TorchClassifier(layers.normalise, whole)
    with torch.inference_mode():
        difference = (whole(noise) - expected).abs().max() / expected.abs().max().clamp(min=1.0)
    if not difference <= FOLDED:
        raise RunFailed(_refusal(weights, f"with a classifier its logits differ by {difference:.1e}"))
    return classifier


def _refusal(weights: Weights, reason: str) -> str:
    return f"{weights.name} cannot be exported as one network of timm: {reason}; fix: another backbone"


def facts(weights: Weights, size: int, attributes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """``pretrained_cfg`` and ``model_args`` of ``config.json``: timm's transform comes as close to ours as it can."""
    entry = weights.entry
    registered: Any = timm.get_pretrained_cfg(entry.timm)  # None for the network of a plug-in
    pretrained = {
        "architecture": entry.timm.partition(".")[0],
        "custom_load": False,
        "input_size": [3, size, size],
        "fixed_input_size": entry.fixed,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": list(entry.mean),
        "std": list(entry.std),
        "num_classes": attributes,
        "pool_size": None,
        "first_conv": getattr(registered, "first_conv", None),
        "classifier": getattr(registered, "classifier", None),
        "license": entry.licence,
    }
    return pretrained, network.options(entry, size)
