"""Which run of a suite is exported."""

from __future__ import annotations

from pathlib import Path

import fake_suite
import pytest

import aimonk_bench as ab
from aimonk_bench.errors import UserError
from aimonk_bench.records import run as runs
from aimonk_bench.serving.choice import choose

NAMES = ["focal", "hill", "asymmetric"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that cannot be told apart, the second better and more complex, and one that is worse."""
    folder = tmp_path_factory.mktemp("suite")
    places = fake_suite.write_suite(folder, NAMES)
    for noise, (place, name, signal) in enumerate(zip(places, NAMES, (1.5, 1.52, 0.0), strict=True)):
        fake_suite.write_run(place, name, fake_suite.predictions(signal=signal, noise=noise, images=400))
        with (place / runs.CONFIG).open("a") as config:
            config.write("data: {labels: /labels.txt, images: /images}\n")
    status = places[1] / runs.STATUS
    status.write_text(status.read_text().replace('"trainings": 1', '"trainings": 9'))
    return folder


def test_the_run_of_a_suite(suite: Path):
    selected, simplest, named = choose(suite, which="selected"), choose(suite), choose(suite, "2-asymmetric")
    verdict = selected.statistics.verdict
    assert (verdict.run, verdict.simplest) == ("1-hill", "0-focal")
    assert (selected.record.status.id, selected.reason) == ("1-hill", "selected")
    assert (simplest.record.status.id, simplest.reason) == ("0-focal", "simplest")
    assert (named.record.status.id, named.reason) == ("2-asymmetric", "named")


def test_statistics_are_those_of_the_suite_where_they_are_about_the_run(suite: Path):
    assert choose(suite).of_suite
    assert choose(suite).statistics.verdict.run == "1-hill"
    worse = choose(suite, "2-asymmetric")
    assert not worse.of_suite
    assert worse.statistics.verdict.run == "2-asymmetric"
    assert choose(suite).better_than_guessing
    assert not worse.better_than_guessing


def test_the_only_run_of_a_folder(suite: Path):
    chosen = choose(suite / "runs" / "2-asymmetric")
    assert (chosen.record.status.id, chosen.reason, chosen.of_suite) == ("2-asymmetric", "only", False)
    assert choose(suite / "runs" / "2-asymmetric", "2-asymmetric").reason == "named"


def test_where_no_run_has_an_f1_on_validation_rows_one_must_be_named(tmp_path: Path):
    """As `Suite.selected` is None there."""
    (place,) = fake_suite.write_suite(tmp_path, ["focal"])
    fake_suite.write_run(place, "focal", fake_suite.predictions(without_positives=["attr1", "attr2", "attr3", "attr4"]))
    with (place / runs.CONFIG).open("a") as config:
        config.write("data: {labels: /labels.txt, images: /images}\n")
    loaded = ab.Suite(tmp_path)
    assert (loaded.selected, loaded.simplest) == (None, None)
    with pytest.raises(UserError, match=r"no run has an F1 on validation rows.*fix: name a run \(0-focal\)"):
        choose(tmp_path)
    assert choose(tmp_path, "0-focal").reason == "named"


def test_a_suite_of_one_run_is_a_suite(tmp_path: Path):
    (place,) = fake_suite.write_suite(tmp_path, ["focal"])
    fake_suite.write_run(place, "focal", fake_suite.predictions())
    with (place / runs.CONFIG).open("a") as config:
        config.write("data: {labels: /labels.txt, images: /images}\n")
    assert [choose(tmp_path, which=which).reason for which in ("selected", "simplest", None)] == [
        "selected",
        "simplest",
        "simplest",
    ]


def test_the_backbone_is_the_one_that_was_used(suite: Path):
    """The declared fallback, not the one that was asked for."""
    backbone = choose(suite).config.backbone
    assert (backbone.name, backbone.weights, backbone.fallback) == ("tf_efficientnet_lite0", "imagenet", None)
