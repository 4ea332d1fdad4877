from __future__ import annotations

from pathlib import Path

import fake_pages
import pytest

import aimonk_bench


@pytest.fixture(scope="session")
def suite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite of `fake_pages`."""
    folder = tmp_path_factory.mktemp("results") / "suite"
    fake_pages.write_suite(folder)
    return folder


@pytest.fixture(scope="session")
def page_file(suite_folder: Path) -> Path:
    """The page of the suite."""
    return aimonk_bench.report(suite_folder, suite_folder.parent / "page.html")


@pytest.fixture(scope="session")
def written(page_file: Path) -> str:
    """The text of the page."""
    return page_file.read_text(encoding="utf-8")
