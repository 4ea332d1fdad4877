"""Plug-ins: Python code of the user, whose dicts add entries to the tables of the program.

A plug-in is a file, or an installed module or package. It has dicts that are called like the tables, such as `LOSSES`.
A file or a module is one source: its bytes are hashed, and these very bytes are executed, in a module of their own that
nothing else can import. A package is imported by its name. What a module imports does not enter its hash; of a package
every .py file does.

A plug-in travels by name and hash, so that it can be pickled, and is executed on first use in each process. What was
executed is kept by hash: configs with other plug-ins do not see it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
import types
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimonk_bench.errors import RunFailed, UserError, sentence

KEY = "plugins"  # of a config
TABLES = ("LOSSES", "SET_LOSSES", "MISSING", "SAMPLERS", "THRESHOLDS", "CATALOG")  # that a plug-in may add to

_imported: dict[str, str] = {}  # package -> its hash when this process imported it, as Python imports a package once


@dataclass(frozen=True)
class Plugin:
    """A plug-in.

    Attributes:
        source: the absolute path of a .py file, or the name of an installed module or package.
        file: the file with its code; of a package the folder.
        sha256: hex, of the bytes of the file; of a package, of the names and bytes of all its .py files. None where the
            plug-in must not be executed.
    """

    source: str
    file: str
    sha256: str | None

    @property
    def tables(self) -> dict[str, Any]:
        """What the plug-in has under the names of `TABLES`; it is executed on first use.

        Raises:
            UserError: it must not be executed, or it changed since it was read.
            BaseException: whatever its code raises.
        """
        module = vars(_module(self))
        return {name: module[name] for name in TABLES if name in module}

    @property
    def names(self) -> dict[str, Any]:
        """Everything at the top level of the plug-in; `tables` says what is raised."""
        return vars(_module(self))

    def lines(self, error: BaseException) -> list[traceback.FrameSummary]:
        """The lines of the plug-in that the traceback of an exception passes through, the innermost last."""
        frames = traceback.extract_tb(error.__traceback__)
        return [
            frame for frame in frames if frame.filename == self.file or Path(self.file) in Path(frame.filename).parents
        ]


@dataclass(frozen=True)
class Origin:
    """Where an entry of a plug-in stands.

    Attributes:
        table: the dict, one of `TABLES`.
    """

    plugin: Plugin
    table: str

    def entry(self, name: str) -> Any:
        """The entry of this name."""
        return self.plugin.tables[self.table][name]


def is_file(source: str) -> bool:
    """Whether a plug-in is written as the path of a file, and not as the name of a module."""
    return source.endswith(".py") or "/" in source or "\\" in source


def read(source: str) -> Plugin:
    """Hash a plug-in without executing it; the packages around a module are imported, as Python finds it by them.

    Args:
        source: the absolute path of a file, or the name of an installed module.

    Raises:
        UserError: there is no such file or module, or it has no Python code.
    """
    file = Path(source) if is_file(source) else _find(source)
    try:
        if file.is_dir():
            digest = hashlib.sha256()
            for path in sorted(file.rglob("*.py")):
                content = path.read_bytes()
                digest.update(f"{path.relative_to(file).as_posix()} {len(content)}\n".encode() + content)
            return Plugin(source, str(file), digest.hexdigest())
        return Plugin(source, str(file), hashlib.sha256(file.read_bytes()).hexdigest())
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error


def _find(name: str) -> Path:
    """The file of an installed module, or the folder of a package."""
    with contextlib.redirect_stdout(sys.stderr):  # the packages around the module are imported
        spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise UserError(f"{name}: found {spec.origin or 'a folder without __init__.py'}, expected Python code")
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


@functools.cache
def _module(plugin: Plugin) -> types.ModuleType:
    """Execute a plug-in."""
    if plugin.sha256 is None:
        raise UserError(
            f"{plugin.source}: a plug-in, which is executed only with --allow-plugins (in Python allow_plugins=True)"
        )
    if Path(plugin.file).is_dir():
        if _imported.setdefault(plugin.source, plugin.sha256) != plugin.sha256:
            raise UserError(f"{plugin.file}: changed since this process imported it; start Python again")
        if plugin.source not in sys.modules and read(plugin.source).sha256 != plugin.sha256:  # as in a worker
            raise UserError(f"{plugin.file}: changed since it was read; start the command again")
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(plugin.source)
    try:
        content = Path(plugin.file).read_bytes()
    except OSError as error:
        raise UserError(f"{plugin.file}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != plugin.sha256:
        raise UserError(f"{plugin.file}: changed since it was read; start the command again")
    module = types.ModuleType(f"aimonk_bench_plugin_{plugin.sha256[:16]}")
    module.__file__ = plugin.file
    module.__package__ = "" if is_file(plugin.source) else plugin.source.rpartition(".")[0]
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            exec(compile(content, plugin.file, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


@contextlib.contextmanager
def executed(plugins: Sequence[Plugin]) -> Iterator[None]:
    """Execute plug-ins, and note on an exception in the context which line of them it passed through.

    What they print goes to standard error.

    Raises:
        RunFailed: the code in the context calls `sys.exit`, which would end the command and not the run, or plug-ins
            raise another exception that is no `Exception`.
        KeyboardInterrupt: Ctrl-C, whose exception has exactly this type.
    """
    for plugin in plugins:
        _register_again(plugin)
    try:
        with contextlib.redirect_stdout(sys.stderr) if plugins else contextlib.nullcontext():
            yield
    except (UserError, RunFailed):
        raise
    except Exception as error:
        for plugin in plugins:
            for frame in plugin.lines(error)[-1:]:
                _add_note(error, f"in the plug-in {frame.filename}:{frame.lineno} ({frame.name}: {frame.line})")
        raise
    except BaseException as ending:
        lines = [frame for plugin in plugins for frame in plugin.lines(ending)[-1:]]
        if type(ending) is KeyboardInterrupt or not (lines or isinstance(ending, SystemExit)):
            raise
        what = f"sys.exit({ending.code!r})" if isinstance(ending, SystemExit) else sentence(ending)
        where = "".join(f" in the plug-in {frame.filename}:{frame.lineno}" for frame in lines)
        raise RunFailed(f"found {what}{where} (fix: raise an exception instead)") from ending


def _register_again(plugin: Plugin) -> None:
    """Execute a plug-in; give its networks back their names in timm, which another version of it may have now."""
    entries = plugin.tables.get("CATALOG", {}).values()
    models: Any = sys.modules.get("timm.models")
    for entry in entries if models else ():
        name = entry.timm.partition(".")[0]
        function = plugin.names.get(name)
        if callable(function) and models.is_model(name) and models.model_entrypoint(name) is not function:
            with warnings.catch_warnings(action="ignore"):  # timm warns of a name that it has
                models.register_model(function)


def _add_note(error: Exception, note: str) -> None:
    """Add a note to an exception; the plug-in may have put something there that takes none."""
    with contextlib.suppress(TypeError):
        BaseException.add_note(error, note)
