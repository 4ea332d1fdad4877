from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimonk_bench.evaluation.association import AfterTraining, BeforeTraining
from aimonk_bench.evaluation.gain import Gain
from aimonk_bench.evaluation.plain_words import MEANING, USEFUL_AUC, words
from aimonk_bench.evaluation.verdict import Signal, detectable_auc, signal


def signal_of(**changed: Any) -> Signal:
    """The signal of one attribute; of no test that claims anything, with labels enough to find a useful ranking."""
    ones = np.ones(1)
    numbers = dict.fromkeys(("after", "auc", "adjusted", "after_adjusted", "gain", "gain_low"), ones)
    content: dict[str, Any] = {
        **numbers,
        "before": None,
        "before_auc": None,
        "gain_adjusted": ones,
        "largest_gain": ones,
        "detectable_auc": np.array([0.7]),
        "has_signal": [False],
        "ranked": [False],
        "gains": [False],
    }
    return Signal(**content | changed)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"gains": [True], "ranked": [True], "has_signal": [True]}, "works"),
        ({"gains": [True], "has_signal": [True]}, "works"),  # signal before training, and a gain
        ({"ranked": [True], "has_signal": [True]}, "weak"),
        ({"ranked": [True], "has_signal": [True], "detectable_auc": np.array([np.nan])}, "weak"),
        ({}, "not better than guessing"),
        ({"detectable_auc": np.array([USEFUL_AUC])}, "not better than guessing"),
        ({"detectable_auc": np.array([USEFUL_AUC + 0.01])}, "cannot be told"),
        ({"detectable_auc": np.array([1.3])}, "cannot be told"),
        ({"detectable_auc": np.array([np.nan])}, "cannot be told"),  # one class only
        ({"has_signal": [True]}, "cannot be told"),  # associated, but the scores are not shown to have learned it
    ],
)
def test_the_word_of_an_attribute(changed: dict[str, Any], word: str):
    assert words(signal_of(**changed)) == [word]
    assert word in MEANING


def test_each_attribute_has_the_word_of_its_own_tests():
    counts = {"n_positive": np.array([200.0, 200, 200, 3]), "n_negative": np.array([200.0, 200, 200, 40])}
    nothing = np.full(4, 0.9)
    before = BeforeTraining(p=nothing, auc=nothing, notes=[""] * 4, **counts)
    after = AfterTraining(p=np.array([1e-4, 1e-4, 0.7, 0.7]), auc=np.array([0.9, 0.7, 0.5, 0.5]), **counts)
    gain = Gain(np.array([0.2, 0.0, 0, 0]), np.array([0.1, -0.1, -1, -1]), np.array([1e-4, 0.5, 0.5, 0.5]))
    assert (detectable_auc(**counts, attributes=4)[:3] < USEFUL_AUC).all()
    expected = ["works", "weak", "not better than guessing", "cannot be told"]
    assert words(signal(before, after, gain)) == expected
