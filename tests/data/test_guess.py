"""What `init` guesses about small label files: every shape that a user may come with, and the labels that follow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import states

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data import label_file
from aimonk_bench.data.draft import Guess
from aimonk_bench.data.guess import guess
from aimonk_bench.errors import UserError

EXAMPLES = 2000 if os.environ.get("AIMONK_BENCH_FULL") else 100
A_TO_F = [f"{letter}.png" for letter in "abcdef"]


@dataclass(frozen=True)
class Case:
    """A label file, and what is right about it.

    Attributes:
        data: keys of `data` that are guessed, all of them but ``importer``.
        expected: attribute -> [N] state, in the order of the file.
        split: key -> value; empty for the default.
        doubts: keys about which something is doubtful, beside those that say that six images are few.
    """

    content: str | bytes
    importer: str
    data: dict[str, Any]
    expected: dict[str, list[int | None]]
    name: str = "labels.csv"
    files: list[str] = field(default_factory=lambda: A_TO_F)
    split: dict[str, Any] = field(default_factory=dict)
    doubts: set[str] = field(default_factory=set)


def write_images(folder: Path, names: Iterable[str]) -> Path:
    for number, name in enumerate(names):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((4, 4, 3), number, np.uint8))
    return folder / "images"


def guessed(folder: Path, content: str | bytes, name: str = "labels.csv", files: Iterable[str] = A_TO_F) -> Guess:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return guess(path, write_images(folder, files))


def rows(header: str, *tails: str, names: Iterable[str] = A_TO_F, separator: str = ",") -> str:
    """A header, and a row for each image."""
    lines = [header] if header else []
    return "\n".join([*lines, *(f"{name}{separator}{tail}" for name, tail in zip(names, tails, strict=False))]) + "\n"


TAGS = [["x"], ["z"], ["x", "y"], ["y", "z"], ["x"], ["z"]]
X, Y = [1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 0, None]
XY = {"x": X, "y": Y}
PAIRS = ["1,0", "0,0", "1,1", "0,1", "1,0", "0,NA"]
GERMAN = [("ja", "nein", "train"), ("nein", "nein", "train"), ("ja", "ja", "val")]
GERMAN += [("nein", "ja", "val"), ("ja", "nein", "test"), ("nein", "", "test")]

CASES = {
    "a header, 1, 0 and NA": Case(rows("image,x,y", *PAIRS), "wide_csv", {}, XY),
    "semicolons": Case(rows("image;x;y", *(p.replace(",", ";") for p in PAIRS), separator=";"), "wide_csv", {}, XY),
    "bars": Case(
        rows("image|x|y", *(p.replace(",", "|") for p in PAIRS), separator="|"), "wide_csv", {"separator": "|"}, XY
    ),
    "no header": Case(
        rows("", *PAIRS), "wide_csv", {"header": False}, {"attr1": X, "attr2": Y}, doubts={"data.header"}
    ),
    "white space, no header": Case(
        rows("", *(p.replace(",", " ") for p in PAIRS), separator=" "),
        "labels_txt",
        {},
        {"attr1": X, "attr2": Y},
        name="labels.txt",
    ),
    "words": Case(
        rows("image,x,y", "yes,no", "no,no", "yes,yes", "no,yes", "yes,no", "no,unknown"),
        "wide_csv",
        {"values": {"positive": ["yes"], "negative": ["no"], "missing": ["unknown", "NA", ""]}},
        XY,
    ),
    "words of another language, a name with a comma": Case(
        rows(
            'Datei;Patient;Kratzer;"Riss, fein";Alter;Split',
            *(f"P{n};{x};{y};{30 + n};{s}" for n, (x, y, s) in enumerate(GERMAN)),
            separator=";",
        ),
        "wide_csv",
        {
            "attributes": ["Kratzer", "Riss, fein"],
            "values": {"positive": ["ja"], "negative": ["nein"], "missing": ["", "NA"]},
        },
        {"Kratzer": X, "Riss, fein": Y},
        split={"scheme": "column", "column": "Split", "train": ["train"], "val": ["val"], "test": ["test"]},
        doubts={"split"},
    ),
    "two unknown words": Case(
        rows("image,seam", "defekt", "ganz", "ganz", "ganz", "defekt", "unklar"),
        "wide_csv",
        {"values": {"positive": ["defekt"], "negative": ["ganz"], "missing": ["unklar", "NA", ""]}},
        {"seam": [1, 0, 0, 0, 1, None]},
        doubts={"data.values"},
    ),
    "columns that share a few unknown words": Case(
        rows("image,x,y", "kein,kein", "leicht,kein", "kein,kein", "kein,schwer", "leicht,kein", "schwer,leicht"),
        "wide_csv",
        {"values": {"positive": ["leicht", "schwer"], "negative": ["kein"], "missing": ["NA", ""]}},
        {"x": [0, 1, 0, 0, 1, 1], "y": [0, 0, 0, 1, 0, 1]},
        doubts={"data.values"},
    ),
    "a column of words beside columns of labels is left out": Case(
        rows("image,x,side", "1,L", "0,R", "1,L", "0,R", "1,L", "0,R"),
        "wide_csv",
        {"attributes": ["x"]},
        {"x": X},
        doubts={"data.attributes"},
    ),
    "true and false": Case(
        rows("image,x,y", "True,False", "False,False", "True,True", "False,True", "True,False", "False,"),
        "wide_csv",
        {"values": {"positive": ["True"], "negative": ["False"], "missing": ["", "NA"]}},
        XY,
    ),
    "numbers with a point, written by pandas": Case(
        rows("image,x,y", "1.0,0", "0.0,0", "1.0,1", "0.0,1", "1.0,0", "0.0,"), "wide_csv", {}, XY
    ),
    "1 and -1 are positive and negative": Case(
        rows("image,x,y", "1,-1", "-1,-1", "1,1", "-1,1", "1,-1", "-1,NA"),
        "wide_csv",
        {"values": {"positive": ["1"], "negative": ["-1"], "missing": ["NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "-1 beside 0 is uncertain": Case(
        rows("image,x,y", "1,0", "0,0", "1,1", "0,1", "1,0", "0,-1"),
        "wide_csv",
        {"values": {"positive": ["1"], "negative": ["0"], "missing": ["-1", "NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "a code for not known": Case(
        rows("image,x,y", "1,0", "0,0", "1,1", "0,1", "1,0", "0,9"),
        "wide_csv",
        {"values": {"positive": ["1"], "negative": ["0"], "missing": ["9", "NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "plus and minus": Case(
        rows("image,x,y", "+,-", "-,-", "+,+", "-,+", "+,-", "-,"),
        "wide_csv",
        {"values": {"positive": ["+"], "negative": ["-"], "missing": ["", "NA"]}},
        XY,
    ),
    "plus and minus, and a word": Case(
        rows("image,x,y", "+,-", "-,-", "+,+", "-,+", "+,-", "-,nd"),
        "wide_csv",
        {"values": {"positive": ["+"], "negative": ["-"], "missing": ["nd", "NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "crosses and dashes": Case(
        rows("image,x,y", "x,-", "-,-", "x,x", "-,x", "x,-", "-,"),
        "wide_csv",
        {"values": {"positive": ["x"], "negative": ["-"], "missing": ["", "NA"]}},
        XY,
        doubts={"data.values"},
    ),
    "a cross beside 1 and 0": Case(
        rows("image,x,y", "1,0", "0,0", "1,1", "0,1", "1,0", "0,X"),
        "wide_csv",
        {"values": {"positive": ["1"], "negative": ["0"], "missing": ["X", "NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "-1 in one column, 0 in another": Case(
        rows("image,x,y", "1,0", "-1,0", "1,1", "-1,1", "1,0", "-1,"),
        "wide_csv",
        {"values": {"positive": ["1"], "negative": ["0", "-1"], "missing": ["", "NA"]}},
        XY,
        doubts={"data.values"},
    ),
    "the 0 and 255 of a mask": Case(
        rows("image,x,y", "255,0", "0,0", "255,255", "0,255", "255,0", "0,NA"),
        "wide_csv",
        {"values": {"positive": ["255"], "negative": ["0"], "missing": ["NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "counts": Case(
        rows("image,x,y", "1,0", "0,0", "2,5", "0,4", "2,0", "0,NA"),
        "wide_csv",
        {"values": {"positive": ["1", "2", "5", "4"], "negative": ["0"], "missing": ["NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "words of which one means not known": Case(
        rows("image,x", "abnormal", "normal", "abnormal", "normal", "abnormal", "not assessed"),
        "wide_csv",
        {"values": {"positive": ["abnormal"], "negative": ["normal"], "missing": ["not assessed", "NA", ""]}},
        {"x": [1, 0, 1, 0, 1, None]},
        doubts={"data.values"},
    ),
    "letters of which one means not known": Case(
        rows("image,x,y", "P,N", "N,N", "P,P", "N,P", "P,N", "N,U"),
        "wide_csv",
        {"values": {"positive": ["P"], "negative": ["N"], "missing": ["U", "NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "a word beside yes and no": Case(
        rows("image,x,y", "yes,no", "no,no", "yes,yes", "no,yes", "yes,no", "no,maybe"),
        "wide_csv",
        {"values": {"positive": ["yes"], "negative": ["no"], "missing": ["maybe", "NA", ""]}},
        XY,
        doubts={"data.values"},
    ),
    "crosses": Case(
        rows("image,x,y", "x,", ",", "x,x", ",x", "x,", ",?"),
        "wide_csv",
        {"values": {"positive": ["x"], "negative": [""], "missing": ["?", "NA"]}},
        XY,
        doubts={"data.values"},
    ),
    "columns that are no labels": Case(
        rows("image,age,width,sex,x,y", *(f"{60 + n},{n},{'MF'[n % 2]},{p}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {"attributes": ["x", "y"]},
        XY,
    ),
    "a column whose name is odd, a soft one and one with two words": Case(
        rows(
            "image,is_valid_image,index,p,tone,x,y",
            *(f"{n % 2},{n % 2},0.{n + 1},{('warm', 'cold')[n % 2]},{p}" for n, p in enumerate(PAIRS)),
        ),
        "wide_csv",
        {"attributes": ["is_valid_image", "x", "y"]},
        {"is_valid_image": [0, 1, 0, 1, 0, 1], **XY},
        doubts={"data.attributes"},
    ),
    "without a header, with a column of numbers": Case(
        rows("", *(f"{p},{n + 20}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {"header": False, "ignore": ["attr3"]},
        {"attr1": X, "attr2": Y},
        doubts={"data.header"},
    ),
    "the id is no first column": Case(
        "".join(f"{row}\n" for row in ["x,y,file", *(f"{p},{n}" for p, n in zip(PAIRS, A_TO_F, strict=True))]),
        "wide_csv",
        {"id": "file"},
        XY,
    ),
    "ids without suffix": Case(rows("id,x,y", *PAIRS, names="abcdef"), "wide_csv", {"suffix": ".png"}, XY),
    "names with another suffix": Case(
        rows("id,x,y", *PAIRS, names=[f"{letter}.dcm" for letter in "abcdef"]),
        "wide_csv",
        {"suffix": ".png"},
        XY,
        doubts={"data.suffix"},
    ),
    "names with other suffixes in other folders": Case(
        rows("id,x,y", *PAIRS, names=[f"old/{n}.{'jpg' if n % 2 else 'tif'}" for n in range(6)]),
        "wide_csv",
        {"suffix": ".png"},
        XY,
        files=[f"new/{n}.png" for n in range(6)],
        doubts={"data.suffix"},
    ),
    "ids that are numbers": Case(
        rows("id,x,y", *PAIRS, names="012345"),
        "wide_csv",
        {"suffix": ".jpg"},
        XY,
        files=[f"{number}.jpg" for number in range(6)],
    ),
    "images in a folder below": Case(
        rows("image,x,y", *PAIRS), "wide_csv", {}, XY, files=[f"deep/{name}" for name in A_TO_F]
    ),
    "patients": Case(
        rows("image,patient_id,x,y", *(f"{n // 2 + 10},{p}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {"group": "patient_id"},
        XY,
        doubts={"data.group"},
    ),
    "a patient who stands in one of two rows of an image": Case(
        rows("image,patient_id,x,y", *(f"{n // 2 + 10},{p}" for n, p in enumerate(PAIRS))) + "a.png,NA,1,0\n",
        "wide_csv",
        {"group": "patient_id"},
        XY,
        doubts={"data.group"},
    ),
    "an official split": Case(
        rows(
            "image,x,y,split",
            *(f"{p},{s}" for p, s in zip(PAIRS, ["train"] * 3 + ["val", "test", "test"], strict=True)),
        ),
        "wide_csv",
        {},
        XY,
        split={"scheme": "column", "column": "split", "train": ["train"], "val": ["val"], "test": ["test"]},
        doubts={"split"},
    ),
    "an official split in numbers": Case(
        rows("image,x,y,partition", *(f"{p},{s}" for p, s in zip(PAIRS, "000122", strict=True))),
        "wide_csv",
        {},
        XY,
        split={"scheme": "column", "column": "partition", "train": ["0"], "val": ["1"], "test": ["2"]},
        doubts={"split"},
    ),
    "images that are not there": Case(
        rows("image,x,y", *PAIRS),
        "wide_csv",
        {"on_bad_image": "skip"},
        XY,
        files=A_TO_F[:5],
        doubts={"data.on_bad_image"},
    ),
    "raters that disagree": Case(
        rows("image,rater,x,y", *(f"{r},{p}" for r in "pq" for p in PAIRS), names=A_TO_F * 2)
        + "a.png,r,0,1\na.png,s,1,1\n",
        "wide_csv",
        {"attributes": ["x", "y"], "duplicates": "agree_or_missing"},
        {"x": [None, *X[1:]], "y": [None, *Y[1:]]},
        doubts={"data.duplicates"},
    ),
    "one attribute in each row": Case(
        rows("image,x,y", *PAIRS).replace("c.png,1,1", "c.png,1,0\nc.png,0,1"),
        "wide_csv",
        {"duplicates": "any_positive"},
        XY,
        doubts={"data.duplicates"},
    ),
    "cp1252": Case(
        rows("image,Größe,y", *PAIRS).encode("cp1252"),
        "wide_csv",
        {"encoding": "cp1252"},
        {"Größe": X, "y": Y},
        doubts={"data.encoding"},
    ),
    "utf-16": Case(rows("image,x,y", *PAIRS).encode("utf-16"), "wide_csv", {}, XY),
    "tags": Case(
        rows("image,tags", "x", "z", "x|y", "y|z", "x", "z"),
        "label_list",
        {"tags": "tags", "tag_separator": "|", "absent": "negative"},
        {"x": X, "y": [0, 0, 1, 1, 0, 0], "z": [0, 1, 0, 1, 0, 1]},
        doubts={"data.absent", "data.tag_separator"},
    ),
    "tags between full-width commas": Case(
        rows("image,tags", "x", "z", "x，y", "y、z", "x", "z"),
        "label_list",
        {"tags": "tags", "tag_separator": ",", "absent": "negative"},
        {"x": X, "y": [0, 0, 1, 1, 0, 0], "z": [0, 1, 0, 1, 0, 1]},
        doubts={"data.absent", "data.tag_separator"},
    ),
    "tags between slashes": Case(
        rows("image,tags", "x", "z", "x/y", "y/z", "x", "z"),
        "label_list",
        {"tags": "tags", "tag_separator": "/", "absent": "negative"},
        {"x": X, "y": [0, 0, 1, 1, 0, 0], "z": [0, 1, 0, 1, 0, 1]},
        doubts={"data.absent", "data.tag_separator"},
    ),
    "tags between dashes": Case(
        rows("image,tags", "x", "z", "x - y", "y - z", "x", "z"),
        "label_list",
        {"tags": "tags", "tag_separator": " - ", "absent": "negative"},
        {"x": X, "y": [0, 0, 1, 1, 0, 0], "z": [0, 1, 0, 1, 0, 1]},
        doubts={"data.absent", "data.tag_separator"},
    ),
    "tags with blanks, and a word for none": Case(
        rows("image,finding", "Big Mass", "No Finding", "Big Mass", "No Finding", "Big Mass", "Effusion"),
        "label_list",
        {
            "tags": "finding",
            "tag_separator": "|",
            "absent": "negative",
            "attributes": ["Big Mass", "Effusion"],
            "other_tags": "ignore",
        },
        {"Big Mass": X, "Effusion": [0, 0, 0, 0, 0, 1]},
        doubts={"data.absent", "data.tag_separator", "data.attributes"},
    ),
    "tags between blanks": Case(
        rows("image,tags", "x", "z", "x y", "y z", "x", "z"),
        "label_list",
        {"tags": "tags", "tag_separator": " ", "absent": "negative"},
        {"x": X, "y": [0, 0, 1, 1, 0, 0], "z": [0, 1, 0, 1, 0, 1]},
        doubts={"data.absent", "data.tag_separator"},
    ),
    "lists, and images of which nothing is known": Case(
        rows("image,tags", "['x']", "[]", "\"['x', 'y']\"", "['y']", "['x']", "unknown"),
        "label_list",
        {"tags": "tags", "absent": "negative", "values": {"missing": ["NA", "", "unknown"]}},
        {"x": [1, 0, 1, 0, 1, None], "y": [0, 0, 1, 1, 0, None]},
        doubts={"data.absent", "data.values"},
    ),
    "classes": Case(
        rows("image,label", "cat", "dog", "cat", "dog", "cat", "dog"),
        "label_list",
        {"tags": "label", "absent": "negative"},
        {"cat": X, "dog": [0, 1, 0, 1, 0, 1]},
        doubts={"data.absent"},
    ),
    "a row for each label": Case(
        "file,class\n"
        + "".join(
            f"{name},{tag}\n"
            for name, tags in zip(A_TO_F, ["xy", "z", "xz", "y", "x", "z"], strict=True)
            for tag in tags
        ),
        "long_csv",
        {"tags": "class", "absent": "negative"},
        {"x": X, "y": [1, 0, 0, 1, 0, 0], "z": [0, 1, 1, 0, 0, 1]},
        doubts={"data.absent"},
    ),
    "a row for each label, with its value": Case(
        "file,attribute,present\n"
        + "".join(
            f"{name},{a},{v}\n"
            for name, x, y in zip(A_TO_F, X, Y, strict=True)
            for a, v in (("cat", x), ("dog", y))
            if v is not None
        ),
        "long_csv",
        {"tags": "attribute", "value": "present", "absent": "missing"},
        {"cat": X, "dog": Y},
        doubts={"data.absent", "data.value"},
    ),
    "a row for each label, with plus and minus": Case(
        "file,attribute,result\n"
        + "".join(
            f"{name},{a},{'-+'[v]}\n"
            for name, x, y in zip(A_TO_F, X, Y, strict=True)
            for a, v in (("cat", x), ("dog", y))
            if v is not None
        ),
        "long_csv",
        {
            "tags": "attribute",
            "value": "result",
            "absent": "missing",
            "values": {"positive": ["+"], "negative": ["-"], "missing": ["NA", ""]},
        },
        {"cat": X, "dog": Y},
        doubts={"data.absent", "data.value"},
    ),
    "flat JSON lines": Case(
        "".join(
            f'{{"file_name": "{n}", "x": {x}, "y": {"null" if y is None else y}}}\n'
            for n, x, y in zip(A_TO_F, X, Y, strict=True)
        ),
        "wide_csv",
        {},
        XY,
        name="metadata.jsonl",
    ),
    "nested JSON lines": Case(
        "".join(
            json.dumps({"image": name, "labels": {"x": "yes" if x else "no", "y": None if y is None else bool(y)}})
            + "\n"
            for name, x, y in zip(A_TO_F, X, Y, strict=True)
        ),
        "jsonl",
        {"values": {"positive": ["yes", "1"], "negative": ["no", "0"], "missing": ["NA", ""]}},
        XY,
        name="labels.jsonl",
    ),
    "JSON lines with lists of tags in a file called .txt": Case(
        "".join(f'{{"image": "{n}", "labels": {json.dumps(t)}}}\n' for n, t in zip(A_TO_F, TAGS, strict=True)),
        "label_list",
        {"tags": "labels", "absent": "negative"},
        {"x": X, "y": [0, 0, 1, 1, 0, 0], "z": [0, 1, 0, 1, 0, 1]},
        name="labels.txt",
        doubts={"data.absent"},
    ),
    "names and tags between blanks": Case(
        "".join(f"{n} {' '.join(t)}\n" for n, t in zip(A_TO_F, TAGS, strict=True)),
        "label_list",
        {"header": False, "tags": "attr1", "tag_separator": " ", "absent": "negative"},
        {"x": X, "y": [0, 0, 1, 1, 0, 0], "z": [0, 1, 0, 1, 0, 1]},
        name="labels.txt",
        doubts={"data.absent", "data.header", "data.tag_separator"},
    ),
    "names and tags between blanks, no two rows alike": Case(
        rows("", "x y", "z", "x y z", "y z", "x", "y", separator=" "),
        "label_list",
        {"header": False, "tags": "attr1", "tag_separator": " ", "absent": "negative"},
        {"x": X, "y": [1, 0, 1, 1, 0, 1], "z": [0, 1, 1, 1, 0, 0]},
        name="labels.txt",
        doubts={"data.absent", "data.header", "data.tag_separator"},
    ),
    "names and tags between commas": Case(
        "image,tags\n" + "".join(f"{n},{','.join(t)}\n" for n, t in zip(A_TO_F, TAGS, strict=True)),
        "label_list",
        {"tags": "tags", "tag_separator": ",", "absent": "negative"},
        {"x": X, "y": [0, 0, 1, 1, 0, 0], "z": [0, 1, 0, 1, 0, 1]},
        doubts={"data.absent", "data.tag_separator"},
    ),
    "tags in several columns": Case(
        rows("image,tag1,tag2", *(f"{t[0]},{t[1] if t[1:] else ''}" for t in TAGS)),
        "label_list",
        {"tags": "tag1", "absent": "negative"},
        {"x": X, "y": [0, 0, 0, 1, 0, 0], "z": [0, 1, 0, 0, 0, 1]},
        doubts={"data.absent", "data.tags"},
    ),
    "an index column of pandas": Case(
        ",image,x,y\n" + "".join(f"{n},{name},{p}\n" for n, (name, p) in enumerate(zip(A_TO_F, PAIRS, strict=True))),
        "wide_csv",
        {},
        XY,
    ),
    "boxes": Case(
        "filename,width,height,class,xmin\n"
        + "".join(
            f"{name},640,480,{tag},{n}\n"
            for name, tags in zip(A_TO_F, ["x", "z"] * 3, strict=True)
            for tag in tags
            for n in range(3)
        ),
        "label_list",
        {"tags": "class", "absent": "negative"},
        {"x": X, "z": [1 - x for x in X]},
        doubts={"data.absent"},
    ),
    "classes that are numbers": Case(
        rows("id_code,diagnosis", *"024024"),
        "label_list",
        {"tags": "diagnosis", "absent": "negative"},
        {"0": [1, 0, 0, 1, 0, 0], "2": [0, 1, 0, 0, 1, 0], "4": [0, 0, 1, 0, 0, 1]},
        doubts={"data.absent"},
    ),
    "labels beside a column of lists": Case(
        rows("Id,Genre,x,y", *(f"\"['x', 'y']\",{p}" for p in PAIRS)),
        "wide_csv",
        {"attributes": ["x", "y"]},
        XY,
        doubts={"data.attributes"},
    ),
    "folds": Case(
        rows("image,fold,x,y", *(f"{n % 5},{p}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {"attributes": ["x", "y"]},
        XY,
        doubts={"split"},
    ),
    "training and validation images": Case(
        rows("image,x,y,is_valid", *(f"{p},{n > 3}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {},
        XY,
        split={"scheme": "column", "column": "is_valid", "train": ["False"], "val": 0.15, "test": ["True"]},
        doubts={"split", "split.test"},
    ),
    "a column called train": Case(
        rows("image,train,x,y", *(f"{int(n < 4)},{p}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {},
        XY,
        split={"scheme": "column", "column": "train", "train": ["1"], "val": 0.15, "test": ["0"]},
        doubts={"split"},
    ),
    "a column called holdout": Case(
        rows("image,x,y,Hold out", *(f"{p},{'no' if n < 4 else 'yes'}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {},
        XY,
        split={"scheme": "column", "column": "Hold out", "train": ["no"], "val": 0.15, "test": ["yes"]},
        doubts={"split"},
    ),
    "trains, which few images show": Case(
        rows("image,train,x,y", *(f"{int(n == 4)},{p}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {"attributes": ["x", "y"]},
        XY,
        doubts={"data.attributes", "split"},
    ),
    "single quotes": Case(
        rows("'image','x','y'", *(f"'{p[0]}','{p[2:]}'" for p in PAIRS), names=[f"'{name}'" for name in A_TO_F]),
        "wide_csv",
        {},
        XY,
    ),
    "no token means no": Case(
        rows("image,x", "1", "NA", "1", "NA", "1", "NA"),
        "wide_csv",
        {},
        {"x": [1, None] * 3},
        doubts={"data.values"},
    ),
    "two usual separators": Case(
        rows("image,tags", '"x, y|z"', "z", '"x, y"', "z", '"x, y"', "z"),
        "label_list",
        {"tags": "tags", "tag_separator": "|", "absent": "negative"},
        {"x, y": X, "z": [1, 1, 0, 1, 0, 1]},
        doubts={"data.absent", "data.tag_separator"},
    ),
    "an attribute that cannot be one": Case(
        rows("image,x,macro", *PAIRS), "wide_csv", {"attributes": ["x"]}, {"x": X}, doubts={"data.attributes"}
    ),
    "paths of another machine": Case(
        rows("image,x,y", *PAIRS, names=[f"C:\\data\\images\\{name}" for name in A_TO_F]), "wide_csv", {}, XY
    ),
    "names of attributes that begin as other columns do": Case(
        rows("image,AgeOver60,image_blurred", *PAIRS), "wide_csv", {}, {"AgeOver60": X, "image_blurred": Y}
    ),
    "classes in a column that could be a group": Case(
        rows("image,animal_id", *("cat", "dog", "bird") * 2),
        "label_list",
        {"tags": "animal_id", "absent": "negative"},
        {"bird": [0, 0, 1] * 2, "cat": [1, 0, 0] * 2, "dog": [0, 1, 0] * 2},
        doubts={"data.absent"},
    ),
    "a column with too few values for a group": Case(
        rows("image,hospital_id,x,y", *(f"{'AB'[n % 2]},{p}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {"attributes": ["x", "y"]},
        XY,
        doubts={"data.group"},
    ),
    "stems that several images share": Case(
        rows("image,x,y", *PAIRS, names=[f"s{n // 2}_{n % 2}.png" for n in range(6)]),
        "wide_csv",
        {},
        XY,
        files=[f"s{n // 2}_{n % 2}.png" for n in range(6)],
        doubts={"data.group"},
    ),
    "videos in the names of folders": Case(
        rows(
            "",
            *(p.replace(",", " ") for p in PAIRS),
            names=[f"video{n // 2}_a/{n}.png" for n in range(6)],
            separator=" ",
        ),
        "labels_txt",
        {"group": {"regex": r"(video\d+)[^/]*/"}},
        {"attr1": X, "attr2": Y},
        name="labels.txt",
        files=[f"video{n // 2}_a/{n}.png" for n in range(6)],
        doubts={"data.group"},
    ),
    "files of one stem with several suffixes": Case(
        rows("id,x,y", *PAIRS, names="abcdef"),
        "wide_csv",
        {"suffix": ".png"},
        XY,
        files=[*A_TO_F, "a.jpg", "b.jpg"],
    ),
    "captions beside labels": Case(
        rows("image,caption,x,y", *(f'"seen on day {n}, by me alone",{p}' for n, p in enumerate(PAIRS))),
        "wide_csv",
        {"attributes": ["x", "y"]},
        XY,
        doubts={"data.attributes"},
    ),
    "boxes that may be difficult": Case(
        "filename,class,difficult,occluded\n"
        + "".join(f"{name},{tag},{n},{1 - n}\n" for name in A_TO_F for tag in ("cat", "dog", "cat") for n in (0, 1)),
        "long_csv",
        {"tags": "class", "absent": "negative", "ignore": ["difficult", "occluded"]},
        {"cat": [1] * 6, "dog": [1] * 6},
        doubts={"data.absent", "data.attributes"},
    ),
    "readers that disagree about one attribute": Case(
        rows("image,reader,x", *(f"{r},{int(x and r == 'p')}" for r in "pq" for x in X), names=A_TO_F * 2),
        "wide_csv",
        {"attributes": ["x"], "duplicates": "agree_or_missing"},
        {"x": [None if x else 0 for x in X]},
        doubts={"data.duplicates"},
    ),
    "utf-16 without a mark": Case(
        rows("image,x,y", *PAIRS).encode("utf-16-le"),
        "wide_csv",
        {"encoding": "utf-16-le"},
        XY,
        doubts={"data.encoding"},
    ),
    "an official split whose test images are not there": Case(
        rows("image,x,y,split", *(f"{p},{'test' if n == 5 else 'train'}" for n, p in enumerate(PAIRS))),
        "wide_csv",
        {"on_bad_image": "skip", "ignore": ["split"]},
        XY,
        files=A_TO_F[:5],
        doubts={"data.on_bad_image", "split"},
    ),
    "files of another suffix": Case(
        rows("id,x,y", *PAIRS, names=[f"{letter}.dcm" for letter in "abcdef"]),
        "wide_csv",
        {"suffix": ".png"},
        XY,
        doubts={"data.suffix"},
    ),
    "an official split without some images": Case(
        rows(
            "image,x,y,split", *(f"{p},{s}" for p, s in zip(PAIRS, [*["train"] * 3, "NA", "val", "test"], strict=True))
        ),
        "wide_csv",
        {},
        XY,
        split={"scheme": "column", "column": "split", "train": ["train"], "val": ["val"], "test": ["test"]},
        doubts={"split"},
    ),
    "lines of a name and its tags": Case(
        "".join(
            f"{name}{' rust' * a}{' dent' * b}{' hole' * (n == 5)}\n"
            for n, (name, a, b) in enumerate(zip(A_TO_F, X, [0, 0, 1, 1, 0, 1], strict=True))
        ),
        "label_list",
        {"header": False, "tags": "attr1", "tag_separator": " ", "absent": "negative"},
        {"rust": X, "dent": [0, 0, 1, 1, 0, 1], "hole": [0, 0, 0, 0, 0, 1]},
        name="labels.txt",
        doubts={"data.header", "data.tag_separator", "data.absent"},
    ),
    "JSON lines with lists of labels, in a text file": Case(
        "".join(
            json.dumps({"image": name, "labels": ["dent"] if x else []}) + "\n"
            for name, x in zip(A_TO_F, X, strict=True)
        ),
        "label_list",
        {"tags": "labels", "absent": "negative"},
        {"dent": X},
        name="labels.txt",
        doubts={"data.absent"},
    ),
    "patients in the names": Case(
        rows("Path,x,y", *PAIRS, names=[f"patient{n // 2}/view{n}.jpg" for n in range(6)]),
        "wide_csv",
        {"group": {"regex": r"(patient\d+)/"}},
        XY,
        files=[f"patient{n // 2}/view{n}.jpg" for n in range(6)],
        doubts={"data.group"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_guess(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    result = guessed(tmp_path, case.content, case.name, case.files)
    assert result.data == {"importer": case.importer, **case.data}
    few = {"scheme": "holdout", "val": 0.25, "test": 0.25} if "group" in case.data else {}
    assert result.split == (case.split or few)
    assert {note.key for note in result.notes if note.doubt} == case.doubts | ({"split"} if few else set())
    data = DataConfig(labels=tmp_path / case.name, images=tmp_path / "images", **result.data)
    listed = label_file.load(data, [result.split["column"]] if case.split else [])
    read = dict(zip(listed.labels.attributes, zip(*states(listed.labels), strict=True), strict=True))
    assert {attribute: list(column) for attribute, column in read.items()} == case.expected
    counts = {attribute: sum(count for _, count in tokens.values()) for attribute, tokens in result.states.items()}
    assert set(counts) == set(case.expected)
    assert result.listed == len(listed.ids)
    assert result.present == min(len(case.files), len(listed.ids))


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (
            "image,x\nq.png,1\nr.png,0\n",
            "labels.csv",
            ["labels.csv:1:", "'image' ('q.png', 'r.png')", "a.png", "--images"],
        ),
        (
            rows("image,p", "0.1", "0.9", "0.3"),
            "labels.csv",
            ["labels.csv:1:", "'p'", "0.1", "soft labels are not supported"],
        ),
        (
            rows("image,x", "1", "2", "1", "2"),
            "labels.csv",
            ["labels.csv:1:", "'x'", 'positive: ["1"], negative: ["2"]'],
        ),
        (
            rows("image,x", *"123412"),
            "labels.csv",
            ["labels.csv:1:", "'x'", 'positive: ["2", "3", "4"], negative: ["1"]'],
        ),
        (
            rows("image,x,y", *(f"{n},{n * n}" for n in range(14)), names=[*A_TO_F, *A_TO_F, *A_TO_F]),
            "labels.csv",
            ["labels.csv:1:", "if x, y hold counts", 'table[["x", "y"]] > 0'],
        ),
        (rows("image,note", *(f"seen by me on day {n}" for n in range(6))), "labels.csv", ["'note'", "text", "tags"]),
        (rows("image,x", *"10"), "labels.csv", ["labels.csv:2:", "a.png", "u/a.png", "t/a.png"]),
        (rows("image,macro", *"10"), "labels.csv", ["labels.csv:1:", "rename", "'macro'"]),
        (rows("image,x,x", *PAIRS), "labels.csv", ["labels.csv:1:", "'x' stands 2 times"]),
        (rows("image,age", "31", "45", "52"), "labels.csv", ["labels.csv:1:", "'age'", "numbers", "1, 0 and NA"]),
        (rows("image,tags", *["no finding", "nothing"] * 3), "labels.csv", ["no tag but 'no finding', 'nothing'"]),
        ("", "labels.csv", ["labels.csv:1:", "empty"]),
        ("image,x\n", "labels.csv", ["labels.csv:1:", "no row"]),
        (
            '[{"image": "a.png", "labels": {"x": 1}}]',
            "labels.json",
            ["labels.json:1:", "JSON array", "one object per line"],
        ),
        (rows("image,x,y", "1,0", "1", "0,1"), "labels.csv", ["labels.csv:3:", "2 columns", "expected 3"]),
        ('{"image": "a.png", "labels": {"x": 0.3}}\n', "labels.jsonl", ["'x'", "soft labels", "0.3", "1, 0 and NA"]),
        ("ภาพ,รอยแตก\na.png,1\n".encode("cp874"), "labels.csv", ["labels.csv:1:", "`encoding: NAME`"]),
        (b"\x00\x01\x02\x03\xff\xfe\x99", "labels.csv", ["labels.csv:1", "no text"]),
    ],
)
def test_nothing_usable(content: str | bytes, name: str, words: list[str], tmp_path: Path) -> None:
    files = [f"{folder}/{name}" for folder in "ut" for name in A_TO_F] if "u/a.png" in words else A_TO_F
    with pytest.raises(UserError) as caught:
        guessed(tmp_path, content, name, files)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_images_for_any_split(images: int, tmp_path: Path) -> None:
    result = guessed(tmp_path, rows("image,x", *"10"[:images]), files=A_TO_F[:images])
    [text] = [note.text for note in result.notes if note.key == "split"]
    assert f"in {images} image{'s' * (images > 1)}: they cannot be split" in text
    assert "at least 3" in text


def test_a_problem_of_many_rows_is_one_message(tmp_path: Path) -> None:
    lines = [json.dumps({"image": name, "labels": {"x": [1]}}) for name in A_TO_F]
    with pytest.raises(UserError) as caught:
        guessed(tmp_path, "\n".join(lines), "labels.jsonl")
    [message] = caught.value.problems
    assert "labels.jsonl:1: attribute 'x': found a list" in message
    assert "5 more lines: 2, 3, 4, ..." in message


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        guess(tmp_path / "no.csv", tmp_path / "nowhere")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--labels", "--images"]


def test_two_images_cannot_be_split(tmp_path: Path) -> None:
    result = guessed(tmp_path, rows("image,x", "1", "0", names=A_TO_F[:2]), files=A_TO_F[:2])
    [doubt] = [note.text for note in result.notes if note.key == "split"]
    assert doubt.startswith("found 2 groups of images")
    assert "in 2 images: they cannot be split" in doubt


def test_an_excel_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.xlsx"
    pd.DataFrame({"image": A_TO_F, "x": X, "y": [0.0, 0.0, 1.0, 1.0, 0.0, None]}).to_excel(file, index=False)
    result = guessed(tmp_path, file.read_bytes(), file.name)
    assert result.data == {"importer": "wide_csv"}
    assert result.states["y"] == {"0": ("negative", 3), "1": ("positive", 2), "": ("missing", 1)}


TOKENS = st.sampled_from(
    [
        ["1", "0"],
        ["yes", "no", "?"],
        ["1", "-1"],
        ["0.5", "1"],
        ["3", "8", "1"],
        ["cat", "dog|cat", ""],
        ["M", "F"],
        [""],
    ]
)
NAMES = st.sampled_from(
    ["x", "y", "tags", "label", "patient", "split", "age", "id", "is_valid", "fold", "macro", "größe", ""]
)


@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_table_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Only errors of our own; and what is guessed can be read: `guess` itself reads it."""
    folder = tmp_path_factory.mktemp("any")
    separator = data.draw(st.sampled_from([",", ";", "\t", "|"]))
    header = data.draw(st.booleans())
    width = data.draw(st.integers(1, 4))
    pools = [data.draw(TOKENS) for _ in range(width)]
    names = data.draw(st.lists(st.sampled_from(A_TO_F), min_size=1, max_size=12))
    table = [[name, *(data.draw(st.sampled_from(pool)) for pool in pools)] for name in names]
    table = [["image", *(data.draw(NAMES) for _ in range(width))], *table] if header else table
    content = "\n".join(separator.join(row) for row in table)
    try:
        result = guessed(folder, content)
    except UserError:
        return
    assert 0 < result.present <= result.listed == len(set(names))
