"""What identifies a run, and the declared order of complexity."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_suite import planned

from aimonk_bench import cli
from aimonk_bench.config import grid
from aimonk_bench.errors import UserError
from aimonk_bench.suite import plan


def test_the_id_names_what_differs_from_the_defaults(workplace: Path) -> None:
    run = planned(
        workplace / "small.yaml",
        "loss={name: focal, gamma: 1.0}",
        "train.lr=0.01",
        "train.schedule=cosine",
        "threshold=pooled",
        "hide={mechanism: random}",
    ).baseline
    readable, _, digest = run.id.rpartition("-")
    assert readable == (
        "focal_gamma_1.0-uniform-pooled-cosine-hide_random_fraction_0.5-tf_efficientnet_lite0-lr0.01-batch_size16-epochs2"
    )
    assert len(digest) == 6
    assert set(digest) <= set("0123456789abcdef")


@pytest.mark.parametrize("override", ["name=other", "plot.title=other", "run.executor=serial"])
def test_what_changes_no_result_changes_no_id(workplace: Path, override: str) -> None:
    config = workplace / "small.yaml"
    assert planned(config, override).baseline.id == planned(config).baseline.id


def test_what_changes_a_result_changes_the_id(workplace: Path) -> None:
    overrides = ["calibration=platt", "split.seed=1", "train.seeds=3", "tune={train.lr: [0.1, 0.01]}", "loss=focal"]
    ids = {planned(workplace / "small.yaml", override).baseline.id for override in overrides}
    assert len(ids | {planned(workplace / "small.yaml").baseline.id}) == len(overrides) + 1


def test_a_policy_of_an_attribute_enters_the_id(workplace: Path) -> None:
    config, policy = workplace / "small.yaml", "threshold={name: pooled, for: {%s: {name: target_precision}}}"
    first, second = (planned(config, policy % name).baseline.id for name in ("attr1", "attr2"))
    assert first != second


def test_an_unknown_attribute_with_a_policy_is_refused_where_it_stands(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace / "policies.yaml"
    path.write_text("extends: small.yaml\nthreshold: {name: pooled, for: {atr1: fixed, attr2: fixed, x: fixed}}\n")
    for verb in ("validate", "run"):
        assert cli.main([verb, str(path)]) == 2
        first, second = capsys.readouterr().err.splitlines()
        assert (
            f"{path}:2:33: threshold.for.atr1: found unknown attribute 'atr1', expected one of attr1, attr2," in first
        )
        assert first.endswith("(did you mean attr1?)")
        assert f"{path}:2:60: threshold.for.x: " in second
    assert cli.main(["validate", str(path), "--set", "threshold.for={atr1: fixed}"]) == 2
    assert capsys.readouterr().err


def test_runs_are_ordered_by_complexity(workplace: Path) -> None:
    """More of the backbone trained, more trainings of a head, more departures from the reference recipe."""
    orders = [
        plan.complexity(planned(workplace / "small.yaml", *overrides).baseline.config, features=1280)
        for overrides in (
            [],
            ["loss=pos_weight"],
            ["loss=pos_weight", "sampler=balanced"],
            ["tune={train.lr: [0.1, 0.01]}"],
            ["tune={train.lr: [0.1, 0.01, 0.001]}"],
            ["backbone.freeze=blocks.3"],
            ["backbone.freeze=none"],
        )
    ]
    assert orders == sorted(orders)
    assert len(set(orders)) == len(orders)


FAR = (  # from every default that a name shows
    "loss={name: distribution_balanced, alpha: 0.25, beta: 12.5, mu: 0.25, lam: 2.5, bias: 0.15, gamma: 1.5}",
    "missing={name: selective, gamma_u: 3.5, prior: 0.25, likely: 0.75}",
    "sampler={name: coverage, c: 2}",
    "threshold={name: cross_fit, parts: 7, seed: 17}",
    "hide={mechanism: per_class, fraction: 0.125, rows: train, seed: 17}",
    "train={optimizer: {name: sgd, momentum: 0.95, nesterov: true}, lr: 0.0125, weight_decay: 0.00125, seeds: 2,"
    " schedule: cosine, batch_size: 18, epochs: 3, clip: 1.25, select: roc_auc, patience: 2}",
)


def test_an_id_is_bounded_and_its_hash_tells_runs_apart(workplace: Path) -> None:
    ids = {planned(workplace / "small.yaml", *FAR, f"train.lr={lr}").baseline.id for lr in (0.2, 0.3)}
    assert len(ids) == 2
    assert {len(run_id) for run_id in ids} == {plan.LONGEST_ID}
    assert len({run_id.rpartition("-")[0] for run_id in ids}) == 1


@pytest.mark.parametrize(("name", "code"), [("a" * 240, 0), ("ä" * 120, 0), ("a" * 241, 2), ("ä" * 121, 2)])
def test_a_name_must_be_that_of_a_folder(workplace: Path, name: str, code: int) -> None:
    assert cli.main(["validate", str(workplace / "small.yaml"), "--set", f"name={name}"]) == code


def test_the_configs_of_a_suite_with_a_long_name_can_be_run_by_themselves(pair: Path, tmp_path: Path) -> None:
    for run in planned(pair, f"name={'ä' * 120}", *FAR[3:]).runs:
        assert len(run.config.name.encode()) <= 240
        assert run.config.name.startswith("ä" * 50)
        assert run.config.name.endswith(run.id)
        (tmp_path / "config.yaml").write_text(run.text)
        assert planned(tmp_path / "config.yaml").baseline.id == run.id


def test_of_data_only_what_decides_pixels_enters_an_id(workplace: Path) -> None:
    config = planned(workplace / "small.yaml").baseline.config
    assert set(grid.public(config)["data"]) <= {"white"}
    changed = config.model_copy(update={"data": config.data.model_copy(update={"importer": "labels_txt"})})
    assert grid.public(changed) == grid.public(config)


def test_the_same_labels_in_another_format_have_the_same_id(workplace: Path) -> None:
    rows = [line.split() for line in (workplace / "synthetic" / "labels.txt").read_text().splitlines()]
    lines = [f"row;image;{';'.join(f'attr{number}' for number in range(1, 5))}"]
    words = {"1": "yes", "0": "no", "NA": "?"}
    lines += [";".join([str(number), row[0], *(words[token] for token in row[1:])]) for number, row in enumerate(rows)]
    (workplace / "renamed.csv").write_text("\n".join(lines))
    again = planned(
        workplace / "small.yaml",
        f"data.labels={workplace / 'renamed.csv'}",
        f"data.truth={workplace / 'synthetic' / 'truth.csv'}",
        "data.importer=wide_csv",
        "data.id=image",
        "data.attributes=[attr1, attr2, attr3, attr4]",
        "data.values={positive: ['yes', '1'], negative: ['no', '0'], missing: ['?']}",
    )
    assert again.baseline.id == planned(workplace / "small.yaml").baseline.id


def test_a_revision_of_the_code_changes_every_id(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned(workplace / "small.yaml").baseline.id
    monkeypatch.setattr(plan, "REVISION", plan.REVISION + 1)
    after = planned(workplace / "small.yaml").baseline.id
    assert before.rpartition("-")[0] == after.rpartition("-")[0]
    assert before != after


def test_a_run_that_stands_in_a_suite_twice_is_refused(workplace: Path) -> None:
    for name in ("one.pth", "two.pth"):
        (workplace / name).write_bytes(b"the same bytes")
    (workplace / "twins.yaml").write_text(
        "extends: small.yaml\nsuite:\n  baseline: {backbone.weights: ./one.pth}\n"
        "  axes: {backbone.weights: [./one.pth, ./two.pth]}\n"
    )
    with pytest.raises(UserError, match=r"suite\.axes: weights=one\.pth and weights=two\.pth are the same run"):
        planned(workplace / "twins.yaml")
