from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracles import arrays, predictions, probabilities, run_of
from sklearn.metrics import f1_score

from aimonk_bench.evaluation.metrics import figures
from aimonk_bench.evaluation.scores import oracle_f1, threshold_checks
from aimonk_bench.evaluation.thresholds import cross_fitted, tune
from aimonk_bench.registry import Spec

POLICY = Spec("per_attribute_f1")


def test_the_checks_are_differences_of_scikit_learns_f1() -> None:
    run = predictions(images=150)
    tuned, unseen = tune(run, POLICY), cross_fitted(run, POLICY)
    result = threshold_checks(run, tuned, figures(run, tuned, unseen))
    tuned_rows = tuned.values[:, run.fold]
    for a in range(4):

        def score(split: str, limits: np.ndarray, a: int = a) -> float:
            rows = (run.split == split) & run.labels.observed[:, a]
            limits = np.broadcast_to(limits[..., a], probabilities(run).shape[:2])
            return float(
                np.mean(
                    [
                        f1_score(run.labels.targets[rows, a], (probabilities(run)[s, :, a] > limits[s])[rows])
                        for s in (0, 1)
                    ]
                )
            )

        scattered = np.zeros(tuned_rows.shape)
        scattered[:, run.split == "val"] = unseen
        assert result["optimism"][a] == pytest.approx(score("val", tuned_rows) - score("val", scattered), abs=1e-12)
        assert result["validation_minus_test"][a] == pytest.approx(
            score("val", tuned_rows) - score("test", tuned_rows), abs=1e-12
        )
    for fold in range(3):
        val = (run.fold == fold) & (run.split == "val")
        assert np.array_equal(
            result["validation_positives"][fold],
            (run.labels.observed[val] & (run.labels.targets[val] == 1)).sum(axis=0),
        )


@pytest.mark.parametrize("seed", range(5))
def test_the_oracle_is_the_best_of_all_thresholds_of_all_folds(seed: int) -> None:
    run = predictions(seed, images=24, folds=3, seeds=1, missing=0.2)
    result = oracle_f1(run)[0]
    for a in range(4):
        choices = []  # of each fold: what every cut accepts, and how many of it are positive
        for fold in range(3):
            rows = (run.fold == fold) & (run.split == "test") & run.labels.observed[:, a]
            scores, targets = probabilities(run)[0, rows, a], run.labels.targets[rows, a]
            choices.append([(int((scores > t).sum()), int(targets[scores > t].sum())) for t in (-1.0, *scores)])
        test = run.split == "test"
        positives = int(run.labels.targets[test, a].sum())
        every = (np.sum(cuts, axis=0) for cuts in itertools.product(*choices))
        best = max(2 * hits / (accepted + positives) for accepted, hits in every) if positives else np.nan
        assert result[a] == pytest.approx(best, nan_ok=True)


def test_no_policy_reaches_more_than_the_oracle_and_noise_is_optimistic() -> None:
    content = arrays(1, images=600, folds=3, seeds=8)
    content["logits"] = np.random.default_rng(0).normal(size=content["logits"].shape).astype(np.float32)
    run = run_of(content)
    tuned, unseen = tune(run, POLICY), cross_fitted(run, POLICY)
    result = threshold_checks(run, tuned, figures(run, tuned, unseen))
    assert (result["unachievable_oracle_f1"] >= figures(run, tuned, unseen).value("f1_tuned")).all()
    assert (result["optimism"][[1, 2, 3]] > 0).all()
    # without signal the rows that a threshold has not seen are like test rows; the rare attribute shows it most
    assert result["optimism"][3] > 0.05
    assert abs(result["validation_minus_test"][3] - result["optimism"][3]) < result["optimism"][3]


def test_an_attribute_without_a_positive_has_no_oracle() -> None:
    content = arrays(2)
    content["targets"][:, 3] = 0
    run = run_of(content)
    tuned = tune(run, POLICY)
    result = threshold_checks(run, tuned, figures(run, tuned, cross_fitted(run, POLICY)))
    assert np.isnan([result["optimism"][3], result["unachievable_oracle_f1"][3]]).all()
    assert np.isfinite(result["optimism"][:3]).all()
