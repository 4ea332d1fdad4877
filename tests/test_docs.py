"""The pages for readers: what they name exists, and what they must name is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

from aimonk_bench import cli
from aimonk_bench.config import loader
from aimonk_bench.config.fields import DataConfig
from aimonk_bench.reporting.columns import BELOW, NA_RANGE
from aimonk_bench.reporting.summary import COLUMNS
from aimonk_bench.suite.clock import Clock
from aimonk_bench.tables import tables

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "aimonk_bench"
PUBLISHED = ROOT / "experiments" / "published"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / name / "README.md" for name in ("configs", "experiments")),
    *sorted(PUBLISHED.glob("*/README.md")),
]
GUIDES = PAGES[:2] + PAGES[3:5]  # not the changelog, which names what is gone, nor results, which name their commit
IDS = {"ids": lambda path: str(path.relative_to(ROOT))}

Schema = dict[str, Any]


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(page: Path, first: str) -> Iterator[list[str]]:
    """The cells of every row of the Markdown tables whose first column is headed ``first``."""
    inside = False
    for line in text_of(page).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not set(cells[0]) <= set("-: "):
            yield cells


def keys(node: Schema, definitions: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every key of a JSON Schema by its dotted name, with its own schema; options of entries are not keys."""
    if "$ref" in node:
        yield from keys(definitions[node["$ref"].rpartition("/")[2]], definitions, path)
    for alternative in node.get("anyOf", []):
        if "const" not in alternative.get("properties", {}).get("name", {}):
            yield from keys(alternative, definitions, path)
    for name, child in node.get("properties", {}).items():
        key = re.sub(r"^tune\.loss\..*", "tune.loss.OPTION", f"{path}.{name}".removeprefix("."))
        yield key, child
        yield from keys(child, definitions, key)


@pytest.fixture
def schema(capsys: pytest.CaptureFixture[str]) -> Schema:
    """What `aimonk-bench schema` prints."""
    assert cli.main(["schema"]) == 0
    printed: Schema = json.loads(capsys.readouterr().out)
    return printed


def defaults(schema: Schema) -> dict[str, Any]:
    """Dotted key -> default: that of the schema or, for entries and where a short form is usual, of base.yaml."""
    defaults: dict[str, Any] = {}
    for key, node in keys(schema, schema["$defs"]):
        if "default" in node:
            defaults.setdefault(key, node["default"])  # of several schemes of a split the first
    defaults["data.importer"] = DataConfig.model_fields["importer"].default  # the schema lists the importers instead
    base = yaml.safe_load(text_of(ROOT / "configs" / "base.yaml"))
    for section, value in base.items():
        defaults[section] = value
        defaults |= {f"{section}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {}
    return defaults


def test_the_page_of_the_configs_names_every_key_and_no_other(schema: Schema) -> None:
    named = [cells[0].strip("`") for cells in rows(ROOT / "configs" / "README.md", "key")]
    assert sorted(named) == sorted({key for key, _ in keys(schema, schema["$defs"])})


def test_the_page_of_the_configs_states_the_defaults(schema: Schema) -> None:
    values = defaults(schema)
    stated = {cells[0].strip("`"): cells[2] for cells in rows(ROOT / "configs" / "README.md", "key")}
    read = {key: yaml.safe_load(match[1]) for key, cell in stated.items() if (match := re.fullmatch("`(.*)`", cell))}
    assert read == {key: values[key] for key in read}
    sections = {key.rpartition(".")[0] for key in stated}
    assert [key for key in values if key not in read and key not in sections] == []
    assert [key for key, cell in stated.items() if cell == "required" and key in values] == []


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if "://" not in link:
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", GUIDES, **IDS)
def test_every_path_in_a_page_exists(page: Path) -> None:
    quoted = re.findall(r"`([^`\s]+)`", text_of(page))
    starts = ("aimonk_bench/", "configs/", "experiments/published", "experiments/benchmarks", "tests/")
    paths = [path for path in quoted if path.startswith(starts) and not set(path) & set("<>*")]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_every_verb_in_a_page_exists(page: Path) -> None:
    verbs = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]  # it is a group
    named = set(re.findall(r"aimonk-bench ([a-z]+)", text_of(page)))
    assert named <= set(verbs)


def test_the_readme_names_every_verb() -> None:
    verbs = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]  # it is a group
    assert [verb for verb in verbs if f"`aimonk-bench {verb}" not in text_of(ROOT / "README.md")] == []


def test_the_readme_can_be_read_in_ten_minutes() -> None:
    lines = text_of(ROOT / "README.md").splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "configs" / "README.md"], **IDS)
def test_the_yaml_of_a_page_is_a_valid_suite_in_any_folder(page: Path, tmp_path: Path) -> None:
    examples = re.findall(r"^ *```yaml\n(.*?)```", text_of(page), re.MULTILINE | re.DOTALL)
    assert examples
    for code in re.findall(r"^```python\n(.*?)```", text_of(page), re.MULTILINE | re.DOTALL):
        (tmp_path / "my_losses.py").write_text(code)
    for example in examples:
        file = tmp_path / "mine.yaml"
        file.write_text(example)
        suite = loader.load_suite(file, tables(allow_plugins=True), check_paths=False)
        assert suite.base.data.labels == tmp_path / "labels.txt"


WIDE_COLUMNS = ("val F1", "macro AP", "macro ROC AUC", "difference")  # that do not fit into the README


def test_the_table_of_the_readme_is_the_published_one() -> None:
    published = {}
    summary = text_of(PUBLISHED / "comparison" / "summary.md")
    (selected,) = re.findall(r"^\| \*\*(.*) \\\*\*\*", summary, re.MULTILINE)
    for line in summary.splitlines():
        name, *cells = [cell.strip(r" *\|") for cell in line.split(" | ")]
        published[name.strip("| *\\")] = cells
    text, base = text_of(ROOT / "README.md").split("```")[1], "masked_bce + uniform (base)"
    table = re.findall(r"^(\S.*?)(?: \*)?  +(.*)$", text, re.MULTILINE)
    shown = {name: cells for name, cells in table if name in published}
    assert {selected, base} <= set(shown)
    order = [*published]
    places = [order.index(name) for name in (selected, base, "selected per fold")]
    assert [int(gap) for gap in re.findall(r"^\((\d+) runs\)$", text, re.MULTILINE)] == (np.diff(places) - 1).tolist()
    for name, cells in shown.items():
        columns = zip(published["run"], published[name], strict=True)
        wanted = [re.sub(r" \(.*", "", cell) for column, cell in columns if cell and column not in WIDE_COLUMNS]
        assert re.split(r"  +", cells.strip()) == wanted, name


def test_the_legend_explains_every_row_below_the_runs() -> None:
    explained = [cells[0] for cells in rows(ROOT / "experiments" / "README.md", "row")]
    assert explained == ["runs", *BELOW]
    table = text_of(ROOT / "README.md").split("```")[1]
    assert [row for row in BELOW if f"\n{row}  " not in table] == [NA_RANGE]  # left out for brevity


def test_every_column_of_the_summary_and_every_phase_is_explained() -> None:
    page = ROOT / "experiments" / "README.md"
    columns = {name for row in rows(page, "column") for name in re.findall(r"`(\w+)`", row[0])}
    bounds = {f"{name}{end}" for name in ("f1_default", "f1_tuned") for end in ("_low", "_high")}
    assert set(COLUMNS) - bounds <= columns
    phases = {name for row in rows(page, "phase") for name in re.findall(r"`(\w+)`", row[0])}
    assert phases == set(Clock().itemised()) - {"total"}


def test_the_tree_names_every_module_and_no_other() -> None:
    tree = text_of(ROOT / "CONTRIBUTING.md").partition("## The tree")[2].split("```")[1]
    _, _, package = tree.partition("\naimonk_bench/\n")
    room, named = "", []
    for indent, name in re.findall(r"^( +)(\S+)", package, re.MULTILINE):
        room = name if name.endswith("/") else room if len(indent) > 2 else ""
        named += [room + name] if name.endswith(".py") else []
    modules = (str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    assert sorted(named) == sorted(modules)
