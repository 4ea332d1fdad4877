"""Plug-ins are executed where a head needs their code, and only the code of the run; official splits are read too."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from aimonk_bench import cli, registry
from aimonk_bench.backbones.weights import resolve
from aimonk_bench.config import loader
from aimonk_bench.errors import UserError
from aimonk_bench.records import run as runs
from aimonk_bench.serving import heads, resizing
from aimonk_bench.serving.choice import Choice, choose, executable, executes_plugins
from aimonk_bench.serving.refit import Budget, with_budget
from aimonk_bench.serving.training_data import training_images
from aimonk_bench.suite import tasks
from aimonk_bench.tables import TABLES

PLUGIN = """\
import numpy as np

from aimonk_bench.training.losses import masked_bce


def twice(logits, targets):
    '''Cross-entropy, doubled.'''
    return 2 * masked_bce(logits, targets)


def constant(scores, labels, *, at: float = 0.4):
    '''The same threshold everywhere.'''
    return np.full(scores.shape[1], at), [""] * scores.shape[1]


LOSSES = {"twice": twice}
THRESHOLDS = {"constant": constant}
"""
CONFIG = """\
data: {labels: synthetic/labels.txt, images: synthetic/images}
plugins: [twice.py]
loss: twice
threshold: {name: per_attribute_f1, for: {attr2: constant}}
split: {scheme: holdout, val: 0.3, test: 0.3}
backbone: {name: tf_efficientnet_lite0}
transform: {size: 32}
train: {epochs: 2, seeds: 2}
tune: {}
"""


@pytest.fixture(scope="module")
def plugged(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plug-in of a loss and a threshold policy, and a finished run of it."""
    folder = tmp_path_factory.mktemp("plugged")
    shutil.copytree(workplace / "synthetic", folder / "synthetic")
    (folder / "twice.py").write_text(PLUGIN)
    (folder / "twice.yaml").write_text(CONFIG)
    words = ["run", str(folder / "twice.yaml"), "--out", str(folder / "run"), "--allow-plugins", "--quiet"]
    assert cli.main(words) == 0
    return folder


@pytest.fixture(scope="module")
def named(plugged: Path) -> Choice:
    """The run, of whose plug-in nothing was executed."""
    return choose(plugged / "run")


def test_a_policy_of_a_plug_in_is_executed_with_permission_only(
    plugged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of the heads has other thresholds than its seeds. To read labels needs no code of a plug-in."""
    export = ["export", str(plugged / "run"), "-o", str(plugged / "bundle")]
    assert cli.main(export) == 2
    printed = capsys.readouterr().err
    assert f"{plugged / 'run' / runs.CONFIG}:2:1: plugins: found code that would be executed: " in printed
    assert "--allow-plugins on the command line (in Python allow_plugins=True)" in printed
    assert not (plugged / "bundle").exists()
    assert cli.main([*export, "--allow-plugins"]) == 0
    assert "--head mean --allow-plugins\n" in (plugged / "bundle" / "README.md").read_text()
    monkeypatch.setattr("aimonk_bench.plugins._module", lambda plugin: 1 / 0)
    images = str(plugged / "synthetic" / "images")
    assert cli.main(["predict", str(plugged / "bundle"), images, "--labels", str(plugged / "twice.yaml")]) == 0
    assert "attr2" in capsys.readouterr().out


def test_a_head_of_a_seed_needs_no_plug_in(
    plugged: Path, named: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its file nor permission; the command of the card asks for none."""
    monkeypatch.setattr("aimonk_bench.plugins._module", lambda plugin: 1 / 0)
    (plugged / "twice.py").rename(tmp_path / "twice.py")
    try:
        chosen = executable(choose(plugged / "run"), "seed", allow_plugins=False)
    finally:
        (tmp_path / "twice.py").rename(plugged / "twice.py")
    record, config = chosen.record, chosen.config
    assert config.plugins == []
    assert heads.saved(record, config, (1,)).weight.shape[0] == 4
    assert training_images(chosen, "seed") is not None
    assert heads.tuned_seed(record, config, 1).thresholds.tolist() == record.thresholds.values[1, 0].tolist()
    assert [loader.plain(named.config)[key] for key in ("loss", "plugins")] == ["twice", [str(plugged / "twice.py")]]


@pytest.mark.parametrize("kind", ["mean", "refit"])
def test_a_plug_in_that_has_changed_since_the_run_is_refused(
    kind: heads.Kind, plugged: Path, named: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "encode", lambda *_: 1 / 0)
    before = named.record.environment["plugins"][0]["sha256"]
    (plugged / "twice.py").write_text(PLUGIN.replace("2 *", "3 *"))
    try:
        with pytest.raises(UserError) as refused:
            executable(named, kind, allow_plugins=True)
    finally:
        (plugged / "twice.py").write_text(PLUGIN)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{plugged / 'twice.py'}: found the SHA-256 ")
    assert f"expected {before} as in {plugged / 'run' / runs.ENVIRONMENT}" in problem
    assert "fix: put back the code of the run, or run again" in problem
    assert executable(named, kind, allow_plugins=True).config.plugins[0].sha256 == before


@pytest.mark.parametrize(
    ("changes", "executed"),
    [
        ({}, ["mean", "refit"]),
        ({"loss": registry.Spec("masked_bce")}, ["mean"]),  # nothing is tuned when a recipe is trained again
        ({"threshold": registry.Spec("pooled")}, ["refit"]),
        ({"loss": registry.Spec("masked_bce"), "threshold": registry.Spec("pooled")}, []),
        ({"plugins": []}, []),
    ],
)
def test_what_is_executed_depends_on_the_head(changes: dict[str, object], executed: list[str], named: Choice) -> None:
    config = named.config.model_copy(update=changes)
    assert [kind for kind in ("seed", "mean", "refit") if executes_plugins(config, kind)] == executed
    backbone = config.backbone.model_copy(update={"name": "of_a_plug_in"})
    with_backbone = config.model_copy(update={"backbone": backbone})
    assert executes_plugins(with_backbone, "seed") == bool(config.plugins)
    assert with_budget(config, Budget({}, 1), [0]).threshold.attributes == {}


def test_images_of_an_official_split_are_looked_at(workplace: Path, tmp_path: Path) -> None:
    names = [line.split()[0] for line in (workplace / "synthetic" / "labels.txt").read_text().splitlines()]
    parts = np.resize(["train", "train", "val", "test"], len(names))
    rows = [f"{name},{n % 2},{part}" for n, (name, part) in enumerate(zip(names, parts, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(["image,a,part", *rows]) + "\n")
    (tmp_path / "official.yaml").write_text(
        f"data: {{labels: labels.csv, images: {workplace / 'synthetic' / 'images'}}}\n"
        "split: {scheme: column, column: part, train: [train], val: [val], test: [test]}\n"
        "backbone: {name: tf_efficientnet_lite0}\ntransform: {size: 32}\n"
    )
    config = loader.load(tmp_path / "official.yaml", TABLES)
    assert len(resizing.samples(config, resolve(config.backbone), [names])) == len(names)
