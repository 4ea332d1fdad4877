"""Optimizers against torch.optim, head by head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimonk_bench.training.entries import declared
from aimonk_bench.training.optimizers import OPTIMIZERS, clip
from aimonk_bench.training.schedules import cosine

MOVES = [
    *(("adam", {}), ("adamw", {}), ("sgd", {}), ("sgd", {"momentum": 0.9})),
    ("sgd", {"momentum": 0.5, "nesterov": True}),
]


@pytest.mark.parametrize("decays", [(0.0, 0.0, 0.0), (0.0, 0.1, 0.01)])
@pytest.mark.parametrize(("name", "options"), MOVES)
def test_a_head_moves_as_torchs_optimizer_moves_it(name, options, decays):
    rng, rates, total = np.random.default_rng(0), [0.5, 0.01, 1e-3], 12
    start, targets = (torch.from_numpy(rng.normal(size=(3, 4, 5))) for _ in range(2))
    kind = getattr(torch.optim, declared(OPTIMIZERS[name], "torch_name"))
    alone = [head.clone().requires_grad_() for head in start]
    theirs = [
        kind([head], lr=lr, weight_decay=decay, **options) for head, lr, decay in zip(alone, rates, decays, strict=True)
    ]
    annealing = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total) for optimizer in theirs]
    stacked = start.clone()
    per_head = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (rates, decays))
    gradient = torch.empty_like(stacked)
    move = OPTIMIZERS[name]([stacked], [gradient], *per_head, **options)
    for step in range(total):
        leaf = stacked.clone().requires_grad_()
        gradient.copy_(*torch.autograd.grad((1 + (leaf - targets).square()).sqrt().sum(), [leaf]))
        move(cosine(step, total))
        for head, target, optimizer, schedule in zip(alone, targets, theirs, annealing, strict=True):
            optimizer.zero_grad()
            (1 + (head - target).square()).sqrt().sum().backward()
            optimizer.step()
            schedule.step()
        torch.testing.assert_close(stacked, torch.stack(alone).detach(), rtol=1e-12, atol=1e-12)


def test_every_optimizer_names_the_one_of_torch_that_moves_a_network():
    for optimizer in OPTIMIZERS.values():
        assert issubclass(getattr(torch.optim, declared(optimizer, "torch_name")), torch.optim.Optimizer)


def test_clipping_is_torchs_for_each_head():
    weight, bias = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(3, 1, 4, dtype=torch.float64)
    weight[1] *= 1e-3
    bias[1] *= 1e-3
    wanted = []
    for head in range(3):
        parameters = [torch.nn.Parameter(torch.zeros_like(each[head])) for each in (weight, bias)]
        for parameter, gradient in zip(parameters, (weight, bias), strict=True):
            parameter.grad = gradient[head].clone()
        torch.nn.utils.clip_grad_norm_(parameters, 0.7)
        wanted.append([parameter.grad for parameter in parameters])
    clip([weight, bias], 0.7)
    for head, (of_weight, of_bias) in enumerate(wanted):
        torch.testing.assert_close(weight[head], of_weight)
        torch.testing.assert_close(bias[head], of_bias)
