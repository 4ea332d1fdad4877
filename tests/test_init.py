"""`init`: the YAML that it writes is accepted as it is, reads what the presets read, and hides no doubt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from label_files import states
from published_data import PUBLISHED, Published, write

from aimonk_bench import cli
from aimonk_bench.backbones import weights
from aimonk_bench.config import loader
from aimonk_bench.data import label_file
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.tables import TABLES

PRESETS = Path(__file__).parents[1] / "configs" / "datasets"
SMALL = ["transform.size=32", "train.epochs=1", "train.seeds=1", "split={scheme: holdout, val: 0.25, test: 0.25}"]


def init(labels: Path, images: Path, out: Path | None = None) -> int:
    words = [] if out is None else ["-o", str(out)]
    return cli.main(["init", "--labels", str(labels), "--images", str(images), *words])


def read(config: Path, *overrides: str) -> LabelFile:
    loaded = loader.load(config, TABLES, overrides)
    columns = [loaded.split.column] if loaded.split.scheme == "column" else []
    return label_file.load(loaded.data, columns)


def by_attribute(listed: LabelFile) -> dict[str, list[int | None]]:
    columns = zip(*states(listed.labels), strict=True)
    return {name: list(column) for name, column in zip(listed.labels.attributes, columns, strict=True)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_data_sets_are_read_as_their_presets_read_them(name: str, tmp_path: Path) -> None:
    published = PUBLISHED[name]
    write(tmp_path, published)
    assert init(tmp_path / published.labels, tmp_path / published.images, tmp_path / "guess.yaml") == 0
    listed = read(tmp_path / "guess.yaml")
    settings = {"data.labels": published.labels, "data.images": published.images, **published.options}
    paths = {
        key: str(tmp_path / value) for key, value in settings.items() if key.endswith(("labels", "images", "names"))
    }
    preset = PRESETS / f"{name.split()[0]}.yaml"
    expected = read(preset, *(f"{key}={value}" for key, value in (settings | paths).items()))
    assert listed.ids == expected.ids
    observed = {attribute: labels for attribute, labels in by_attribute(expected).items() if {*labels} != {None}}
    never = {attribute for attribute in observed if attribute == "No Finding" or 1 not in observed[attribute]}
    read_by_both = by_attribute(listed).keys() & observed.keys()
    assert observed.keys() - never <= read_by_both
    assert {attribute: by_attribute(listed)[attribute] for attribute in read_by_both} == {
        attribute: observed[attribute] for attribute in read_by_both
    }
    if len(listed.ids) >= 3:
        assert cli.main(["validate", str(tmp_path / "guess.yaml")]) == 0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, workplace: Path) -> Path:
    """The images of the workplace with label files in other formats."""
    folder = tmp_path_factory.mktemp("init")
    rows = [line.split() for line in (workplace / "synthetic" / "labels.txt").read_text().splitlines()]
    words = {"1": "yes", "0": "no", "NA": "?"}
    wide = [
        f"{n // 2};{name};{30 + n % 40};{';'.join(words[token] for token in tokens)}"
        for n, (name, *tokens) in enumerate(rows)
    ]
    (folder / "wide.csv").write_text("\n".join(["patient;file;age;a;b;c;d", *wide]))
    tags = [
        f"{name.partition('.')[0]},{'|'.join(tag for tag, token in zip('pqrs', tokens, strict=True) if token == '1')}"
        for name, *tokens in rows
    ]
    (folder / "tags.csv").write_text("\n".join(["Id,Target", *tags]))
    return folder


@pytest.mark.parametrize("name", ["labels.txt", "wide.csv", "tags.csv"])
def test_the_yaml_runs_unchanged(name: str, many: Path, workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    synthetic = workplace / "synthetic"
    labels, config = (synthetic if name == "labels.txt" else many) / name, many / f"{name}.yaml"
    assert init(labels, synthetic / "images", config) == 0
    assert cli.main(["validate", str(config)]) == 0
    overrides = [word for setting in SMALL for word in ("--set", setting)]
    assert cli.main(["run", str(config), "--out", str(many / f"{name}.run"), "--quiet", *overrides]) == 0
    assert len(json.loads((many / f"{name}.run" / "metrics.json").read_text())) > 0


def test_paths_are_relative_below_the_folder_of_the_yaml_and_absolute_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = PUBLISHED["celeba"]
    write(tmp_path / "data", published)
    monkeypatch.chdir(tmp_path / "data")
    labels, images = Path(published.labels), Path(published.images)
    (tmp_path / "other").mkdir()
    assert init(labels, images, Path("../below.yaml")) == 0
    assert init(labels, images, Path("../other/beside.yaml")) == 0
    capsys.readouterr()
    assert init(labels, images) == 0
    assert f'labels: "{tmp_path}/data/{labels}"' in capsys.readouterr().out
    assert 'labels: "data/list_attr_celeba.txt"' in (tmp_path / "below.yaml").read_text()
    for config in (tmp_path / "below.yaml", tmp_path / "other" / "beside.yaml"):
        assert loader.load(config, TABLES).data.labels == tmp_path / "data" / labels


def test_every_doubt_is_a_comment_and_a_line_of_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    published = PUBLISHED["chexpert"]
    write(tmp_path, published)
    assert init(tmp_path / published.labels, tmp_path) == 0
    captured = capsys.readouterr()
    text = " ".join(line.strip().lstrip("# ") for line in captured.out.splitlines())
    for words in ("-1.0 is read as uncertain", "left out 'Frontal/Lateral'", "too few for folds"):
        assert words in text
        assert words in captured.err
    for words in ("'-1.0' missing (2)", "Age", "3 of 3 listed images"):
        assert words in captured.err
    assert "Age" not in by_attribute_names(captured.out)


def by_attribute_names(text: str) -> list[str]:
    return [line.strip().removeprefix("- ").strip('"') for line in text.splitlines() if line.strip().startswith("- ")]


def test_names_of_any_kind_are_read_back(tmp_path: Path) -> None:
    names = ["yes", "null", "1e3", "~", "a: b # c", "it's", 'say "hi"', "back\\slash", "größe\u2028", "- x", "{y}"]
    header = ["image", "age", *(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)]
    write(tmp_path, Published({}, "", "images", [f"{n}.png" for n in range(4)], []))
    rows = [f"{n}.png,{40 + n},{','.join(str((n + k) % 2) for k in range(len(names)))}" for n in range(4)]
    (tmp_path / "my 'labels'.csv").write_text("\n".join([",".join(header), *rows]), "utf-8")
    assert init(tmp_path / "my 'labels'.csv", tmp_path / "images", tmp_path / "new.yaml") == 0
    loaded = loader.load(tmp_path / "new.yaml", TABLES)
    assert loaded.data.attributes == [name.strip() for name in names]
    assert loaded.data.labels == tmp_path / "my 'labels'.csv"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = PUBLISHED["celeba"]
    write(tmp_path, published)
    (tmp_path / "mine.yaml").write_text("mine")
    for out in ("mine.yaml", "no/folder.yaml"):
        capsys.readouterr()
        assert init(tmp_path / published.labels, tmp_path / published.images, tmp_path / out) == 2
        assert str((tmp_path / out).parent) in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_what_cannot_be_used_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.csv").write_text("name,age\na.png,3\n")
    (tmp_path / "images").mkdir()
    assert init(tmp_path / "labels.csv", tmp_path / "images", tmp_path / "new.yaml") == 2
    captured = capsys.readouterr()
    assert f"{tmp_path}/labels.csv:1:" in captured.err
    assert "no file" in captured.err
    assert not (tmp_path / "new.yaml").exists()


@pytest.mark.parametrize(
    ("here", "backbone", "comment"),
    [
        ({"resnet18", "tf_efficientnet_lite0"}, "resnet18", "# its ImageNet weights are on this machine"),
        ({"tf_efficientnet_lite0"}, "tf_efficientnet_lite0", "# its ImageNet weights are on this machine"),
        ({"resnet50"}, "resnet50", "# its ImageNet weights are on this machine"),
        (set(), "resnet18", "# Check: no ImageNet weights are on this machine"),
    ],
)
def test_a_backbone_whose_weights_are_here(
    here: set[str],
    backbone: str,
    comment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {weights.catalog.entry(name).timm for name in here}
    monkeypatch.setattr(weights, "local", lambda entry: "cache, /somewhere" if entry.timm in names else None)
    published = PUBLISHED["celeba"]
    write(tmp_path, published)
    assert init(tmp_path / published.labels, tmp_path / published.images) == 0
    printed = capsys.readouterr().out
    assert f'backbone: {{name: "{backbone}"}}' in printed
    assert comment in printed
