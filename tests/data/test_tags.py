"""Columns of tags: what separates them, what a missing token means, and what is refused."""

from __future__ import annotations

import ast
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimonk_bench.data.tag_choice import MOST_TAGS
from aimonk_bench.data.tags import LIST, Tags, split_tags


def rows(tags: Tags) -> list[set[str] | None]:
    """The tags of each row, None where the row is missing."""
    assert tags.problems == ()
    return [
        None if missing else {name for name, has in zip(tags.names, present, strict=True) if has}
        for present, missing in zip(tags.present, tags.missing, strict=True)
    ]


@pytest.mark.parametrize(
    ("cells", "separator", "expected"),
    [
        (["['cat', 'dog']", "['cat']", "[]", ""], LIST, [{"cat", "dog"}, {"cat"}, set(), set()]),
        (['["cat"]', '["cat","No Finding"]'], LIST, [{"cat"}, {"cat", "No Finding"}]),
        (["['cat' 'No Finding'\n 'x']", "[ 'x' ]"], LIST, [{"cat", "No Finding", "x"}, {"x"}]),
        (["{'cat', 'dog'}", "('cat',)"], LIST, [{"cat", "dog"}, {"cat"}]),
        (['["crow\'s nest"]', r"['it\'s']", r'["\u00e9", "a\"b"]'], LIST, [{"crow's nest"}, {"it's"}, {"é", 'a"b'}]),
        (["['a,b', 'c|d; e']", "['c']"], LIST, [{"a,b", "c|d; e"}, {"c"}]),
        (["['a', 3, 4.5]"], LIST, [{"a", "3", "4.5"}]),
        (["['cat']", "NA"], LIST, [{"cat"}, None]),
        (["{'cat', 'dog'}", "{'cat'}", "set()"], LIST, [{"cat", "dog"}, {"cat"}, set()]),
        (["frozenset({'cat'})", "frozenset()"], LIST, [{"cat"}, set()]),
        (["array(['cat', 'dog'], dtype=object)", "array([], dtype=object)"], LIST, [{"cat", "dog"}, set()]),
        (["['NA']", "['cat']"], LIST, [None, {"cat"}]),
        (["[cat, dog]", "[dog]", "[]"], ",", [{"cat", "dog"}, {"dog"}, set()]),
        (["[0, 3]", "[3]"], ",", [{"0", "3"}, {"3"}]),
        (["cat,dog", "dog"], ",", [{"cat", "dog"}, {"dog"}]),
        (["cat, dog,", " dog "], ",", [{"cat", "dog"}, {"dog"}]),
        (["猫，狗", "狗、鸟", "鸟"], ",", [{"猫", "狗"}, {"狗", "鸟"}, {"鸟"}]),
        (["cat，dog", "cat, owl"], ",", [{"cat", "dog"}, {"cat", "owl"}]),
        (["cat；dog", "dog"], ";", [{"cat", "dog"}, {"dog"}]),
        (["cat｜big dog", "big dog"], "|", [{"cat", "big dog"}, {"big dog"}]),
        (["color:red,color:blue", "color:red"], ",", [{"color:red", "color:blue"}, {"color:red"}]),
        (["x-ray", "x"], None, [{"x-ray"}, {"x"}]),
        (["cat;dog", "No Finding"], ";", [{"cat", "dog"}, {"No Finding"}]),
        (
            ["Pleural Effusion|Mass", "No Finding", "Mass||Mass"],
            "|",
            [{"Pleural Effusion", "Mass"}, {"No Finding"}, {"Mass"}],
        ),
        (["cat\ndog", "cat"], "\n", [{"cat", "dog"}, {"cat"}]),
        (
            ["clear primary", "clear  haze", "primary haze", "haze"],
            " ",
            [{"clear", "primary"}, {"clear", "haze"}, {"primary", "haze"}, {"haze"}],
        ),
        (["16 0", "16", "0"], " ", [{"16", "0"}, {"16"}, {"0"}]),
        (["16 0", "16", "", "NA", "0"], " ", [{"16", "0"}, {"16"}, set(), None, {"0"}]),
        (["cat", "dog", ""], None, [{"cat"}, {"dog"}, set()]),
        (["cat", "NA", ""], None, [{"cat"}, None, set()]),
        (["a/b", "c+d"], None, [{"a/b"}, {"c+d"}]),
    ],
)
def test_the_column_decides_what_separates_its_tags(
    cells: list[str], separator: str | None, expected: list[set[str] | None]
) -> None:
    tags = split_tags(cells)
    assert rows(tags) == expected
    assert tags.separator == separator
    assert list(tags.names) == sorted(set().union(*(row for row in expected if row)))


@pytest.mark.parametrize(
    ("cells", "separator", "expected"),
    [
        (["No Finding", "Mass"], "|", [{"No Finding"}, {"Mass"}]),
        (["No Finding", "Mass"], " ", [{"No", "Finding"}, {"Mass"}]),
        (["a\t b", "b"], " ", [{"a", "b"}, {"b"}]),
        (["Car, van|bus", "bus"], "|", [{"Car, van", "bus"}, {"bus"}]),
        (["a/b", "b"], "/", [{"a", "b"}, {"b"}]),
        (["a, b，c", "c"], "，", [{"a, b", "c"}, {"c"}]),
        (["a, b c", "b c"], ",", [{"a", "b c"}, {"b c"}]),
        (["[a] - x", "x"], " - ", [{"[a]", "x"}, {"x"}]),
    ],
)
def test_a_declared_separator_alone_separates(cells: list[str], separator: str, expected: list[set[str]]) -> None:
    tags = split_tags(cells, separator=separator)
    assert rows(tags) == expected
    assert tags.separator == separator


@pytest.mark.parametrize(
    ("cells", "attributes", "expected"),
    [
        (["No Finding", "Mass"], ["No Finding", "Mass"], [{"No Finding"}, {"Mass"}]),
        (["No Finding", "Mass"], ["No", "Finding", "Mass"], [{"No", "Finding"}, {"Mass"}]),
        (["Car, van|bus", "bus"], ["Car, van", "bus"], [{"Car, van", "bus"}, {"bus"}]),
        (["NA|x", "NA"], ["NA", "x"], [{"NA", "x"}, {"NA"}]),
        (["none", "x"], ["none", "x"], [{"none"}, {"x"}]),
        (["a/b", "a", "b"], ["a/b", "a", "b"], [{"a/b"}, {"a"}, {"b"}]),
    ],
)
def test_declared_attributes_settle_a_doubt(cells: list[str], attributes: list[str], expected: list[set[str]]) -> None:
    tags = split_tags(cells, attributes=attributes)
    assert rows(tags) == expected
    assert list(tags.names) == attributes


@pytest.mark.parametrize(
    ("cells", "options", "row", "tokens"),
    [
        (["x", "No Finding"], {}, 1, ["'No'", "'Finding'", "1 row,", 'separator: "|"', 'separator: " "']),
        (["b a", "x", "a b"], {}, 0, ["'b'", "'a'", "2 rows", "data.tag_separator"]),
        (["x|y", "x|y", "x,z"], {}, 2, ["'|'", "','", "2 rows", 'separator: "|"', 'separator: ","']),
        (["x", "x;y,z"], {}, 1, ["';'", "','", "data.tag_separator"]),
        (["x", "y", "x/y"], {}, 2, ["'x/y'", 'tag_separator: "/"', 'tag_separator: "|"']),
        (["x", "x/y", "y/z", "z/q"], {}, 1, ["'x/y' beside 'x'", 'tag_separator: "/"', 'tag_separator: "|"']),
        (["x+y", "y+z", "z+x"], {}, 0, ["'x+y' beside", 'tag_separator: "+"']),
        (["x & y", "z", "x&q"], {}, 0, ["'&'", 'tag_separator: "&"']),
        (["x\\y", "x"], {}, 0, ["beside 'x'", r'tag_separator: "\\"']),
        (["x·y", "x"], {}, 0, ["'x·y' beside 'x'", 'tag_separator: "·"']),
        (["x／y", "x"], {}, 0, ["'x／y' beside 'x'", 'tag_separator: "/"']),
        (["x - y", "y - z", "x", "z", "y"], {}, 0, ["'-' between blanks", 'tag_separator: " - "']),
        (["big x - y|q", "big x"], {}, 0, ["'big x - y' beside 'big x'", 'tag_separator: " - "']),
        (["cat and dog", "dog and owl", "cat", "owl"], {}, 0, ["'and' between blanks", 'tag_separator: " and "']),
        (["x=1;y=0", "x=0;y=1"], {}, 0, ["2 rows", "value beside each tag", "wide_csv"]),
        (["x: yes|y: no", "x: no"], {}, 0, ["value beside each tag", "wide_csv"]),
        (['[{"label": "x"}]', '[{"label": "y"}]'], {}, 0, ["objects", "2 rows", "['x', 'y']"]),
        (["[[0, 3], [1, 2]]"], {}, 0, ["lists"]),
        (["x", "[x, y]"], {}, 0, ["'x'", "'[x, y]'"]),
        (['["x", "y"]', "null", "null"], {}, 1, ["'null' (2 rows)", '`values: {missing: ["", "NA", "null"]}`']),
        (["[0, 3]", "None", "[3]"], {}, 1, ["'None' (1 row)", '`values: {missing: ["", "NA", "None"]}`']),
        (["x|z", "y", "x+y"], {}, 2, ["'x+y'", 'tag_separator: "+"', 'tag_separator: "|"']),
        (["x & y", "x", "y"], {}, 0, ["'&'", 'tag_separator: "&"', 'tag_separator: " "']),
        (["['x']", "y"], {}, 1, ["'y'", "['x']"]),
        (["['x']", "['y'"], {}, 1, ["['y'"]),
        (["['x' ... 'y']"], {}, 0, ["..."]),
        (["[['x'], ['y']]", "['x']"], {}, 0, ["[['x']"]),
        (["{'x': 1}"], {}, 0, ["{'x': 1}"]),
        ([r"['\q']"], {}, 0, [r"\\q"]),
        (["['x']"], {"separator": ","}, 0, ["remove data.tag_separator"]),
        (["x", "nan", "nan"], {}, 1, ["'nan' (2 rows)", '`values: {missing: ["", "NA", "nan"]}`']),
        (["x", "None"], {"missing": ["?"]}, 1, ["'None'", '{missing: ["", "?", "None"]}']),
        (["[null]", "[x]"], {}, 0, ["'null'"]),
        (["0,1,0", "1,0,0"], {}, 0, ["'0,1,0'", "data.importer: wide_csv"]),
        (["[0, 1]", "[1, 1]"], {}, 0, ["2 rows", "wide_csv"]),
        (["y", "x|NA"], {}, 1, ["'NA'", "'x|NA'", "data.values.missing"]),
        (
            ["x|bird", "dgo|x", "bird"],
            {"attributes": ["x", "dog"]},
            0,
            ["'bird' (2 rows)", "'dgo' (1 row) (did you mean dog?)", "`other_tags: ignore`"],
        ),
        ([*map(str, range(MOST_TAGS + 1))], {}, 0, [str(MOST_TAGS + 1), "data.attributes", "`other_tags: ignore`"]),
    ],
)
def test_what_is_unclear_is_one_problem_with_the_line_to_write(
    cells: list[str], options: dict[str, Any], row: int, tokens: list[str]
) -> None:
    tags = split_tags(cells, **options)
    assert len(tags.problems) == 1
    assert tags.problems[0][0] == row
    assert [token for token in tokens if token not in tags.problems[0][1]] == [], tags.problems


def test_a_chosen_subset_ignores_other_tags_and_says_so() -> None:
    tags = split_tags(["cat|bird", "bird", "dog|fish", ""], attributes=["dog", "cat"], other_tags="ignore")
    assert rows(tags) == [{"cat"}, set(), {"dog"}, set()]
    assert tags.names == ("dog", "cat")
    assert tags.first_rows.tolist() == [2, 0]
    assert len(tags.notes) == 1
    assert "'bird' (2 rows), 'fish' (1 row)" in tags.notes[0]


def test_many_other_tags_are_counted() -> None:
    cells = [f"cat|t{number:02}" for number in range(30)]
    [(_, text)] = split_tags(cells, attributes=["cat"]).problems
    assert text.count("(1 row") == 10
    assert "and 20 more" in text


@pytest.mark.parametrize(
    ("cells", "options", "tokens"),
    [
        (["Cat", "cat", "cat"], {}, ["'Cat' (1 row)", "'cat' (2 rows)"]),
        (["No Finding|x", "NoFinding", "no_finding"], {}, ["'No Finding'", "'NoFinding'", "'no_finding'"]),
        (["caf\u00e9", "cafe\u0301"], {}, ["'caf\u00e9'", "'cafe\u0301'"]),
        (["CAT", "dog"], {"attributes": ["cat", "dog"], "other_tags": "ignore"}, ["'cat'", "'CAT'"]),
        (["dgo", "cat"], {"attributes": ["cat", "dog"], "other_tags": "ignore"}, ["'dog'", "did you mean dgo?"]),
        (["Pleural Effusion", "Pleural Thickening", "Mass"], {}, ["'Pleural Effusion'", "'Pleural Thickening'", '"|"']),
        (["Lung Opacity", "Skin Opacity", "Opacity"], {}, ["'Lung Opacity'", "'Skin Opacity'"]),
    ],
)
def test_probable_mistakes_are_warned_about(cells: list[str], options: dict[str, Any], tokens: list[str]) -> None:
    tags = split_tags(cells, **options)
    assert tags.problems == ()
    assert [token for token in tokens if token not in "\n".join(tags.warnings)] == [], tags.warnings


@pytest.mark.parametrize("cells", [["cat|dog", "cat", ""], ["a b", "b c", "c a"], ["['Cat']", "['dog']"], []])
def test_clear_columns_have_no_warning(cells: list[str]) -> None:
    tags = split_tags(cells)
    assert (tags.warnings, tags.notes, tags.problems) == ((), (), ())


def test_first_rows_and_categorical_columns() -> None:
    column = pd.Series(["", "y|x", "x", "y|x"], dtype="category")
    tags = split_tags(column)
    assert tags.first_rows.tolist() == [1, 1]
    assert rows(tags) == [set(), {"x", "y"}, {"x"}, {"x", "y"}]


def test_declared_missing_tokens_may_have_blanks() -> None:
    tags = split_tags(["not known", "cat dog", "cat", "dog"], missing=["not known"])
    assert rows(tags) == [None, {"cat", "dog"}, {"cat"}, {"dog"}]


def test_a_million_rows() -> None:
    """No time is asserted; work per row instead of per distinct cell would make this test last for minutes."""
    rng = np.random.default_rng(0)
    pool = [" ".join(f"t{tag}" for tag in rng.choice(17, rng.integers(1, 6), replace=False)) for _ in range(5000)]
    tags = split_tags(pd.Series(pool)[rng.integers(0, 5000, 1_000_000)].astype("category"))
    assert tags.problems == ()
    assert tags.present.shape == (1_000_000, 17)


TAG = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(TAG, max_size=3, unique=True), min_size=1, max_size=5), st.sampled_from([repr, json.dumps]))
def test_lists_are_read_as_python_reads_them(lists: list[list[str]], written: Any) -> None:
    cells = [written(tags) for tags in lists]
    tags = split_tags(cells, attributes=sorted({tag for tags in lists for tag in tags}) or None)
    assert rows(tags) == [set(ast.literal_eval(repr(row))) for row in lists]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("ab[]()'\"|;, \\/N\n", max_size=8), max_size=6),
    st.sampled_from([None, "|", " ", ";", ","]),
    st.sampled_from([None, ["a", "b"], ["a b"]]),
    st.sampled_from(["error", "ignore"]),
)
def test_any_column_gives_tags_or_problems(
    cells: list[str], separator: str | None, attributes: list[str] | None, other_tags: Any
) -> None:
    tags = split_tags(cells, separator=separator, attributes=attributes, other_tags=other_tags)
    assert tags.present.shape == (len(cells), len(tags.names))
    assert tags.missing.shape == (len(cells),)
    assert all(0 <= row < max(len(cells), 1) for row, _ in tags.problems)
