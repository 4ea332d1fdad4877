"""Stacked heads: where they start, what they compute."""

from __future__ import annotations

import pytest
import torch

from aimonk_bench.training.batches import HeadRngs
from aimonk_bench.training.heads import Heads


def test_heads_start_within_the_bounds_of_torchs_linear_and_alike_in_both_precisions():
    single, double = (
        Heads.initial(50, 400, [HeadRngs.of(1, 2).init], dtype) for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.weight, double.weight.float(), rtol=0, atol=0)
    reference = torch.nn.Linear(400, 50)
    for ours, torchs in ((double.weight, reference.weight), (double.bias, reference.bias)):
        assert ours.abs().max() <= 0.05
        assert ours.std().item() == pytest.approx(torchs.std().item(), rel=0.3)


def test_logits_and_gradients_are_those_of_automatic_differentiation():
    """Two jobs of three settings each: the heads of a job read the same features."""
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(2, 7, 5, generator=rng, dtype=torch.float64)
    heads = Heads.initial(4, 5, [HeadRngs.of(seed, 0).init for seed in (0, 1)], torch.float64).repeated(3)
    logits = heads.logits(features)
    read = features.repeat_interleave(3, 0)
    weight, bias = heads.weight.clone().requires_grad_(), heads.bias.clone().requires_grad_()
    wanted = torch.einsum("hbd,had->hba", read, weight) + bias
    torch.testing.assert_close(logits, wanted)
    by_logits = torch.randn(logits.shape, generator=rng, dtype=torch.float64)
    gradients = torch.autograd.grad((wanted * by_logits).sum(), [weight, bias])
    written = [torch.full_like(heads.weight, torch.nan), torch.full_like(heads.bias, torch.nan)]
    heads.gradients(by_logits, features, written)
    for ours, theirs in zip(written, gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
