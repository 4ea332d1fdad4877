"""Plug-ins are executed where a head needs their code, and only the code of the run; official splits are read too."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimonk_bench import cli, registry
from aimonk_bench.backbones.weights import resolve
from aimonk_bench.config import loader
from aimonk_bench.errors import UserError
from aimonk_bench.records import run as runs
from aimonk_bench.serving import heads, resizing
from aimonk_bench.serving.choice import Choice, choose, executable, executes_plugins
from aimonk_bench.serving.refit import Budget, with_budget
from aimonk_bench.serving.training_data import training_images
from aimonk_bench.serving.training_images import TrainingImages
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
NETWORK = '''\
import timm
from torch import nn

from aimonk_bench.backbones.catalog import Entry


class Bare(nn.Module):
    """Two convolutions, without a classifier."""

    def __init__(self):
        super().__init__()
        self.num_features = 6
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3, 2))
        self.head = nn.Identity()

    def forward(self, images):
        return self.head(self.layers(images).mean((2, 3)))


class Whole(Bare):
    """With the methods of timm's networks."""

    def get_classifier(self):
        return self.head

    def reset_classifier(self, num_classes):
        self.head = nn.Linear(6, num_classes) if num_classes else nn.Identity()


@timm.models.register_model
def exported_bare(pretrained=False, num_classes=0, **options):
    return Bare()


@timm.models.register_model
def exported_whole(pretrained=False, num_classes=0, **options):
    network = Whole()
    network.reset_classifier(num_classes)
    return network


NAMES = ("exported_bare", "exported_whole")
CATALOG = {name: Entry(timm=name, features=6, licence=None, hub=None, size=32, multiple=1) for name in NAMES}
'''


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
    for name in ("of_a_plug_in", "resnet26"):  # timm has the other name too
        with_backbone = config.model_copy(update={"backbone": config.backbone.model_copy(update={"name": name})})
        assert executes_plugins(with_backbone, "seed") == bool(config.plugins)
    assert with_budget(config, Budget({}, 1), [0]).threshold.attributes == {}


def test_images_of_an_official_split_are_looked_at(workplace: Path, tmp_path: Path) -> None:
    names = [line.split()[0] for line in (workplace / "synthetic" / "labels.txt").read_text().splitlines()]
    parts = np.resize(["train", "train", "val", "test", ""], len(names))  # a fifth is in no part
    rows = [f"{name},{n % 2},{part}" for n, (name, part) in enumerate(zip(names, parts, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(["image,a,part", *rows]) + "\n")
    (tmp_path / "official.yaml").write_text(
        f"data: {{labels: labels.csv, images: {workplace / 'synthetic' / 'images'}}}\n"
        "split: {scheme: column, column: part, train: [train], val: [val], test: [test]}\n"
        "backbone: {name: tf_efficientnet_lite0}\ntransform: {size: 32}\n"
    )
    config = loader.load(tmp_path / "official.yaml", TABLES)
    assert len(resizing.samples(config, resolve(config.backbone), [names])) == len(names)


def test_no_head_has_learned_from_images_that_an_official_split_leaves_out(workplace: Path, tmp_path: Path) -> None:
    folder = workplace / "synthetic"
    listed = [line.split() for line in (folder / "labels.txt").read_text().splitlines()]
    parts = np.resize(["train", "train", "val", "test", ""], len(listed))
    rows = [f"{name},{labels[0]},{part}" for (name, *labels), part in zip(listed, parts, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,a,part", *rows]) + "\n")
    (tmp_path / "official.yaml").write_text(
        f"data: {{labels: labels.csv, images: {folder / 'images'}}}\n"
        "split: {scheme: column, column: part, train: [train], val: [val], test: [test]}\n"
        "backbone: {name: tf_efficientnet_lite0}\ntransform: {size: 32}\ntrain: {epochs: 1, seeds: 1}\ntune: {}\n"
    )
    words = ["run", str(tmp_path / "official.yaml"), "--out", str(tmp_path / "run"), "--quiet"]
    assert cli.main(words) == 0
    hashes = {part: [] for part in parts.tolist()}
    for (name, *_), part in zip(listed, parts.tolist(), strict=True):
        hashes[part].append(hashlib.sha256((folder / "images" / name).read_bytes()).hexdigest())
    learned = hashes["train"] + hashes["val"]
    for kind, expected in {"seed": learned, "refit": learned + hashes["test"]}.items():
        images = training_images(choose(tmp_path / "run"), kind)
        assert images.text == TrainingImages.of(expected).text


@pytest.fixture(scope="module")
def networks(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Name of a network of a plug-in -> the folder of a run with it, frozen."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "network.py").write_text(NETWORK)
    images = {"labels": workplace / "synthetic" / "labels.txt", "images": workplace / "synthetic" / "images"}
    config: dict[str, Any] = {"data": {key: str(path) for key, path in images.items()}, "split": {"scheme": "holdout"}}
    config |= {"plugins": ["network.py"], "transform": {"size": 32}, "run": {"executor": "serial"}}
    config |= {"train": {"epochs": 1, "seeds": 1}, "tune": {}}

    def finished(network: str) -> str:
        file = folder / f"{network}.yaml"
        file.write_text(json.dumps(config | {"backbone": {"name": network, "weights": "none"}}))
        words = ["run", str(file), "--out", str(folder / network), "--allow-plugins", "--quiet"]
        assert cli.main(words) == 0
        return str(folder / network)

    return finished


def test_a_network_of_a_plug_in_is_exported(networks: Callable[[str], str], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    assert cli.main(["export", networks("exported_whole"), "-o", str(bundle), "--allow-plugins"]) == 0
    card = (bundle / "README.md").read_text()
    assert "exported\\_whole has no pretrained weights." in card
    scope: dict[str, Any] = {}
    exec(card.split("```python\n")[1].split("```")[0].replace("BUNDLE", str(bundle)), scope)
    images = 255 * torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    settings = json.loads((bundle / "config.json").read_text())["pretrained_cfg"]
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        logits = scope["model"]((images / 255 - mean) / std)
    (of_graph,) = scope["session"].run(["logits"], {"images": images.numpy()})
    np.testing.assert_allclose(of_graph, logits.numpy(), rtol=1e-4, atol=1e-4)


def test_a_network_without_a_classifier_cannot_be_exported(
    networks: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", networks("exported_bare"), "-o", str(tmp_path / "bundle"), "--allow-plugins"]
    assert cli.main(words) == 1
    reason = "exported_bare cannot be exported as one network of timm: it has no reset_classifier and get_classifier"
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
