"""The key `plugins`: permission, what is wrong with the user's code and where, and tables that do not leak."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from small_tables import DATA, SUITE, TABLES, problems

from aimonk_bench import plugins, registry
from aimonk_bench.config import grid, loader
from aimonk_bench.config.jsonschema import json_schema
from aimonk_bench.errors import UserError

ALLOWED = replace(TABLES, allow_plugins=True)
MINE = """\
def mine(logits, targets, *, gamma: float = 2.0):
    return logits


LOSSES = {"mine": mine}
"""
CONFIG = DATA + "plugins: [my.py]\nloss: {name: mine, gamma: 3.0}\n"


def load(path, *overrides, tables=ALLOWED):
    return loader.load(path, tables, overrides, check_paths=False)


def wrong(write, code: str | bytes) -> list[str]:
    """The problems of a config whose only plug-in is this code."""
    write("my.py", code)
    return problems(load, write("c.yaml", DATA + "plugins:\n  - my.py\n"))


def test_an_entry_of_a_plug_in_is_checked_like_one_of_the_program(write):
    write("my.py", MINE)
    config = load(write("c.yaml", CONFIG))
    assert config.loss.plain() == {"name": "mine", "gamma": 3.0}
    assert registry.build("loss", TABLES.losses, config.loss).keywords == {"gamma": 3.0}
    assert registry.label(TABLES.losses, config.loss) == "mine(gamma=3.0)"
    assert problems(load, Path("c.yaml"), "loss=min") == [
        "--set loss: found unknown loss 'min', expected one of masked_bce, pos_weight, focal, mine (did you mean mine?)"
    ]
    [line] = problems(load, Path("c.yaml"), "loss.gamma=x")
    assert line == "--set loss.gamma: found 'x', expected a number"


def test_what_is_dumped_gives_the_same_config_from_any_folder(write, tmp_path):
    write("my.py", MINE)
    config = load(write("c.yaml", CONFIG))
    write("elsewhere/d.yaml", loader.dump(config))
    assert load(Path("elsewhere/d.yaml")) == config
    assert config.plugins[0].source == str(tmp_path / "my.py")


def test_nothing_is_executed_before_it_is_allowed(write, tmp_path):
    write("my.py", f"open({str(tmp_path / 'executed')!r}, 'w')\n" + MINE)
    write("package/__init__.py", f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    path = write("c.yaml", DATA + "plugins: [my.py, package.inner]\nloss: nonsense\n")
    for function in (loader.load, loader.load_suite):
        [line] = problems(function, path, TABLES)[-1:]
        assert line.startswith("c.yaml:2:1: plugins: found code that would be executed: my.py, package.inner")
        assert "--allow-plugins" in line
        assert "allow_plugins=True" in line
    assert not Path("executed").exists()
    assert not loader.is_suite(path)


def test_a_config_without_plug_ins_needs_no_permission(write):
    path = write("c.yaml", DATA + "plugins: []\n")
    assert load(path, tables=TABLES).plugins == []
    assert loader.dump(load(path, tables=TABLES)).splitlines()[1] == "plugins: []"
    write("d.yaml", "extends: c.yaml\nplugins: [my.py]\n")
    assert load(Path("d.yaml"), "plugins=[]", tables=TABLES).plugins == []


def test_a_path_starts_where_it_is_written_and_a_later_list_replaces(write, tmp_path):
    for folder in ("low", "high", "."):
        write(f"{folder}/my.py", MINE.replace("mine", f"from_{folder if folder != '.' else 'here'}"))
    write("low/base.yaml", DATA + "plugins: [my.py]\n")
    write("high/c.yaml", "extends: ../low/base.yaml\n")
    assert load(Path("high/c.yaml"), "loss=from_low").plugins[0].source == str(tmp_path / "low" / "my.py")
    write("high/c.yaml", "extends: ../low/base.yaml\nplugins: [my.py]\n")
    assert load(Path("high/c.yaml"), "loss=from_high").loss.name == "from_high"
    assert "unknown loss 'from_low'" in problems(load, Path("high/c.yaml"), "loss=from_low")[0]
    assert load(Path("high/c.yaml"), "plugins=[my.py]", "loss=from_here").loss.name == "from_here"


def test_entries_of_one_config_are_unknown_to_the_next(write):
    write("my.py", MINE)
    path = write("c.yaml", CONFIG)
    first = load(path)
    assert "unknown loss 'mine'" in problems(load, path, "plugins=[]")[0]
    assert set(ALLOWED.losses) == {"masked_bce", "pos_weight", "focal"}
    write("my.py", MINE.replace("return logits", "return -logits"))
    second = load(path)
    values = [registry.build("loss", TABLES.losses, config.loss)(1.0, None) for config in (first, second, first)]
    assert values == [1.0, -1.0, 1.0]


def test_every_run_of_a_suite_has_the_plug_ins_and_they_are_no_axis(write):
    write("my.py", MINE)
    text = SUITE.replace("pos_weight, {name: focal", "{name: mine, gamma: 1.0}, {name: focal")
    text = text.replace("{loss: pos_weight,", "{loss: {name: mine, gamma: 1.0},")
    suite = loader.load_suite(write("s.yaml", "plugins: [my.py]\n" + text), ALLOWED, check_paths=False)
    assert [run.parts[0] for run in suite.runs].count("mine(gamma=1.0)") == 1
    assert {plugin.source for run in suite.runs for plugin in run.config.plugins} == {os.path.abspath("my.py")}
    lines = problems(loader.load_suite, Path("s.yaml"), ALLOWED, ["suite.axes={plugins: [[my.py], []], loss: [mine]}"])
    assert any("the axis 'plugins'" in line for line in lines)


def test_paths_of_plug_ins_are_not_public(write):
    write("my.py", MINE)
    assert "plugins" not in grid.public(load(write("c.yaml", CONFIG)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("my.py", "c.yaml:2:10: plugins: found 'my.py', expected a list of files and modules, as in plugins: [my.py]"),
        ("null", "plugins: found null, expected a list"),
        ("{a: my.py}", "plugins: found {'a': 'my.py'}, expected a list"),
        (
            "[my.py, ./my.py]",
            "c.yaml:2:18: plugins[1]: found ./my.py again, expected it once; it stands at c.yaml:2:11",
        ),
        ("[absent.py]", "plugins[0]: found {here}/absent.py, expected a .py file that exists"),
        ("[./c.yaml]", "plugins[0]: found {here}/c.yaml, expected a .py file"),
        ("[folder/]", "plugins[0]: found {here}/folder, expected a .py file"),
        ("[3]", "plugins[0]: found 3, expected a .py file, such as my_losses.py, or an installed module"),
        ("[a-b]", "plugins[0]: found 'a-b', expected a .py file"),
        ("[no_such_module]", "c.yaml:2:11: plugins: found no_such_module, expected a module that is installed here"),
        ("[json.nothing]", "plugins: found json.nothing, expected a module that is installed here"),
        ("[my]", "plugins: found my, expected a module that is installed here; a file is written my.py"),
        ("[math]", "math: found "),
    ],
)
def test_what_is_no_plug_in_is_said(write, tmp_path, value, expected):
    write("my.py", MINE)
    write("folder/x.py", MINE)
    [line] = problems(load, write("c.yaml", DATA + f"plugins: {value}\n"))
    assert line.startswith("c.yaml:2:")
    assert expected.replace("{here}", str(tmp_path)) in line


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1\ndef f(:\n", "my.py:2:7: found a SyntaxError (invalid syntax)"),
        ("x = 1\0\n", "my.py:1:1: found a SyntaxError"),
        (b"x = '\xff'\n", "my.py:1:"),
        ("\nimport nothing_here\n", "my.py:2:1: plugins: found ModuleNotFoundError: No module named 'nothing_here'"),
        ("def f():\n    return 1 / 0\n\n\nx = f()\n", "my.py:2:1: plugins: found ZeroDivisionError: division by zero"),
        ("def f():\n    return 1 / 0\n\n\nx = f()\n", "at `return 1 / 0` (lines 5, 2)"),
        ("import json\njson.loads('{')\n", "my.py:2:1: plugins: found JSONDecodeError"),
        ("import sys\nsys.exit(3)\n", "my.py:2:1: plugins: found SystemExit: 3"),
        ("raise BaseException(3)\n", "my.py:1:1: plugins: found BaseException: 3"),
        ("raise type('Odd', (Exception,), {'__str__': None})\n", "found Odd: its message cannot be formatted"),
        ("raise ValueError('a\\nb')\n", "found ValueError: a b at"),
        ("x = 1\n", "my.py:1:1: plugins: found a plug-in without an entry, expected a dict of entries, called LOSSES"),
        ("def f(z, y): ...\nLOSES = {'f': f}\n", "my.py:2:1: found the dict LOSES"),
        ("def f(z, y): ...\nLOSES = {'f': f}\n", "(did you mean LOSSES?)"),
        ("def f(z, y): ...\nLOSSES = {'f': f}\nOPTIMIZERS = {'f': f}\n", "my.py:3:1: found the dict OPTIMIZERS"),
        ("LOSSES = {}\n", "my.py:1:1: LOSSES: found an empty dict, expected a dict of names and entries"),
        ("def f(z, y): ...\nLOSSES = [f]\n", "my.py:2:1: LOSSES: found a list"),
        (
            "LOSSES = {\n  'f': 3,\n}\n",
            "my.py:2:3: LOSSES.f: found a int, expected a plain function, such as def f(logits",
        ),
        ("class F: ...\nMISSING = {'f': F}\n", "my.py:2:12: MISSING.f: found the class F, expected a plain function"),
        ("class F: ...\nSAMPLERS = {'f': F()}\n", "my.py:2:13: SAMPLERS.f: found a F, expected a plain function"),
        ("def f(z, y):\n    yield 1\nLOSSES = {'f': f}\n", "my.py:3:11: LOSSES.f: found a function with `yield`"),
        ("def f(z, y): ...\nLOSSES = {3: f}\n", "my.py:2:11: LOSSES.3: found 3, expected a name"),
        ("def f(z, y): ...\nLOSSES = {'a b': f}\n", "LOSSES.a b: found 'a b', expected a name of letters"),
        (
            "def f(z): ...\nLOSSES = {'f': f}\n",
            "my.py:1:1: LOSSES.f: found the parameters (z), expected (logits, targets)",
        ),
        ("\ndef f(z, y, gamma=2.0): ...\nLOSSES = {'f': f}\n", "my.py:2:1: LOSSES.f: found the parameter gamma after"),
        ("def f(z, y, gamma=2.0): ...\nLOSSES = {'f': f}\n", "behind a `*`, with a type: *, gamma: float = 1.0"),
        ("def f(z, y, teacher): ...\nLOSSES = {'f': f}\n", "are positives, negatives"),
        (
            "def f(z, y, *, gamma=2.0): ...\nLOSSES = {'f': f}\n",
            "found the option gamma without a type, expected a type",
        ),
        (
            "def f(z, y, *, positives): ...\nLOSSES = {'f': f}\n",
            "found the option positives, expected positives before",
        ),
        ("def f(z, y, *, name: str): ...\nLOSSES = {'f': f}\n", "found the option name, expected an option of another"),
        (
            "def f(z, y, **more): ...\nLOSSES = {'f': f}\n",
            "found the parameter **more, expected each option by its name",
        ),
        (
            "def f(z, /): ...\nSET_LOSSES = {'f': f}\n",
            "found the parameters (z), expected (logits, targets, weights) first",
        ),
        ("def f(z, y, *, g: 'Foo' = 1): ...\nLOSSES = {'f': f}\n", "types of options that cannot be read (NameError"),
        (
            "def f(z, y, *, g: float = 'x'): ...\nLOSSES = {'f': f}\n",
            "the option g with the default 'x', expected a number",
        ),
        (
            "def f(z, y, *, g: tuple[int, ...] = (1,)): ...\nLOSSES = {'f': f}\n",
            "expected a default that YAML can state",
        ),
        ("CATALOG = {'f': 3}\n", "my.py:1:12: CATALOG.f: found a int, expected an `Entry`"),
        ("from .other import x\n", "my.py:1:1: plugins: found an import of .other, which is no part of the plug-in"),
        (
            "import beside.thing\n",
            "my.py:1:1: plugins: found an import of beside.thing, which is no part of the plug-in",
        ),
        ("def f():\n    from beside import x\n", "my.py:2:5: plugins: found an import of beside"),
        (
            "from aimonk_bench.training.losses import LOSSES\nLOSSES['f'] = 3\n",
            "my.py:1:1: LOSSES: found the program's own LOSSES, expected a dict that holds the plug-in's own entries",
        ),
        ("from aimonk_bench.training.losses import *\n", "my.py:1:1: LOSSES: found the program's own *"),
    ],
)
def test_what_is_wrong_in_a_plug_in_is_said_with_its_line(write, code, expected):
    write("beside.py", "x = 1\n")
    [line] = wrong(write, code)
    assert expected in line


def test_all_that_is_wrong_in_plug_ins_is_said_at_once_with_what_is_wrong_around_them(write):
    write("my.py", "def f(z): ...\n\n\nLOSSES = {'f': f, 'g': 3}\n")
    write("other.py", "def f(z, y): ...\n\n\nSAMPLERS = {'f': f}\n")
    path = write("c.yaml", DATA + "plugins: [my.py, other.py, absent.py]\ntune: {}\ntune: {}\n")
    lines = problems(load, path)
    assert [line.split(": ")[0] for line in lines] == ["c.yaml:2:28", "c.yaml:4:1"]  # files that exist come later
    write("c.yaml", DATA + "plugins: [my.py, other.py]\ntune: {}\ntune: {}\n")
    places = [line.split(": ")[0] for line in problems(load, path)]
    assert places == ["c.yaml:4:1", "my.py:1:1", "my.py:4:19", "other.py:1:1"]


def test_a_name_that_is_taken_is_an_error_with_both_places(write):
    taken = "def focal(z, y): ...\n\n\nLOSSES = {'focal': focal}\n"
    [line] = wrong(write, taken)
    assert line.startswith("my.py:4:11: LOSSES.focal: found the name of another entry (")
    [line] = wrong(write, taken.replace("LOSSES", "SET_LOSSES").replace("z, y", "z, y, w"))
    assert "SET_LOSSES.focal: found the name of another entry" in line
    [line] = wrong(
        write, "def f(z, y, w=0): ...\nLOSSES = {}\nCATALOG = {'resnet18': f}\n".replace("LOSSES = {}\n", "")
    )
    assert "CATALOG.resnet18: found the name of another entry" in line
    write("a/my.py", MINE)
    write("b/my.py", "\n" + MINE)
    path = write("c.yaml", DATA + "plugins: [a/my.py, b/my.py]\n")
    [line] = problems(load, path)
    assert line.startswith("b/my.py:6:11: LOSSES.mine: found the name of another entry (a/my.py:5:11)")
    [line] = wrong(
        write, "def f(z, y): ...\nLOSSES = {'f': f}\nSET_LOSSES = {'f': f}\n".replace("(z, y)", "(z, y, w=0)")
    )
    assert "found the parameter w" in line or "SET_LOSSES.f" in line


def test_the_place_of_the_programs_own_entry_is_named(write):
    from aimonk_bench.tables import tables

    write("my.py", "def focal(z, y): ...\n\n\nLOSSES = {'focal': focal}\n")
    [line] = problems(lambda path: load(path, tables=tables(allow_plugins=True)), write("c.yaml", CONFIG))
    assert "aimonk_bench/training/losses.py:" in line


def test_names_of_different_tables_may_be_equal(write):
    write("my.py", MINE + "\n\ndef other(labels, batch_size, steps, rng): ...\n\n\nSAMPLERS = {'mine': other}\n")
    config = load(write("c.yaml", CONFIG + "sampler: mine\n"))
    assert (config.loss.origin.table, config.sampler.origin.table) == ("LOSSES", "SAMPLERS")


def test_threshold_policies_of_single_attributes_may_be_of_a_plug_in(write):
    write("my.py", "def half(scores, labels): ...\n\n\nTHRESHOLDS = {'half': half}\n")
    config = load(write("c.yaml", DATA + "plugins: [my.py]\nthreshold: {name: fixed, for: {hat: half}}\n"))
    assert config.threshold.origin is None
    assert config.threshold.attributes["hat"].origin.table == "THRESHOLDS"
    assert registry.label(TABLES.thresholds, config.threshold) == "fixed(hat: half)"


def test_numeric_options_of_a_plug_in_can_be_tuned(write):
    write("my.py", MINE)
    path = write("c.yaml", DATA + "plugins: [my.py]\nloss: mine\ntune: {loss.gamma: [1.0, 2.0]}\n")
    assert load(path).tune == {"loss.gamma": [1.0, 2.0]}


def test_a_backbone_of_a_plug_in_has_the_stages_that_its_entry_states(write):
    entry = "Entry(timm='some_timm_model', features=8, licence=None, hub=None, size=28, multiple=14"
    code = f"from aimonk_bench.backbones.catalog import Entry\n\nCATALOG = {{'mynet': {entry}, stages=('s1',))}}\n"
    write("my.py", code)
    path = write("c.yaml", DATA + "plugins: [my.py]\nbackbone: mynet\ntransform: {size: native}\n")
    assert load(path).transform.size == 28
    [line] = problems(load, path, "transform.size=30")
    assert "a multiple of 14 for mynet" in line
    assert load(path, "backbone.freeze=s1").backbone.freeze == "s1"
    assert "stage of mynet: s1" in problems(load, path, "backbone.freeze=s2")[0]
    assert "unknown backbone 'mynt'" in problems(load, path, "backbone=mynt")[0]


def test_the_schema_knows_the_entries_of_named_plug_ins_alone(write):
    from aimonk_bench.config.plugins import named

    write("my.py", MINE)
    assert json_schema(TABLES)["properties"]["plugins"]["items"] == {"type": "string"}
    names = [
        json_schema(tables)["properties"]["loss"]["anyOf"][0]["enum"] for tables in (TABLES, named(["my.py"], TABLES))
    ]
    assert names[1] == [*names[0], "mine"]
    with pytest.raises(UserError, match=r"--plugin.*absent.py"):
        named(["absent.py"], TABLES)


def test_a_module_is_found_where_python_finds_it(write, tmp_path, monkeypatch):
    write("packed_losses/__init__.py", "")
    write("packed_losses/helpers.py", "FACTOR = 3\n")
    write("packed_losses/inner.py", "from .helpers import FACTOR\n\n" + MINE.replace("return logits", "return FACTOR"))
    monkeypatch.syspath_prepend(str(tmp_path))
    config = load(write("c.yaml", CONFIG.replace("my.py", "packed_losses.inner")))
    assert registry.build("loss", TABLES.losses, config.loss)(1.0, None) == 3
    assert config.plugins[0].source == "packed_losses.inner"
    assert config.plugins[0].sha256 == plugins.read(str(tmp_path / "packed_losses" / "inner.py")).sha256


def test_a_module_that_raises_is_named_by_its_file_and_line(write, tmp_path, monkeypatch):
    write("broken_losses/__init__.py", "")
    write("broken_losses/inner.py", "def f():\n    return 1 / 0\n\n\nf()\n")
    write("broken_around/__init__.py", "import nothing_here\n")
    write("broken_around/inner.py", MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    [line] = problems(load, write("c.yaml", CONFIG.replace("my.py", "broken_losses.inner")))
    assert line.startswith("broken_losses/inner.py:2:1: plugins: found ZeroDivisionError: division by zero at `return")
    assert "(lines 5, 2)" in line
    [line] = problems(load, write("c.yaml", CONFIG.replace("my.py", "broken_around.inner")))
    assert line.startswith("broken_around/__init__.py:1:1: plugins: found ModuleNotFoundError")
