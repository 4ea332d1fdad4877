"""Long tables and COCO files: one record for each image and label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import problems, read, states

from aimonk_bench.config.fields import Values
from aimonk_bench.errors import UserError

LONG = "image,label\na.jpg,dog\na.jpg,cat\nb.jpg,\nc.jpg,dog\n"
LONG_NA = LONG.replace("b.jpg,", "b.jpg,NA")
VALUED = "image,label,value\na.jpg,cat,1\na.jpg,dog,0\nb.jpg,cat,NA\nc.jpg,dog,1.0\n"
CERTAIN = "image,label,value,sure\na.jpg,cat,1,4\na.jpg,dog,0,1\nb.jpg,cat,0,3\n"
WORDS = "image,label,value\na.jpg,cat,ja\na.jpg,dog,nein\nb.jpg,cat,fraglich\n"
TWICE = "image,label,value\na.jpg,cat,1\nb.jpg,dog,1\na.jpg,cat,0\na.jpg,cat,1.0\n"


@pytest.mark.parametrize(
    ("content", "options", "ids", "attributes", "expected"),
    [
        (LONG, {"absent": "negative"}, "abc", ["cat", "dog"], [[1, 1], [0, 0], [0, 1]]),
        (LONG, {"absent": "missing"}, "abc", ["cat", "dog"], [[1, 1], [None, None], [None, 1]]),
        (LONG_NA, {"absent": "negative"}, "abc", ["cat", "dog"], [[1, 1], [None, None], [0, 1]]),
        (LONG.replace(",", ";"), {"absent": "negative"}, "abc", ["cat", "dog"], [[1, 1], [0, 0], [0, 1]]),
        (
            LONG,
            {"absent": "negative", "attributes": ["dog"], "other_tags": "ignore"},
            "abc",
            ["dog"],
            [[1], [0], [1]],
        ),
        (VALUED, {"absent": "missing", "value": "value"}, "abc", ["cat", "dog"], [[1, 0], [None, None], [None, 1]]),
        (VALUED, {"absent": "negative", "value": "value"}, "abc", ["cat", "dog"], [[1, 0], [None, 0], [0, 1]]),
        (VALUED, {"absent": "negative", "ignore": ["value"]}, "abc", ["cat", "dog"], [[1, 1], [1, 0], [0, 1]]),
        (
            CERTAIN,
            {"absent": "negative", "value": "value", "certainty": {"column": "sure", "missing": ["1"]}},
            "ab",
            ["cat", "dog"],
            [[1, None], [0, 0]],
        ),
        (
            "label,source,file\ndog,x,a.jpg\ncat,x,b.jpg\n",
            {"absent": "negative", "id": "file", "tags": "label"},
            "ab",
            ["cat", "dog"],
            [[0, 1], [1, 0]],
        ),
        (
            TWICE,
            {"absent": "missing", "value": "value", "duplicates": "any_positive"},
            "ab",
            ["cat", "dog"],
            [[1, None], [None, 1]],
        ),
        (
            TWICE,
            {"absent": "negative", "value": "value", "duplicates": "agree_or_missing"},
            "ab",
            ["cat", "dog"],
            [[None, 0], [0, 1]],
        ),
    ],
)  # fmt: skip
def test_long_tables(
    tmp_path: Path, content: str, options: dict[str, Any], ids: str, attributes: list[str], expected: list[list[int]]
) -> None:
    loaded = read(tmp_path, content, "l.csv", importer="long_csv", **options)
    assert loaded.ids == tuple(f"{name}.jpg" for name in ids)
    assert list(loaded.labels.attributes) == attributes
    assert states(loaded.labels) == expected


def test_auto_asks_for_the_column_of_tags(tmp_path: Path) -> None:
    content = "a,b,c\n1.png,cat|dog,foo\n2.png,cat,bar\n"
    assert "(data.tags)" in problems(tmp_path, content, "l.csv", absent="negative")[0]
    assert "(data.tags) (did you mean b?)" in problems(tmp_path, content, "l.csv", absent="negative", tags="bb")[0]


@pytest.mark.parametrize(
    ("content", "options", "importer", "ids"),
    [
        (LONG, {}, "long_csv", ("a.jpg", "b.jpg", "c.jpg")),
        ("label,image\ndog,a.jpg\ncat,a.jpg\n", {}, "long_csv", ("a.jpg",)),
        (VALUED, {"value": "value"}, "long_csv", ("a.jpg", "b.jpg", "c.jpg")),
        (VALUED, {"ignore": ["value"]}, "long_csv", ("a.jpg", "b.jpg", "c.jpg")),
        ("image,label\na.jpg,dog\nb.jpg,cat\n", {}, "label_list", ("a.jpg", "b.jpg")),
        ("tags,image\ndog,a\ncat,b\n", {}, "label_list", ("a", "b")),
        ("image,tags\na.jpg,dog|cat\na.jpg,dog|cat\n", {}, "label_list", ("a.jpg",)),
        ("Id,Labels,fold\na.png,cat|dog,0\nb.png,No Finding,1\n", {}, "label_list", ("a.png", "b.png")),
        ("Id,b,c\na.png,cat|dog,x\nb.png,cat,y\n", {"tags": "b"}, "label_list", ("a.png", "b.png")),
        ("Id,Target\na,16 0\nb,0\nc,16\n", {}, "label_list", ("a", "b", "c")),
    ],
)
def test_auto_knows_long_tables_from_lists(
    tmp_path: Path, content: str, options: dict[str, Any], importer: str, ids: tuple[str, ...]
) -> None:
    loaded = read(tmp_path, content, "l.csv", absent="missing", **options)
    assert loaded.notes[0].startswith(f"importer: {importer} (auto: ")
    assert loaded.ids == ids


def test_rows_of_one_image_need_not_stand_together(tmp_path: Path) -> None:
    content = "image,label,patient\nb.jpg,x,1\na.jpg,y,2\nb.jpg,y,1\n"
    loaded = read(tmp_path, content, "l.csv", importer="long_csv", absent="negative", group="patient")
    assert loaded.ids == ("b.jpg", "a.jpg")
    assert loaded.lines.tolist() == [2, 3]
    assert loaded.groups == ("1", "2")
    assert states(loaded.labels) == [[1, 1], [0, 1]]


def test_ids_become_names_by_other_files(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("1 one/a.jpg\n2 two/b.jpg\n3 two/c.jpg\n")
    (tmp_path / "names.csv").write_text('LabelName,DisplayName\n/m/1,Tree\n/m/2,"Cat, wild"\n/m/3,Sky\n')
    options = {"image_names": tmp_path / "images.txt", "tag_names": tmp_path / "names.csv", "absent": "missing"}
    loaded = read(tmp_path, "image,label\n2,/m/2\n1,/m/1\n", "l.csv", importer="long_csv", **options)
    assert loaded.ids == ("two/b.jpg", "one/a.jpg")
    assert loaded.labels.attributes == ("Cat, wild", "Tree")
    assert states(loaded.labels) == [[1, None], [None, 1]]
    messages = problems(tmp_path, "image,label\n1,/m/1\n7,/m/9\n", "l.csv", importer="long_csv", **options)
    assert len(messages) == 2
    assert all(message.startswith("l.csv:3: ") for message in messages)
    assert "images.txt" in messages[0]
    assert "'7'" in messages[0]
    assert "'/m/9'" in messages[1]


def test_ids_of_one_name_are_one_attribute_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "names.csv").write_text("1,Tree\n2,Tree\n")
    options = {"tag_names": tmp_path / "names.csv", "absent": "missing"}
    loaded = read(tmp_path, "image,label\na.jpg,1\nb.jpg,2\n", "l.csv", importer="long_csv", **options)
    assert states(loaded.labels) == [[1], [1]]
    assert "'Tree'" in caplog.text


def test_lines_with_numbers_to_spare_are_one_problem(tmp_path: Path) -> None:
    """As in the published attributes of CUB."""
    content = "".join(f"{image} {label} 1 4 2.5\n" for image in range(1, 5) for label in range(1, 4))
    options = {"header": False, "tags": "attr1", "value": "attr2", "absent": "missing"}
    content = content.replace("2 1 1 4", "2 1 0 1 4 0").replace("3 2 1 4", "3 2 0 1 4 0")
    messages = problems(tmp_path, content, "l.txt", importer="long_csv", **options)
    assert len(messages) == 1
    assert messages[0].startswith("l.txt:4: ")
    assert "1 more line: line 8" in messages[0]


def test_a_certainty_that_no_row_has_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certainty = {"column": "sure", "missing": ["1.0", "9"]}
    read(tmp_path, CERTAIN, "l.csv", importer="long_csv", absent="missing", value="value", certainty=certainty)
    assert "data.certainty.missing: no row has '9' in column 'sure'" in caplog.text


@pytest.mark.parametrize(
    ("content", "line", "token"), [("1,a\n2\n1,b\n", 3, "'1'"), ("1\n2\n", 1, "one column"), ("", 1, "empty")]
)
def test_problems_of_a_file_of_names(tmp_path: Path, content: str, line: int, token: str) -> None:
    (tmp_path / "names.csv").write_text(content)
    options = {"tag_names": tmp_path / "names.csv", "absent": "missing"}
    messages = problems(tmp_path, "image,label\na.jpg,1\n", "l.csv", importer="long_csv", **options)
    assert messages[-1].startswith(f"names.csv:{line}: ")
    assert token in messages[-1]


@pytest.mark.parametrize(
    ("content", "options", "line", "tokens"),
    [
        (VALUED, {}, 1, ["'value'", 'value: "value"', 'ignore: ["value"]']),
        ("image,a,b\nx.jpg,u,v\n", {}, 1, ["image, a, b", "data.tags"]),
        (LONG, {"tags": "labels"}, 1, ["'labels'", "data.tags", "did you mean label?"]),
        (LONG, {"tags": "label", "value": "label"}, 1, ["'label'", "data.value", "data.tags"]),
        (LONG, {"certainty": {"column": "sure", "missing": ["1"]}}, 1, ["'sure'", "data.certainty.column"]),
        (LONG + "d.jpg,nan\n", {}, 6, ["'nan' (1 row)", '`values: {missing: ["", "NA", "nan"]}`']),
        (LONG, {"attributes": ["cat", "dgo"]}, 2, ["'dog' (2 rows)", "did you mean dgo?", "`other_tags: ignore`"]),
        (VALUED, {"value": "value", "values": Values(missing=[])}, 4, ["'NA'", "cat"]),
        (WORDS, {"value": "value", "absent": "negative"}, 2, ['negative: ["0", "nein"]', "'fraglich' missing (cat"]),
        (TWICE, {"value": "value"}, 4, ["a.jpg", "line 2", "cat is negative, there positive", "duplicates"]),
        ("image,label,g\na.jpg,x,1\na.jpg,y,2\n", {"group": "g"}, 3, ["a.jpg", "'2'"]),
    ],
)  # fmt: skip
def test_problems_of_long_tables(
    tmp_path: Path, content: str, options: dict[str, Any], line: int, tokens: list[str]
) -> None:
    messages = problems(tmp_path, content, "l.csv", importer="long_csv", **{"absent": "missing", **options})
    assert messages[0].startswith(f"l.csv:{line}: ")
    assert [token for token in tokens if token not in messages[0]] == [], messages


def coco(**changes: Any) -> str:
    document = {
        "info": {"year": 2017},
        "images": [
            {"id": 5, "file_name": "a.jpg", "height": 2, "scene": "s"},
            {"id": 3, "file_name": "b.jpg", "scene": "t"},
            {"id": 9, "file_name": "c.jpg", "scene": "s"},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 18, "bbox": [0, 0, 1, 1], "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 18, "segmentation": {"counts": "x"}},
            {"id": 3, "image_id": 5, "category_id": 17},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}, {"id": 90, "name": "toothbrush"}],
    }
    return json.dumps(document | changes)


@pytest.mark.parametrize(
    ("options", "attributes", "expected"),
    [
        ({"absent": "negative"}, ["cat", "dog", "toothbrush"], [[1, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ({"absent": "missing"}, ["cat", "dog", "toothbrush"], [[1, None, None], [None, 1, None], [None, None, None]]),
        ({"absent": "negative", "attributes": ["dog"], "other_tags": "ignore"}, ["dog"], [[0], [1], [0]]),
    ],
)
@pytest.mark.parametrize("importer", ["auto", "coco"])
def test_coco(tmp_path: Path, importer: str, options: dict[str, Any], attributes: list[str], expected: Any) -> None:
    loaded = read(tmp_path, coco(), "instances.json", importer=importer, **options)
    assert loaded.ids == ("a.jpg", "b.jpg", "c.jpg")
    assert list(loaded.labels.attributes) == attributes
    assert states(loaded.labels) == expected


def test_a_key_of_the_images_of_coco_is_the_group(tmp_path: Path) -> None:
    loaded = read(tmp_path, coco(), "instances.json", absent="negative", group="scene")
    assert loaded.groups == ("s", "t", "s")
    loaded = read(tmp_path, coco().replace('"t"', "null"), "instances.json", absent="negative", group="scene")
    assert loaded.groups == ("s", None, "s")


@pytest.mark.parametrize(
    ("content", "options", "line", "tokens"),
    [
        ('{"images": [],\n"annotations": [}', {}, 2, ["no JSON", "column 17"]),
        ("[1]", {}, 1, ["list", "images, annotations, categories"]),
        (coco(categories=None), {}, 1, ["images, annotations, categories"]),
        (coco(images=[{"id": 5}, {"id": 3, "file_name": "b.jpg"}]), {}, 1, ["images[0]", "'file_name'", "1 of 2"]),
        (coco(images=[{"id": 3, "file_name": "b.jpg"}]), {}, 1, ["annotations[2]", "image_id 5", "1 of 3"]),
        (coco(categories=[{"id": 17, "name": "cat"}]), {}, 1, ["annotations[0]", "category_id 18", "2 of 3"]),
        (coco(categories=[{"id": 17, "name": "cat"}, {"id": 18, "name": "cat"}]), {}, 1, ["categories[1]", "'cat'"]),
        (coco(annotations=[{"image_id": 3}]), {}, 1, ["annotations[0]", "'category_id'"]),
        (coco(), {"attributes": ["dog"]}, 1, ["'cat'", "`other_tags: ignore`"]),
        (coco(), {"group": "patient"}, 1, ["no image has", "'patient'"]),
    ],
)
def test_problems_of_coco(tmp_path: Path, content: str, options: dict[str, Any], line: int, tokens: list[str]) -> None:
    messages = problems(tmp_path, content, "i.json", importer="coco", absent="negative", **options)
    assert messages[0].startswith(f"i.json:{line}: ")
    assert [token for token in tokens if token not in messages[0]] == [], messages


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("annotations")


RECORD = st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.sampled_from(["1", "0", "1.0", "NA"]))


@settings(max_examples=100, deadline=None)
@given(
    records=st.lists(RECORD, min_size=1, max_size=12),
    absent=st.sampled_from(["negative", "missing"]),
    policy=st.sampled_from(["any_positive", "agree_or_missing"]),
)
def test_any_order_and_any_repetition_of_records(
    records: list[tuple[str, str, str]], absent: str, policy: str, scratch: Path
) -> None:
    """Against plain sets: what all records of an image and a label say."""
    tokens: dict[tuple[str, str], set[int]] = {}
    for image, label, token in records:
        tokens.setdefault((image, label), set()).update({"1": {1}, "1.0": {1}, "0": {0}, "NA": set()}[token])

    def state(image: str, label: str) -> int | None:
        if (image, label) not in tokens:
            return 0 if absent == "negative" else None
        said = tokens[image, label]
        return max(said) if said and (policy == "any_positive" or len(said) == 1) else None

    names = [*dict.fromkeys(image for image, _, _ in records)]
    labels = sorted({label for _, label, _ in records})
    expected = [[state(image, label) for label in labels] for image in names]
    content = "image,label,value\n" + "".join(f"{','.join(record)}\n" for record in records)
    options: dict[str, Any] = {"importer": "long_csv", "absent": absent, "value": "value", "duplicates": policy}
    if all(cell is None for row in expected for cell in row):
        with pytest.raises(UserError):
            read(scratch, content, "l.csv", **options)
        return
    loaded = read(scratch, content, "l.csv", **options)
    assert loaded.ids == tuple(names)
    assert list(loaded.labels.attributes) == labels
    assert states(loaded.labels) == expected


ITEM = st.dictionaries(
    st.sampled_from(["id", "file_name", "name", "image_id", "category_id"]),
    st.one_of(st.integers(0, 2), st.none(), st.sampled_from("ab"), st.lists(st.integers(), max_size=1)),
)


@settings(max_examples=150, deadline=None)
@given(document=st.dictionaries(st.sampled_from(["images", "annotations", "categories"]), st.lists(ITEM, max_size=3)))
def test_any_json_of_coco_gives_labels_or_a_user_error(document: dict[str, Any], scratch: Path) -> None:
    try:
        loaded = read(scratch, json.dumps(document), "i.json", importer="coco", absent="missing")
    except UserError as error:
        elsewhere = [problem for problem in error.problems if not problem.startswith(f"{scratch / 'i.json'}:1: ")]
        assert elsewhere == []
    else:
        assert loaded.labels.observed.any()
