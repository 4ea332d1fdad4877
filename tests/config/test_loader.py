"""From files and overrides to one config: `extends`, ``--set``, paths, dumps."""

from __future__ import annotations

import copy
import logging
import os
import shlex
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import DATA, SUITE, TABLES, load, load_suite, problems

from aimonk_bench.config import fields, grid, loader, reader, split_fields
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Spec

REPOSITORY = Path(__file__).parents[2]


def test_paths_start_from_the_file_they_are_written_in(write, tmp_path):
    write("sets/a.yaml", "data: {labels: labels.txt, images: ../elsewhere/}\nbackbone: {weights: w.pth}\n")
    path = write("configs/x.yaml", "extends: [../sets/a.yaml]\ndata: {images: other}\n")
    config = load(path)
    assert config.data.labels == tmp_path / "sets" / "labels.txt"
    assert config.data.images == tmp_path / "configs" / "other"
    assert config.backbone.weights == str(tmp_path / "sets" / "w.pth")
    moved = load(path, ["data.labels=here.txt", "backbone.fallback=resnet50"])
    assert moved.data.labels == tmp_path / "here.txt"
    assert moved.backbone.fallback == "resnet50"
    assert load(path, ["data.labels=/abs/l"]).data.labels == Path("/abs/l")
    assert load(path, ["backbone.weights=package:some.pt"]).backbone.weights == "package:some.pt"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("{positive: [j]}", "{Rot: {positive: [ja]}}", {"Rot": fields.Values(positive=["ja"])}),
        ("{Rot: {positive: [ja]}}", "{positive: [j]}", fields.Values(positive=["j"])),
        ("{positive: [j]}", "{negative: [n]}", fields.Values(positive=["j"], negative=["n"])),
        (
            "{Rot: {positive: [ja]}}",
            "{Rot: {negative: [n]}, Blau: {}}",
            {"Rot": fields.Values(positive=["ja"], negative=["n"]), "Blau": fields.Values()},
        ),
    ],
)
def test_values_of_each_attribute_replace_those_of_all(write, first: str, second: str, expected: object):
    path = write("x.yaml", f"data: {{labels: l, images: i, values: {first}}}\n")
    assert load(path, [f"data.values={second}"]).data.values == expected


def test_maps_merge_lists_replace_and_another_name_replaces(write):
    write(
        "a.yaml",
        "name: a\nloss: {name: focal, gamma: 1, alpha: 0.5}\ntrain: {seeds: [1, 2], lr: 0.5, optimizer: sgd}\n"
        "split: {scheme: kfold, folds: 3}\nbackbone: {name: resnet50, fallback: resnet18}\n",
    )
    write("w.yaml", "plot: [a map replaces a list]\n" + DATA)
    write("b.yaml", "train: {seeds: [3], optimizer: {momentum: 0.9}}\nloss: {gamma: 3}\n")
    config = load(
        write("x.yaml", "extends: [a.yaml, b.yaml]\nsplit: {scheme: holdout}\nbackbone: {engine: torch}\n" + DATA)
    )
    assert config.name == "a"
    assert config.loss == Spec("focal", {"gamma": 3.0, "alpha": 0.5})
    assert (config.train.seeds, config.train.lr) == ([3], 0.5)
    assert config.train.optimizer == Spec("sgd", {"momentum": 0.9, "nesterov": False})
    assert config.split == split_fields.Holdout()
    assert config.backbone == fields.BackboneConfig(name="resnet50", fallback="resnet18", engine="torch")
    other = load(write("y.yaml", "extends: x.yaml\nloss: focal\nbackbone: {name: resnet18}\nsplit: {scheme: kfold}\n"))
    assert other.loss == Spec("focal", {"gamma": 2.0, "alpha": 0.25})
    assert other.backbone == fields.BackboneConfig()
    assert other.split == split_fields.KFold()
    assert load(write("z.yaml", "extends: w.yaml\nplot: {}\n"), []).plot == fields.PlotConfig()


def test_an_unwritten_scheme_is_the_default_one(write):
    write("a.yaml", "split: {folds: 3}\nbackbone: {fallback: resnet50}\n")
    config = load(write("x.yaml", "extends: a.yaml\nsplit: {scheme: holdout}\nbackbone: {name: resnet50}\n" + DATA))
    assert config.split == split_fields.Holdout()
    assert config.backbone.fallback is None


def test_one_file_may_be_extended_twice(write):
    write("base.yaml", DATA)
    for letter, below in (("a", "base"), ("b", "base")):
        write(f"{letter}.yaml", f"extends: {below}.yaml\n")
    assert load(write("x.yaml", "extends: [a.yaml, b.yaml]\n")).data.labels.name == "l.txt"


def test_set_comes_last_and_reads_yaml(write):
    path = write("x.yaml", DATA + "loss: focal\n")
    config = load(path, ["loss.gamma=1", "train.lr=1e-2", "train.clip=", "train={epochs: 3}", "backbone=resnet50"])
    assert config.loss == Spec("focal", {"gamma": 1.0, "alpha": 0.25})
    assert (config.train.lr, config.train.epochs, config.train.clip) == (1e-2, 3, None)
    assert config.backbone.name == "resnet50"
    assert load(path, ["split.scheme=holdout", "split.test=0.3"]).split == split_fields.Holdout(test=0.3)
    assert load(path, ["train.lr=1", "train.lr=2"]).train.lr == 2.0
    for order in (1, -1):  # a new name does not undo the other overrides
        backbone = load(path, ["backbone.weights=none", "backbone.name=resnet50"][::order]).backbone
        assert (backbone.name, backbone.weights) == ("resnet50", "none")


@pytest.mark.parametrize(
    ("section", "key", "kept"),
    [
        ("backbone: {name: resnet18, freeze: layer4, engine: torch}", "backbone.name=resnet50", "layer4 torch"),
        ("backbone: resnet18", "backbone.name=resnet50", "all auto"),
        ("backbone: {name: resnet18, freeze: layer4, engine: torch}", "backbone=resnet50", "all auto"),
        ("backbone: {name: resnet18, freeze: layer4}", "backbone={name: resnet50, engine: torch}", "all torch"),
    ],
)
def test_the_name_of_a_network_that_is_set_replaces_nothing_else(write, section, key, kept):
    backbone = load(write("x.yaml", DATA + section), [key]).backbone
    assert (backbone.name, f"{backbone.freeze} {backbone.engine}") == ("resnet50", kept)


@pytest.mark.parametrize(
    ("written", "scheme", "split"),
    [
        ("{folds: 3, val: 0.2, seed: 7, near_duplicates: keep_together}", "holdout", {"val": 0.2}),
        ("{scheme: holdout, test: 0.3, seed: 7, near_duplicates: keep_together}", "kfold", {"folds": 5, "val": 0.15}),
    ],
)
def test_a_scheme_that_is_set_keeps_what_both_schemes_have(write, written, scheme, split):
    config = load(write("x.yaml", f"{DATA}split: {written}\n"), [f"split.scheme={scheme}"]).split
    assert (config.scheme, config.seed, config.near_duplicates) == (scheme, 7, "keep_together")
    assert {key: getattr(config, key) for key in split} == split
    official = load(write("x.yaml", f"{DATA}split: {written}\n"), ["split.scheme=column", "split.column=part"]).split
    assert official == split_fields.OfficialSplit(column="part")


@pytest.mark.parametrize(
    ("name", "reason"), [("no.yaml", "no such file"), (".", "a folder"), ("a\0b", "embedded null byte")]
)
def test_a_file_that_cannot_be_read(write, name, reason):
    [line] = problems(load, Path(name))
    assert line.startswith(f"{name}: found {reason}, expected a YAML file")
    assert line.endswith(f"here or in {loader.shipped_configs()}") == (reason != "a folder")


def test_all_errors_are_reported_at_once_each_in_its_own_file(write):
    write("base.yaml", "train:\n  lr: fast\n  epochs: 0\nloss: foacl\n")
    path = write("x.yaml", "extends: base.yaml\nnmae: x\ntrain: {epochs: 3, lrr: 1}\nplot: {title: a, title: b}\n")
    assert [": ".join(line.split(": ")[:2]) for line in problems(load, path, ["train.seeds=x", "foo.bar=1"])] == [
        "--set foo.bar: foo",
        "--set train.seeds: found 'x', expected a number of seeds from 1 to 1000, or a list of seeds",
        "base.yaml:2:7: train.lr",
        "base.yaml:4:7: loss",
        "x.yaml:1:1: data.images",
        "x.yaml:1:1: data.labels",
        "x.yaml:2:1: nmae",
        "x.yaml:3:20: train.lrr",
        "x.yaml:4:18: plot.title",
    ]


def test_broken_files_are_all_named(write):
    write("a.yaml", "train: [\n")
    write("b.yaml", b"\xff")
    lines = problems(load, write("x.yaml", "extends: [a.yaml, b.yaml, c.yaml]\n"))
    assert [line[:12] for line in lines] == ["a.yaml:2:1: ", "b.yaml:1:1: ", "x.yaml:1:27:"]


@pytest.mark.parametrize(
    ("files", "cycle"),
    [
        ({"x.yaml": "extends: x.yaml\n"}, "x.yaml:1:10: extends: found a cycle: x.yaml -> x.yaml"),
        (
            {"x.yaml": "extends: sub/a.yaml\n", "sub/a.yaml": "name: b\nextends: [../x.yaml]\n"},
            "sub/a.yaml:2:11: extends: found a cycle: x.yaml -> sub/a.yaml -> x.yaml",
        ),
    ],
)
def test_a_cycle_is_named(write, files, cycle):
    for name, text in files.items():
        write(name, text)
    [line] = problems(load, Path("x.yaml"))
    assert line.startswith(cycle)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", "--set train.lr: found 'train.lr', expected key=value, such as train.lr=1e-4"),
        ("=3", "--set: found '=3', expected key=value"),
        ("train..lr=3", "--set train..lr: found 'train..lr=3', expected key=value"),
        ("trian.lr=3", "--set trian.lr: trian: found unknown key 'trian', expected one of"),
        ("train.lrr=3", "--set train.lrr: found unknown key 'lrr', expected one of"),
        ("train.lr=[1", "--set train.lr: not valid YAML"),
        ("train.lr=fast", "--set train.lr: found 'fast', expected a number"),
        ("loss.gamma=1", "--set loss.gamma: found unknown key 'gamma' of masked_bce, expected no options, or"),
        ("extends=a.yaml", "--set extends: found a key that only a file can hold"),
        ("train.clip=!!float 3", "--set train.clip: found the tag"),
        ("train.accumulate=4", "--set train.accumulate: found 4, expected 1, because under"),
        ("tune={train.lr: [0.1]}", "--set tune: found {'train.lr': [0.1]}, expected {}, because only heads"),
        ("name.a=1", "--set name.a: name.a"),
        ("train={lr: x}", "--set train.lr: found 'x', expected a number"),
        ("train={seeds: [0, x]}", "--set train.seeds[1]: found 'x', expected an integer"),
    ],
)
def test_a_wrong_override_is_explained(write, override, message):
    frozen = ["backbone.freeze=layer4"] if override.startswith("tune") else []
    lines = problems(load, write("x.yaml", DATA + "loss: masked_bce\ntune: {}\n"), [override, *frozen])
    if override != "name.a=1":  # what `name` then holds is the file's fault
        assert len(lines) == 1
        assert lines[0].startswith(message)


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("data.separator=,", """--set 'data.separator=","'"""),
        ("data.separator=@", """--set 'data.separator="@"'"""),
        ("plot.title=*a", """--set 'plot.title="*a"'"""),
        ("plot.title=a: b: c", """--set 'plot.title="a: b: c"'"""),
        ("plot.title='it", """--set 'plot.title="'"'"'it"'"""),
    ],
)
def test_an_override_that_is_no_yaml_is_shown_in_quotes(write, override, fix):
    path = write("x.yaml", DATA)
    [line] = problems(load, path, [override])
    assert line.endswith(f"; if it is text: {fix}")
    loader.Sources(path, shlex.split(fix)[1:])  # the shell and YAML read it


def test_a_list_that_is_not_closed_is_no_text(write):
    [line] = problems(load, write("x.yaml", DATA), ["train.seeds=[1"])
    assert "if it is text" not in line


@pytest.mark.parametrize(
    ("line", "key", "suggestion"),
    [
        ("learning_rate: 1", "learning_rate", "train.lr"),
        ("train: {learning_rate: 1}", "train.learning_rate", "train.lr"),
        ("batch_size: 1", "batch_size", "train.batch_size"),
        ("lr: 1", "lr", "train.lr"),
        ("labels: a.csv", "labels", "data.labels"),
        ("model: resnet18", "model", "backbone"),
        ("train: {seed: 1}", "train.seed", "seeds"),
        ("seed: 1", "seed", "train.seeds"),
    ],
)
def test_a_key_of_another_place_or_name_is_suggested(write, line, key, suggestion):
    [problem] = problems(load, write("x.yaml", DATA + line + "\n"))
    assert f": {key}: found unknown key" in problem
    assert problem.endswith(f" (did you mean {suggestion}?)")


@pytest.mark.parametrize("name", ["elpv", "synthetic"])
def test_a_data_set_that_a_command_makes_is_named_with_it(write, name):
    lines = problems(
        loader.load, write("x.yaml", f"data: {{labels: .data/{name}/l.csv, images: .data/{name}/i}}\n"), TABLES
    )
    assert all(line.endswith(f"`aimonk-bench data {name} .data/{name}` makes it") for line in lines)
    assert len(lines) == 2


def test_a_broken_override_hides_no_other_error(write):
    write("a.yaml", "train: [\n")
    overrides = ["los=hill", "train.lr=x", "foo", "train.clip=[1", f"transform={{trian: [{'x' * 500}]}}"]
    starts = ["--set foo: found", "--set los: found unknown", "--set train.clip: not", "--set train.lr: found 'x'"]
    starts.append("--set transform.trian: found unknown key")
    lines = problems(load, write("x.yaml", DATA), overrides)
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    assert max(map(len, lines)) < 250
    lines = problems(load, write("x.yaml", "extends: a.yaml\n"), overrides)
    assert [line.split(": ")[0] for line in lines] == ["--set foo", "--set train.clip", "a.yaml:2:1"]


def test_paths_that_lead_nowhere_are_errors_with_their_place(write, tmp_path):
    path = write("x.yaml", DATA + "backbone: {weights: w.pt}\nloss: foacl\n")
    expected = [
        f"x.yaml:1:16: data.labels: found {tmp_path / 'l.txt'}, expected a file that exists",
        f"x.yaml:1:31: data.images: found {tmp_path / 'i'}, expected a folder that exists",
        f"x.yaml:2:21: backbone.weights: found {tmp_path / 'w.pt'}, expected a file that exists",
    ]
    expected[2] += ", `weights: imagenet`, package:NAME, or none (untrained)"
    assert problems(loader.load, path, TABLES)[:3] == expected
    assert problems(loader.load, path, TABLES, ["backbone.fallback=resnet50", "loss=focal"]) == expected[:2]
    assert problems(loader.load, path, TABLES, ["data.images=l.txt"])[0].startswith("--set data.images: ")
    for name in ("l.txt", "w.pt", "i/a.jpg"):
        write(name, "")
    assert problems(loader.load, path, TABLES)[0].startswith("x.yaml:3:7: loss")
    assert loader.load(path, TABLES, ["loss=focal"]) == load(path, ["loss=focal"])


def test_in_a_suite_an_absent_weight_file_fails_its_run_only(write):
    path = write("s.yaml", SUITE + "backbone: {weights: w.pt}\n")
    assert [line[:11] for line in problems(loader.load_suite, path, TABLES)] == ["s.yaml:1:16", "s.yaml:1:31"]
    for name in ("l.txt", "i/a.jpg"):
        write(name, "")
    assert loader.load_suite(path, TABLES) == load_suite(path)


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
tricky = st.sampled_from(
    ["1e-3", "no", "1:30", "0o7", "~", "null", "", " a ", "# x", "a: b", "'", "- x", "=", "<<", "\u2028"]
)
word = text | tricky
words = st.lists(word, min_size=1, max_size=3, unique=True)
number = st.floats(min_value=1e-300, max_value=1e300)
part = st.floats(0.01, 0.45)
seed = st.integers(0, 2**32 - 1)
path = text.map(lambda value: os.path.abspath("/" + value))


@st.composite
def token_lists(draw) -> dict[str, list[str]]:
    tokens = draw(st.lists(word, min_size=2, max_size=5, unique=True))
    return {"positive": tokens[:1], "negative": tokens[1:2], "missing": tokens[2:]}


holdouts = st.fixed_dictionaries({"scheme": st.just("holdout"), "val": part, "test": part, "seed": seed})
folds = st.fixed_dictionaries({"scheme": st.just("kfold"), "val": part, "folds": st.integers(2, 9)})
focals = st.fixed_dictionaries({"name": st.just("focal"), "gamma": number, "alpha": st.none()})
hidings = st.fixed_dictionaries(
    {"mechanism": st.sampled_from(["random", "per_class", "positives", "score"]), "fraction": part, "seed": seed}
)


@st.composite
def configs(draw) -> dict[str, Any]:
    names = words.filter(lambda names: not any(map(fields.unusable_attribute, names)))
    attribute = word.filter(lambda name: fields.unusable_attribute(name) is None)
    return {
        "name": draw(text.filter(lambda value: value.strip(" ") and value.isprintable() and not {*value} & {*"/\\."})),
        "data": {
            "labels": draw(path),
            "images": draw(path),
            "importer": "wide_csv",
            "id": draw(st.none() | word),
            "group": draw(st.none() | word),
            "attributes": draw(st.none() | names),
            "values": draw(token_lists() | st.dictionaries(attribute, token_lists(), min_size=1, max_size=3)),
            "on_bad_image": draw(st.sampled_from(["error", "skip"])),
        },
        "split": draw(holdouts | folds),
        "backbone": draw(st.sampled_from(["resnet50", {"weights": "none"}, {"weights": "/a b/w.pt"}])),
        "transform": {
            "views": draw(st.integers(1, 9)),
            "train": draw(st.sampled_from([[], [{"A": {"p": [1, None]}}]])),
        },
        "hide": draw(st.none() | hidings),
        "loss": draw(st.just("focal") | focals),
        "train": {
            "optimizer": {"name": "sgd", "nesterov": draw(st.booleans())},
            "lr": draw(number),
            "seeds": draw(st.integers(1, 5) | st.lists(seed, min_size=1, max_size=3, unique=True)),
            "select": "loss",
            "patience": draw(st.none() | st.integers(1, 9)),
        },
        "plot": {"title": draw(word)},
    }


@given(data=configs())
@settings(max_examples=40, deadline=None)
def test_loading_a_dump_gives_the_config_back(data):
    config, wrong = reader.check(copy.deepcopy(data), TABLES, {})
    assert config is not None, wrong
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "other.yaml"
        file.write_bytes(loader.dump(config).encode())
        again = load(file)
    assert again == config
    assert loader.dump(again) == loader.dump(config)
    assert grid.public(again) == grid.public(config)


def test_a_suite_is_told_from_an_experiment(write):
    assert loader.is_suite(write("s.yaml", SUITE))
    assert loader.is_suite(write("t.yaml", "extends: s.yaml\n"))
    assert not loader.is_suite(write("x.yaml", DATA))
    assert "found no suite" in problems(load_suite, Path("x.yaml"))[0]
    with pytest.raises(UserError):
        loader.is_suite(Path("no.yaml"))


def test_a_suite_that_is_null_is_no_suite(write):
    write("s.yaml", SUITE)
    alone = load(write("x.yaml", DATA))
    for text, overrides in ((f"suite: null\n{DATA}", []), ("extends: s.yaml\nsuite:\n", []), (SUITE, ["suite=null"])):
        path = write("x.yaml", text)
        assert not loader.is_suite(path, overrides)
        assert load(path, overrides) == alone
        assert any("suite: found null, expected a map" in line for line in problems(load_suite, path, overrides))
    assert loader.is_suite(path)


def test_a_weight_file_may_be_absent_in_a_suite_only(write):
    path = write("x.yaml", "suite: null\nbackbone: {weights: w.pt, name: resnet50}\n" + DATA)
    assert any("backbone.weights" in line for line in problems(loader.load, path, TABLES))


WRONG_FILES = {
    "suite in run": ("suite: {}\n", ["x.yaml:1:1: suite: found a suite, expected one experiment"]),
    "extends a number": ("extends: 3\n", ["x.yaml:1:10: extends: found 3, expected a path"]),
    "extends nothing": ("extends: [no.yaml]\n", ["x.yaml:1:11: extends: no.yaml: found no such file"]),
    "extends a folder": ("extends: .\n", ["x.yaml:1:10: extends: .: found a folder"]),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_file_is_explained(write, case):
    content, parts = WRONG_FILES[case]
    [line] = problems(load, write("x.yaml", content + DATA))
    for part in parts:
        assert part in line
    assert line.startswith(parts[0])


def test_other_labels_drop_an_inherited_truth_and_say_so(write, caplog):
    write("a.yaml", "data: {labels: l.txt, images: i, truth: t.csv}\n")
    path = write("x.yaml", "extends: a.yaml\nname: x\n")
    assert load(path).data.truth == Path("t.csv").absolute()
    assert load(path, ["data.images=j"]).data.truth is not None
    assert load(path, ["data.truth=null"]).data.truth is None
    assert load(path, ["data.labels=m.txt", "data.truth=u.csv"]).data.truth == Path("u.csv").absolute()
    assert caplog.messages == []
    assert load(path, ["data.labels=m.txt"]).data.truth is None
    assert load(write("y.yaml", "extends: a.yaml\ndata: {labels: m.txt}\n")).data.truth is None
    places = [message.split(": data.labels: the inherited data.truth (a.yaml:1:41)")[0] for message in caplog.messages]
    assert places == ["--set data.labels", "y.yaml:2:16"]


def test_a_truth_may_stand_in_another_file_than_the_labels(write, caplog):
    write("a.yaml", DATA)
    suite = "suite: {baseline: {}, axes: {loss: [focal]}}\n"
    path = write("x.yaml", "extends: a.yaml\ndata: {truth: t.csv}\n" + suite)
    assert load_suite(path).runs[0].config.data.truth == Path("t.csv").absolute()
    assert caplog.messages == []
    assert load_suite(path, ["data.labels=m.txt"]).base.data.truth is None
    assert len(caplog.messages) == 1


def test_unknown_keys_of_the_same_names_are_no_data(write):
    write("a.yaml", "labels: l.txt\ntruth: t.csv\n" + DATA)
    lines = problems(load, write("x.yaml", "extends: a.yaml\nlabels: m.txt\n"))
    assert [line.split(": ")[1] for line in lines] == ["truth", "labels"]


@pytest.mark.parametrize("name", ["base.yaml", "../base.yaml", "configs/base.yaml"])
def test_a_file_that_does_not_exist_beside_is_looked_for_in_the_shipped_configs(write, name):
    assert load(write("sub/x.yaml", f"extends: {name}\n{DATA}")).train == load(write("y.yaml", DATA)).train
    write("sub/base.yaml" if name == "base.yaml" else f"sub/{name}", "train: {epochs: 3}\n")
    assert load(Path("sub/x.yaml")).train.epochs == 3


def test_the_place_of_shipped_configs_is_named_where_a_file_is_missing(write):
    [line] = problems(load, write("x.yaml", "extends: suites/no.yaml\n"))
    assert line.startswith("x.yaml:1:10: extends: suites/no.yaml: found no such file")
    assert line.endswith(f"here or in {loader.shipped_configs()}")


def test_a_shipped_config_is_taken_where_no_file_has_the_name(write, caplog):
    assert loader.is_suite(Path("suites/comparison.yaml"))
    with caplog.at_level(logging.INFO):
        assert load(Path("reference.yaml")).name == "reference"
    [record] = caplog.records
    assert record.levelno == logging.INFO  # nothing is wrong
    assert record.message.startswith(
        "reference.yaml: no such file here; the config that comes with the program is taken: "
    )


def test_data_of_an_installed_config_lie_under_the_working_directory(write, tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "aimonk_bench"
    (package / "configs" / "datasets").mkdir(parents=True)
    (package / "configs" / "base.yaml").write_text("")
    (package / "configs" / "datasets" / "d.yaml").write_text("data: {labels: ../../.data/l.txt, images: ../../.data/i}")
    monkeypatch.setattr(loader, "PACKAGE", package)
    config = load(write("x.yaml", "extends: datasets/d.yaml\n"))
    assert config.data.labels == tmp_path / ".data" / "l.txt"


def test_the_wheel_carries_the_configs_to_where_they_are_looked_for():
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["force-include"] == {"configs": "aimonk_bench/configs"}
    assert {"aimonk_bench", "configs"} <= {*build["sdist"]["only-include"]}  # a wheel is also built from it
    assert loader.shipped_configs() == REPOSITORY / "configs"
