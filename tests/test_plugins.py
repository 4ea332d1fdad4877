"""Plug-ins by themselves: hashes, pickles, one execution in each process, changes since."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path

import pytest
import timm

from aimonk_bench import plugins
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.plugins import Origin, Plugin

CODE = "LOSSES = {'mine': lambda logits, targets: logits}\n"


def test_the_hash_is_that_of_the_bytes_wherever_they_lie(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.py").write_text(CODE)
    first, second = (plugins.read(str(tmp_path / name / f"{name}.py")) for name in ("a", "b"))
    assert first.sha256 == second.sha256
    (tmp_path / "b" / "b.py").write_text(CODE + " ")
    assert plugins.read(second.source).sha256 != first.sha256


def test_a_pickle_holds_no_code_and_finds_lambdas_again(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(CODE)
    origin = Origin(plugins.read(str(tmp_path / "my.py")), "LOSSES")
    content = pickle.dumps(origin)
    assert b"lambda" not in content
    assert pickle.loads(content).entry("mine")(5, None) == 5


def test_a_plug_in_is_executed_once_in_a_process(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(f"with open({str(tmp_path / 'log')!r}, 'a') as log:\n    log.write('x')\n" + CODE)
    source = str(tmp_path / "my.py")
    assert plugins.read(source).tables == plugins.read(source).tables
    assert (tmp_path / "log").read_text() == "x"


def test_what_a_plug_in_prints_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.py").write_text("print('hello')\n" + CODE)
    assert plugins.read(str(tmp_path / "my.py")).tables
    assert capsys.readouterr() == ("", "hello\n")


def test_a_plug_in_that_raises_leaves_no_module(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("raise ValueError('no')\n")
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            _ = plugins.read(str(tmp_path / "my.py")).tables
    assert not [name for name in set(sys.modules) - before if name.startswith("aimonk_bench_plugin")]


def test_dataclasses_of_a_plug_in_find_their_module(tmp_path: Path) -> None:
    code = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass D:\n    x: int\n"
    (tmp_path / "my.py").write_text(code + CODE)
    assert set(plugins.read(str(tmp_path / "my.py")).tables) == {"LOSSES"}


def test_a_file_that_changed_or_is_gone_is_not_executed(tmp_path: Path) -> None:
    file = tmp_path / "my.py"
    file.write_text(CODE)
    plugin = plugins.read(str(file))
    file.write_text(CODE + "# other\n")
    with pytest.raises(UserError, match=r"my.py: changed since it was read"):
        _ = plugin.tables
    file.unlink()
    with pytest.raises(UserError, match=r"my.py: cannot be read: No such file"):
        _ = plugin.tables
    with pytest.raises(UserError, match="--allow-plugins"):
        _ = Plugin(str(file), str(file), None).tables


def test_of_a_package_every_file_enters_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "whole_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from whole_package.losses import LOSSES\n")
    (package / "losses.py").write_text(CODE)
    (package / "inner" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = plugins.read("whole_package")
    assert plugin.tables["LOSSES"]["mine"](4, None) == 4
    (package / "notes.txt").write_text("no code")
    assert plugins.read("whole_package") == plugin
    (package / "inner" / "__init__.py").write_text("x = 1\n")
    changed = plugins.read("whole_package")
    assert changed.sha256 != plugin.sha256
    with pytest.raises(UserError, match="start Python again"):
        _ = changed.tables


def test_a_worker_imports_no_package_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "changing_package").mkdir()
    (tmp_path / "changing_package" / "__init__.py").write_text(CODE)
    plugin = plugins.read("changing_package")
    (tmp_path / "changing_package" / "__init__.py").write_text(CODE + " ")
    with pytest.raises(UserError, match="changed since it was read; start the command again"):
        _ = plugin.tables


def test_the_network_of_a_plug_in_is_that_of_its_version(tmp_path: Path) -> None:
    code = (
        "import timm\nfrom aimonk_bench.backbones.catalog import Entry\n\n"
        "@timm.models.register_model\ndef of_a_version(pretrained=False, **options):\n    return VERSION\n\n"
        "CATALOG = {'mine': Entry(timm='of_a_version', features=1, licence=None, hub=None, size=32, multiple=1)}\n"
    )
    made = []
    with warnings.catch_warnings(action="ignore"):  # timm warns of a name that it has
        for version in ("1", "2", "1"):
            (tmp_path / "my.py").write_text(code.replace("VERSION", version))
            with plugins.executed([plugins.read(str(tmp_path / "my.py"))]):
                made.append(timm.models.model_entrypoint("of_a_version")())
    assert made == [1, 2, 1]


def test_a_plug_in_is_executed_before_timm_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.py").write_text(f"open({str(tmp_path / 'log')!r}, 'w').close()\n{CODE}CATALOG = {{}}\n")
    monkeypatch.delitem(sys.modules, "timm.models")
    with plugins.executed([plugins.read(str(tmp_path / "my.py"))]):
        assert (tmp_path / "log").exists()


def test_an_exception_names_the_line_of_the_plug_in(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("def f(x):\n    return 1 / x\n\n\nLOSSES = {'f': f}\n")
    plugin = plugins.read(str(tmp_path / "my.py"))
    with pytest.raises(ZeroDivisionError) as caught, plugins.executed([plugin]):
        plugin.tables["LOSSES"]["f"](0)
    assert caught.value.__notes__ == [f"in the plug-in {tmp_path / 'my.py'}:2 (f: return 1 / x)"]
    with pytest.raises(ValueError, match="elsewhere") as other, plugins.executed([plugin]):
        raise ValueError("elsewhere")
    assert not hasattr(other.value, "__notes__")
    with pytest.raises(RunFailed) as failed, plugins.executed([plugin]):
        raise RunFailed("reason")
    assert not hasattr(failed.value, "__notes__")


def test_a_plug_in_ends_its_run_and_not_the_command(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("import sys\n\n\ndef f(x):\n    sys.exit(x)\n\n\nLOSSES = {'f': f}\n")
    plugin = plugins.read(str(tmp_path / "my.py"))
    with pytest.raises(RunFailed) as failed, plugins.executed([plugin]):
        plugin.tables["LOSSES"]["f"](0)
    assert f"found sys.exit(0) in the plug-in {tmp_path / 'my.py'}:5 (fix: " in str(failed.value)


def test_whatever_a_plug_in_raises_ends_its_run_and_what_it_prints_is_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "class Odd(BaseException):\n    pass\n\n\ndef f(x):\n    print('here')\n    raise Odd(x)\n\n\n"
    (tmp_path / "my.py").write_text(f"{code}LOSSES = {{'f': f}}\n")
    plugin = plugins.read(str(tmp_path / "my.py"))
    with pytest.raises(RunFailed) as failed, plugins.executed([plugin]):
        plugin.tables["LOSSES"]["f"]("reason")
    assert f"found Odd: reason in the plug-in {tmp_path / 'my.py'}:7 (fix: " in str(failed.value)
    assert capsys.readouterr() == ("", "here\n")
    for ending in (KeyboardInterrupt, GeneratorExit):  # of others
        with pytest.raises(ending), plugins.executed([plugin]):
            raise ending


def test_ctrl_c_ends_the_command_and_its_like_of_a_plug_in_the_run(tmp_path: Path) -> None:
    code = "class Stop(KeyboardInterrupt):\n    pass\n\n\ndef f(kind):\n    raise kind('reason')\n\n\n"
    (tmp_path / "my.py").write_text(f"{code}LOSSES = {{'f': f, 'kind': Stop}}\n")
    plugin = plugins.read(str(tmp_path / "my.py"))
    losses = plugin.tables["LOSSES"]
    with pytest.raises(RunFailed, match="found Stop: reason in the plug-in"), plugins.executed([plugin]):
        losses["f"](losses["kind"])
    with pytest.raises(KeyboardInterrupt), plugins.executed([plugin]):
        losses["f"](KeyboardInterrupt)
    error = ValueError("planted")
    error.__notes__ = "no list"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="planted"), plugins.executed([plugin]):
        losses["f"](lambda _: error)
