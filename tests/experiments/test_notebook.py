"""The notebook: it runs from top to bottom, and it is stored without what it prints."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "notebook.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    read: nbformat.NotebookNode = nbformat.read(NOTEBOOK, as_version=4)
    return read


def test_the_notebook_is_stored_without_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None and cell.metadata == {} for cell in code)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert set(notebook.metadata.language_info) == {"name"}


@pytest.mark.filterwarnings("default")  # of the packages that start the kernel
def test_the_notebook_runs_and_shows_its_results(notebook: nbformat.NotebookNode, tmp_path: Path) -> None:
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    streams = [output for made in outputs.values() for output in made if output.output_type == "stream"]
    assert [output.name for output in streams] == ["stdout"], "only the cell that prints"
    [suite] = [made for source, made in outputs.items() if source.endswith("\nsuite")]
    progress, result = suite
    assert progress.data["text/plain"] == "", "progress is gone when it ends"
    assert "selected per fold" in result.data["text/html"]
    assert "Suite(folder=" in result.data["text/plain"]
    assert (tmp_path / "results" / "suite" / "labels.csv").exists()
    assert (tmp_path / "results" / "other" / "status.json").exists()
    decisions = outputs[notebook.cells[-1].source][0].data["text/html"]
    assert "image_0.jpg" in decisions
    assert decisions.count("True") + decisions.count("False") == 2 * 4
