"""The shipped configs, damaged: a config or our own error, in bounded time and memory."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
import timm  # noqa: F401  # which a backbone of an unknown name asks for: importing it takes longer than a config may
from hostile_files import HOSTILE, limited, mutated
from hypothesis import given
from hypothesis import strategies as st

from aimonk_bench import tables
from aimonk_bench.config import loader
from aimonk_bench.errors import UserError

SHIPPED = Path(__file__).parents[2] / "configs"
ORIGINALS = {str(path.relative_to(SHIPPED)): path.read_bytes() for path in sorted(SHIPPED.rglob("*.yaml"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped configs, which the mutated ones extend."""
    return Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("mutated") / "configs"))


@HOSTILE
@given(case=mutated(ORIGINALS, text=True), check_paths=st.booleans())
def test_a_mutated_config_is_a_config_or_a_user_error(folder: Path, case: tuple[str, bytes], check_paths: bool) -> None:
    name, content = case
    file = (folder / name).with_name("mutated.yaml")
    file.write_bytes(content)
    load = loader.load_suite if name.startswith("suites") else loader.load
    with limited(), contextlib.suppress(UserError):
        loaded = load(file, tables.TABLES, check_paths=check_paths)
        configs = [run.config for run in loaded.runs] if name.startswith("suites") else [loaded]
        assert all(loader.dump(config) for config in configs)
