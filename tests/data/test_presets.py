"""The presets of `configs/datasets`: each reads a few rows in the format in which its data set is published."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_files import states
from published_data import PUBLISHED, write

from aimonk_bench.config import loader
from aimonk_bench.data import label_file
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.tables import TABLES

PRESETS = Path(__file__).parents[2] / "configs" / "datasets"
OTHERS = {"aimonk", "elpv", "elpv_uncertain", "synthetic"}  # their data are tested where they are made


def load(folder: Path, name: str) -> LabelFile:
    """Write the fixture with its images, and read it by its preset."""
    published = PUBLISHED[name]
    write(folder, published)
    settings = {"data.labels": published.labels, "data.images": published.images, **published.options}
    paths = {key: str(folder / value) for key, value in settings.items() if key.endswith(("labels", "images", "names"))}
    overrides = [f"{key}={value}" for key, value in (settings | paths).items()]
    config = loader.load(PRESETS / f"{name.split()[0]}.yaml", TABLES, overrides)
    return label_file.load(config.data, [config.split.column] if config.split.scheme == "column" else [])


def test_every_preset_has_a_fixture() -> None:
    assert {path.stem for path in PRESETS.glob("*.yaml")} - OTHERS == {name.split()[0] for name in PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_reads_what_is_published(name: str, tmp_path: Path) -> None:
    published, listed = PUBLISHED[name], load(tmp_path, name)
    assert list(listed.ids) == (published.ids or published.names)
    attributes = published.attributes or list(listed.labels.attributes)
    columns = [listed.labels.attributes.index(attribute) for attribute in attributes]
    assert [[row[column] for column in columns] for row in states(listed.labels)] == published.expected
    if published.groups is not None:
        assert listed.groups == tuple(published.groups)
    assert [*listed.columns.values()] == ([tuple(published.parts)] if published.parts is not None else [])


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_says_where_the_data_come_from_and_holds_nothing_else(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert {line.partition(":")[0] for line in lines if line[:1].isalpha()} <= {"data", "split"}
