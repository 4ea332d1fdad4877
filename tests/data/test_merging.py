"""Rows of the same image: identical, merged by `data.duplicates`, or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from label_files import problems, read, states

from aimonk_bench.config.fields import Values
from aimonk_bench.data import merging
from aimonk_bench.data.cells import first_rows
from aimonk_bench.data.labels import Labels

TEXT = "image,x,y,z\na.png,1,0,NA\nb.png,0,0,1\n./a.png,0,NA,NA\na.png,NA,0,1\n"


@pytest.mark.parametrize(
    ("policy", "merged"),
    [("any_positive", [[1, 0, 1], [0, 0, 1]]), ("agree_or_missing", [[None, 0, 1], [0, 0, 1]])],
)
def test_rows_are_merged_as_the_config_says(tmp_path: Path, policy: str, merged: list[list[int | None]]) -> None:
    loaded = read(tmp_path, TEXT, "l.csv", duplicates=policy)
    assert loaded.ids == ("a.png", "b.png")
    assert loaded.lines.tolist() == [2, 3]
    assert states(loaded.labels) == merged
    assert f"1 image with different labels in 3 rows, merged by data.duplicates: {policy}" in loaded.notes


def test_without_a_policy_different_rows_are_one_error_with_the_fix(tmp_path: Path) -> None:
    [message] = problems(tmp_path, TEXT + "b.png,1,0,1\n", "l.csv")
    assert message.startswith("l.csv:4: image ./a.png contradicts line 2: x is negative, there positive; ")
    for part in ("y is missing, there negative", "2 images in all", "duplicates: any_positive", "agree_or_missing"):
        assert part in message


def test_a_merged_image_has_one_group(tmp_path: Path) -> None:
    text = "image,g,x\na.png,p1,1\na.png,p2,0\n"
    [message] = problems(tmp_path, text, "l.csv", group="g", duplicates="any_positive")
    assert message.startswith("l.csv:3: image a.png contradicts line 2: group is 'p2', there 'p1'")
    for groups in (["p1", "NA", ""], ["", "NA", "p1"], ["-9", "p1", "p1"]):
        text = "image,g,x\n" + "".join(f"a.png,{group},1\n" for group in groups) + "b.png,NA,0\n"
        values = Values(missing=["NA", "", "-9"])
        assert read(tmp_path, text, "l.csv", group="g", values=values).groups == ("p1", None)
        long = read(tmp_path, text, "l.csv", group="g", tags="x", importer="long_csv", absent="negative", values=values)
        assert long.groups == ("p1", None)


def test_merging_agrees_with_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    numbers, cells = rng.integers(0, 8, 60), rng.choice([1.0, 0.0, np.nan], (60, 3), p=[0.3, 0.3, 0.4])
    labels = Labels.of(cells, ~np.isnan(cells), ("x", "y", "z"))
    rows_of_images = first_rows([str(number) for number in numbers])
    names = numbers.astype(str).astype(object)
    rows = merging.Rows(names, np.arange(60), labels, {}, np.ones(60, bool))
    for policy in ("any_positive", "agree_or_missing"):
        merged, problems, notes = merging.merge(rows, rows_of_images, policy)  # type: ignore[arg-type]
        assert problems == []
        assert notes[-1].endswith(f"merged by data.duplicates: {policy}")
        for number in range(8):
            first = np.flatnonzero(numbers == number)[0]
            for column in range(3):
                tokens = {cell for cell in cells[numbers == number, column] if not np.isnan(cell)}
                expected = (
                    {1.0} & tokens or tokens if policy == "any_positive" else tokens if len(tokens) == 1 else set()
                )
                cell = {float(merged.targets[first, column])} if merged.observed[first, column] else set()
                assert cell == expected


def test_a_list_without_a_label_is_an_error_also_where_images_repeat(tmp_path: Path) -> None:
    text = "a.png\n" + 6 * "b.png NA\n"
    assert "expected 1" in problems(tmp_path, text, "l.txt", importer="label_list", absent="missing")[0]
