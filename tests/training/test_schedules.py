"""Schedules: factors of the learning rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimonk_bench.training.schedules import cosine, warmup_cosine


def test_warm_up_rises_to_the_learning_rate_and_then_is_cosine():
    factors = [warmup_cosine(step, 100, warmup=0.1) for step in range(100)]
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 11)
    np.testing.assert_allclose(factors[10:], [cosine(step, 90) for step in range(90)])
    assert warmup_cosine(0, 100, warmup=0.0) == 1.0


def test_cosine_is_torchs_annealing():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    for step in range(12):
        assert cosine(step, 12) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        annealing.step()
