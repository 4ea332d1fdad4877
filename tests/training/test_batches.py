"""What heads read in an epoch: random generators, batches, features."""

from __future__ import annotations

import numpy as np
import torch

from aimonk_bench.data.labels import Labels
from aimonk_bench.training.batches import EpochBatches, Features, HeadRngs
from aimonk_bench.training.samplers import uniform


def test_generators_depend_on_seed_and_fold_alone_and_on_both():
    def firsts(seed, fold):
        rngs = HeadRngs.of(seed, fold)
        return [rng.random() for rng in (rngs.init, rngs.sampler, rngs.views)]

    assert firsts(3, 1) == firsts(3, 1)
    assert len({number for job in [(0, 0), (0, 1), (1, 0), (1, 1)] for number in firsts(*job)}) == 12


def draw(rows, jobs, view_probabilities, shape):
    labels = Labels(np.zeros((60, 1)), np.ones((60, 1), bool))
    return EpochBatches.draw(uniform, labels, rows, [HeadRngs.of(*job) for job in jobs], view_probabilities, shape)


def test_views_are_drawn_by_their_probability():
    probabilities = np.array([0.2, 0.0, 0.8])
    batches = draw([np.arange(50)], [(0, 0)], probabilities, (300, 100))
    np.testing.assert_allclose(np.bincount(batches.views.ravel()) / 30_000, probabilities, atol=0.01)


def test_each_job_draws_from_its_own_rows_whatever_its_company():
    parts, jobs = [np.arange(0, 20), np.arange(30, 60), np.arange(0, 20)], [(0, 0), (0, 1), (1, 0)]

    def drawn(numbers):
        rows = [parts[number] for number in numbers]
        return draw(rows, [jobs[number] for number in numbers], np.array([0.5, 0.5]), (4, 5))

    together, alone = drawn([0, 1, 2]), drawn([1])
    assert together.images.shape == together.views.shape == (4, 3, 5)
    assert together.images.dtype == together.views.dtype == np.int32
    assert set(together.views.ravel()) == {0, 1}
    for number, part in enumerate(parts):
        assert set(together.images[:, number].ravel()) <= set(part)
    assert np.array_equal(alone.images[:, 0], together.images[:, 1])
    assert np.array_equal(alone.views[:, 0], together.views[:, 1])
    assert not np.array_equal(together.images[:, 0], together.images[:, 2])


def test_features_of_a_read_only_map_are_read_without_copying_it(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=(4, 3))
    features = Features(mapped, torch.device("cpu"), torch.float64)
    assert features._matrix.data_ptr() == mapped.ctypes.data
    taken = features.take(torch.tensor([[3, 0], [1, 1]]))
    assert taken.dtype == torch.float64
    assert np.array_equal(taken.numpy(), rows[[[3, 0], [1, 1]]])
