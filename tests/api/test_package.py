"""What `import aimonk_bench` gives, and what it costs."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import aimonk_bench
from aimonk_bench.suite import plan

STUB = Path(aimonk_bench.__file__).with_suffix(".pyi")
PUBLIC = ["Comparison", "Run", "RunFailed", "Suite", "UserError", "__version__", "audit", "compare", "export", "labels"]
PUBLIC += ["load", "log", "predict", "report", "run", "score", "show", "suite"]


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some lines of code, without those of Python itself."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_else() -> None:
    path = f"import sys; sys.path[:] = {sys.path!r}"
    assert loaded(f"{path}\nimport aimonk_bench") - loaded(path) == {"aimonk_bench"}


def test_the_functions_load_what_they_need_when_they_need_it() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}\nimport aimonk_bench\naimonk_bench."
    heavy = {"torch", "timm", "sklearn", "matplotlib", "albumentations", "IPython"}
    assert not {"pandas", *heavy} & loaded(f"{code}load")
    assert not heavy & loaded(f"{code}run")


def test_the_package_exports_its_functions_to_people_and_to_type_checkers() -> None:
    assert sorted(aimonk_bench.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(aimonk_bench))
    names = {name: getattr(aimonk_bench, name) for name in PUBLIC}
    imports = [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]
    stated = {alias.asname: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    made = {name: f"{value.__module__}.{name}" for name, value in names.items() if name != "__version__"}
    assert stated == made
    assert STUB.with_name("py.typed").exists()
    assert all(inspect.getdoc(value) for name, value in names.items() if name != "__version__")


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'aimonk_bench' has no attribute 'sweet'"):
        aimonk_bench.sweet  # noqa: B018  # the access is what is tested
    assert not hasattr(aimonk_bench, "__wrapped__")


def test_the_function_suite_is_not_hidden_by_the_room_of_that_name() -> None:
    code = (
        "import aimonk_bench.suite.plan, aimonk_bench.api.work as work, aimonk_bench as ab, aimonk_bench.suite\n"
        "from aimonk_bench import suite\n"
        "assert ab.suite is suite is work.suite, ab.suite"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert inspect.isfunction(aimonk_bench.suite)
    assert isinstance(plan, types.ModuleType)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.islower() and name != "__version__"])
def test_the_docstring_of_a_function_names_its_arguments_and_errors(name: str) -> None:
    function = getattr(aimonk_bench, name)
    text = inspect.getdoc(function) or ""
    assert "Raises:\n    UserError: " in text
    shared = "Arguments as for `run`" in text or "arguments are those of `run`" in text
    parameters = [] if shared or name == "load" else list(inspect.signature(function).parameters)
    assert [parameter for parameter in parameters if not re.search(rf"^ +{parameter}: ", text, re.MULTILINE)] == []
