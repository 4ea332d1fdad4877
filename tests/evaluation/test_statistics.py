"""What the runs of a suite say together: `evaluation.statistics`, and how ``statistics.json`` is kept."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_suite
import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from aimonk_bench import registry
from aimonk_bench.evaluation import scores, statistics, thresholds
from aimonk_bench.evaluation.association import BeforeTraining
from aimonk_bench.evaluation.comparison import Delta
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.metrics import AVERAGED
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.statistics import Entry, Statistics
from aimonk_bench.evaluation.verdict import Doubts
from aimonk_bench.records import files, run, suite
from aimonk_bench.reporting import summary
from aimonk_bench.reporting.verdict import sentence

POLICY = registry.Spec("per_attribute_f1")
ALL = dict.fromkeys(AVERAGED, np.ones(4, dtype=bool))


def entry(made: Predictions, complexity: int = 0, before: BeforeTraining | None = None) -> Entry:
    tuned = thresholds.tune(made, POLICY)
    scored = scores.score(made, tuned, POLICY)
    return Entry(
        lambda: made, tuned, scored, float(scored.figures.value("f1_validation").mean()), (complexity,), before
    )


def stated(entries: dict[str, Entry], reference: str | None = "base") -> Statistics:
    return statistics.statistics(entries, dict.fromkeys(entries, "digest"), reference, ALL)


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    """A weak baseline and three runs of equal strength, the last of them the simplest."""
    made = {"base": (0.3, 0, 9), "one": (1.5, 1, 3), "two": (1.5, 2, 2), "three": (1.5, 3, 1)}
    return {
        name: entry(fake_suite.predictions(images=300, signal=signal, noise=noise), place)
        for name, (signal, noise, place) in made.items()
    }


def test_the_winner_is_the_best_on_validation_and_the_simplest_of_its_equals_is_named(
    entries: dict[str, Entry],
) -> None:
    result = stated(entries)
    assert result.candidates == ["base", "one", "two", "three"]
    assert result.winner == max(entries, key=lambda name: entries[name].validation)
    said = result.verdict
    assert set(said.indistinguishable) == {"one", "two", "three"} - {result.winner}
    assert (said.simplest, said.worse, said.untested) == ("three", ["base"], [])
    assert [result.baseline[name].mark for name in entries] == ["", "better", "better", "better"]
    assert result.against_winner["base"].mark == "worse"
    assert said.outcome == "gain"
    assert (said.run, said.folds) == (result.winner, 3)
    assert said.folds_of_run == result.chosen.runs.count(result.winner)


def test_what_a_test_against_the_baseline_finds_worse_is_not_recommended(
    entries: dict[str, Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests against the baseline and those against the winner are adjusted apart, so that they may disagree."""
    real = statistics.comparison.paired

    def finds_nothing_against_the_winner(*arguments: Any, reference: str, **options: Any) -> dict[str, Delta]:
        deltas = real(*arguments, reference=reference, **options)
        return {
            name: dataclasses.replace(delta, mark="unresolved") if delta.mark == "worse" else delta
            for name, delta in deltas.items()
        }

    cheap = dataclasses.replace(entries["base"], complexity=(0,))
    monkeypatch.setattr(statistics.comparison, "paired", finds_nothing_against_the_winner)
    result = stated({**entries, "base": cheap})
    assert result.against_winner["base"].mark == "unresolved"
    assert result.baseline[result.winner].mark == "better"
    assert (result.verdict.simplest, result.verdict.worse) == ("three", ["base"])
    assert set(result.verdict.indistinguishable) == {"one", "two", "three"} - {result.winner}


def test_a_winner_that_is_worse_than_the_baseline_is_not_recommended(entries: dict[str, Entry]) -> None:
    strong = dataclasses.replace(entries["one"], validation=0.0, complexity=(9,))
    lucky = dataclasses.replace(entries["base"], validation=1.0, complexity=(0,))
    result = stated({"base": strong, "lucky": lucky})
    assert result.winner == "lucky"
    assert result.baseline["lucky"].mark == "worse"
    assert (result.verdict.simplest, result.verdict.worse) == ("base", ["lucky"])


def test_runs_that_failed_make_no_p_smaller(entries: dict[str, Entry]) -> None:
    """A suite of six runs, of which two never finished, and of which one more fails."""
    digests = dict.fromkeys(entries, "digest")
    whole = statistics.statistics(entries, digests, "base", ALL, planned=5)
    for lost in ("one", "two", "three"):
        rest = {name: one for name, one in entries.items() if name != lost}
        some = statistics.statistics(rest, dict.fromkeys(rest, "digest"), "base", ALL, planned=5)
        assert some.planned == whole.planned == 5
        for name in set(rest) - {"base"}:
            assert some.baseline[name].p >= whole.baseline[name].p
    assert whole.baseline["one"].p >= stated(entries).baseline["one"].p
    assert stated(entries).planned == 3


def test_every_figure_of_the_verdict_stands_in_the_record(entries: dict[str, Entry]) -> None:
    result = stated(entries)
    said, signal = result.verdict, result.signal
    assert said.attributes == ["attr1", "attr2", "attr3", "attr4"]
    for names, flags in (
        (said.with_signal, signal.has_signal),
        (said.ranked, signal.ranked),
        (said.with_gain, signal.gains),
    ):
        assert names == [name for name, flag in zip(said.attributes, flags, strict=True) if flag]
    gains = dict(zip(said.attributes, zip(signal.gain, signal.gain_low, strict=True), strict=True))
    assert said.with_gain
    assert [*zip(said.gain.values(), said.gain_low.values(), strict=True)] == [gains[name] for name in said.with_gain]
    assert list(said.gain) == list(said.gain_low) == said.with_gain
    assert min(said.gain_low.values()) > 0, "no gain is claimed whose lower bound is not above 0"
    observed = entries["base"].load().part("test").labels.observed
    np.testing.assert_allclose([*said.missing.values()], 1 - observed.mean(axis=0))
    assert said.doubts is None
    doubts = Doubts(2, dict.fromkeys(said.attributes, 1), {"attr1": ["labels"]})
    doubted = stated({**entries, "base": dataclasses.replace(entries["base"], doubts=doubts)})
    assert doubted.verdict.doubts == doubts
    assert said.smallest_p == np.nanmin(signal.adjusted)
    assert list(said.detectable_auc.values()) == signal.detectable_auc.tolist()
    assert said.largest_gain == max(signal.largest_gain[signal.ranked])
    assert said.auc == pytest.approx(result.chosen.value["roc_auc"][signal.ranked].mean())
    assert said.auc_low < said.auc < said.auc_high
    assert said.ranked_p == max(signal.after_adjusted[signal.ranked])
    assert [p <= 0.05 for p in signal.after_adjusted] == signal.ranked
    assert [said.f1, said.f1_low, said.f1_high] == result.chosen.macro["f1_tuned"].tolist()
    assert said.simplest_f1 == pytest.approx(entries[said.simplest].scores.figures.value("f1_tuned").mean())
    figures = entries["base"].scores.figures
    assert said.all_positive_f1 == pytest.approx(figures.value("floor_f1").mean())
    assert said.prevalence_f1 == pytest.approx(figures.value("prior_f1").mean())
    content = result.to_json()
    assert {content[name] == content["verdict"][name] for name in ("indistinguishable", "simplest")} == {True}
    assert content["winner"] == content["verdict"]["run"] == result.winner


def test_differences_are_those_of_the_figures_and_p_is_adjusted_over_the_runs(entries: dict[str, Entry]) -> None:
    figures = {name: entry.scores.figures.value("f1_tuned") for name, entry in entries.items()}
    result = stated(entries)
    for reference, deltas in (("base", result.baseline), (result.winner, result.against_winner)):
        for name, versus in deltas.items():
            np.testing.assert_allclose(versus.attribute_value, figures[name] - figures[reference], atol=1e-15)
            assert versus.value == pytest.approx((figures[name] - figures[reference]).mean())
        others = [name for name in entries if name != reference]
        _, adjusted, *_ = multipletests([deltas[name].p_unadjusted for name in others], method="holm")
        assert [deltas[name].p for name in others] == pytest.approx(adjusted)
        assert np.isnan(deltas[reference].p)


def test_the_headline_row_is_made_of_the_runs_that_each_fold_chose(entries: dict[str, Entry]) -> None:
    result = stated(entries).chosen
    by_fold = {name: one.scores.validation.mean(axis=(0, 2)) for name, one in entries.items()}
    assert result.runs == [max(by_fold, key=lambda name: by_fold[name][fold]) for fold in range(3)]
    accepted, positive = [], []
    for fold, name in enumerate(result.runs):
        run = Decisions.of(entries[name].load(), entries[name].thresholds)
        rows = run.fold == fold
        accepted.append(run.accepted[:, rows] & run.labels.observed[rows])
        positive.append(run.labels.positive[rows])
    said, truth = np.concatenate(accepted, axis=1), np.concatenate(positive)
    f1 = 2 * (said & truth).sum(1) / (said.sum(1) + truth.sum(0))
    np.testing.assert_allclose(result.value["f1_tuned"], f1.mean(axis=0))
    assert result.macro["f1_tuned"][0] == pytest.approx(f1.mean())
    low, high = result.macro["f1_tuned"][1:]
    assert low < f1.mean() < high


def test_memory_does_not_hold_the_predictions_of_all_runs(entries: dict[str, Entry]) -> None:
    alive: list[int] = []
    read: weakref.WeakSet[Predictions] = weakref.WeakSet()

    def reader(one: Entry) -> Callable[[], Predictions]:
        def load() -> Predictions:
            predictions = dataclasses.replace(one.load())
            read.add(predictions)
            alive.append(len(read))
            return predictions

        return load

    many = {
        f"{name} {n}": dataclasses.replace(one, load=reader(one)) for n in range(3) for name, one in entries.items()
    }
    result = stated(many, reference="base 0")
    assert len(alive) >= len(many)
    assert max(alive) <= 2 + len(set(result.chosen.runs)), "the first one, the one at hand, and those that were chosen"


def test_a_run_with_other_validation_labels_is_compared_but_not_chosen(entries: dict[str, Entry]) -> None:
    made = entries["one"].load()
    hidden = made.labels.masked(~((made.split == "val")[:, None] & made.labels.negative))
    other = entry(dataclasses.replace(made, labels=hidden))
    assert other.validation > max(one.validation for one in entries.values()), "it would win"
    result = stated({**entries, "hidden": other})
    assert "hidden" not in (
        result.winner,
        result.verdict.simplest,
        *result.candidates,
        *result.verdict.indistinguishable,
        *result.chosen.runs,
    )
    assert result.baseline["hidden"].mark == "better", "its test rows are the same"


def test_a_run_with_other_seeds_is_compared_but_not_chosen(entries: dict[str, Entry]) -> None:
    many = entry(fake_suite.predictions(images=300, signal=1.5, noise=5, seeds=4))
    result = stated({**entries, "many": many})
    assert result.candidates == list(entries)
    assert result.chosen.runs == stated(entries).chosen.runs
    assert result.baseline["many"].mark == "better"


def test_without_signal_nothing_is_claimed(entries: dict[str, Entry]) -> None:
    noise = {f"run {n}": entry(fake_suite.predictions(images=300, signal=0.0, noise=n)) for n in range(3)}
    result = stated(noise, reference=None)
    assert result.verdict.outcome == "no_signal"
    assert result.verdict.smallest_p > 0.05
    assert result.baseline == {}
    assert not any(result.signal.has_signal)
    before = BeforeTraining(*(np.full(4, x) for x in (0.001, 0.8, 100, 100)), notes=[""] * 4)
    noise["run 0"] = dataclasses.replace(noise["run 0"], before=before)
    only = stated({"run 0": noise["run 0"]}, reference=None)
    assert only.verdict.outcome == "no_gain", "the test before training alone suffices for signal, not for a gain"
    assert only.signal.before is not None
    assert only.signal.before.tolist() == [0.001] * 4


def content_of(made: Statistics | None) -> object:
    """The content of ``statistics.json``, where NaN equals NaN."""
    assert made is not None
    return files.plain(made.to_json())


def test_the_file_reads_back_and_is_made_again_only_when_a_run_changed(tmp_path: Path) -> None:
    names = ["a", "b"]
    places = fake_suite.write_suite(tmp_path, names)
    for number, (place, name) in enumerate(zip(places, names, strict=True)):
        fake_suite.write_run(place, name, fake_suite.predictions(noise=number))
    made = summary.summarize(suite.collect(tmp_path)).statistics
    assert made
    assert suite.read_statistics(tmp_path) is None, "looking at a table writes nothing"
    suite.write_statistics(tmp_path, made)
    back = suite.read_statistics(tmp_path)
    assert content_of(back) == content_of(made)
    assert back
    names = {"0-a": ("a",), "1-b": ("b",)}
    assert sentence(back.verdict, names, back.against_winner) == sentence(made.verdict, names, made.against_winner)
    marked = dataclasses.replace(made, verdict=dataclasses.replace(made.verdict, f1=0.123))
    suite.write_statistics(tmp_path, marked)
    assert content_of(summary.summarize(suite.collect(tmp_path)).statistics) == content_of(marked)
    fake_suite.write_run(places[1], "b", fake_suite.predictions(noise=7))
    doubts = {"near_cut": 3, "near_alike": dict.fromkeys(made.verdict.attributes, 2), "missing_depends": {}}
    data = files.read_json(places[0] / run.DATA)
    files.write_json(places[0] / run.DATA, data | {"doubts": doubts})
    again = summary.summarize(suite.collect(tmp_path)).statistics
    assert again
    assert again.verdict.f1 != 0.123
    assert again.verdict.doubts == Doubts(**doubts)
    assert again.key["0-a"] != made.key["0-a"], "the data is read, too"
    assert again.key["1-b"] != made.key["1-b"]
    older = files.read_json(tmp_path / suite.STATISTICS) | {"revision": scores.REVISION - 1}
    files.write_json(tmp_path / suite.STATISTICS, older)
    assert content_of(summary.summarize(suite.collect(tmp_path)).statistics) == content_of(again)
