"""Label files of every format, damaged or made up: labels or our own error, in bounded time and memory."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
from hostile_files import HOSTILE, limited, mutated
from hypothesis import example, given
from hypothesis import strategies as st
from label_files import config

from aimonk_bench import new_config
from aimonk_bench.data import label_file
from aimonk_bench.data.importers import IMPORTERS
from aimonk_bench.errors import UserError

NAMES = [f"{number}.jpg" for number in range(6)]
WIDE = pd.DataFrame({"image": NAMES, "dog": [1, 0, 1, None, 0, 1], "cat": [0, None, 1, 1, 0, 0]})
TAGS = pd.DataFrame({"image": NAMES, "tags": ["dog|cat", "dog", "", "cat", "dog", "bird"], "split": ["train"] * 6})
LONG = pd.DataFrame({"image": NAMES * 2, "label": ["dog"] * 6 + ["cat"] * 6, "value": [1, 0, 1, -1, 0, 1] * 2})
COCO = {
    "images": [{"id": number, "file_name": name} for number, name in enumerate(NAMES)],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [{"image_id": n, "category_id": 1 + n % 2, "id": n} for n in range(5)],
}


def packed(write: str, table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    getattr(table, write)(file, index=False)
    return file.getvalue()


def matlab(compressed: bool) -> bytes:
    file, cells = io.BytesIO(), np.array([[name] for name in NAMES], object)
    attributes = np.array([["dog"], ["cat"]], object)
    labels = np.array(WIDE[["dog", "cat"]], float)
    scipy.io.savemat(
        file, {"train_images_name": cells, "train_label": labels, "attributes": attributes}, do_compression=compressed
    )
    return file.getvalue()


TEXTS = {
    "labels.txt": WIDE.to_csv(sep=" ", index=False, header=False, na_rep="NA"),
    "wide.csv": WIDE.to_csv(index=False),
    "wide.tsv": WIDE.to_csv(index=False, sep="\t"),
    "tags.csv": TAGS.to_csv(index=False),
    "long.csv": LONG.to_csv(index=False),
    "lines.jsonl": WIDE.to_json(orient="records", lines=True),
    "nested.jsonl": "\n".join(json.dumps({"image": name, "labels": {"dog": 1, "cat": None}}) for name in NAMES),
    "coco.json": json.dumps(COCO),
}
ORIGINALS = {
    **{name: text.encode() for name, text in TEXTS.items()},
    "utf-16.csv": TEXTS["wide.csv"].encode("utf-16"),
    "labels.xlsx": packed("to_excel", WIDE),
    "labels.mat": matlab(False),
    "compressed.mat": matlab(True),
}
with contextlib.suppress(ImportError):  # of the extra that reads it
    ORIGINALS["labels.parquet"] = packed("to_parquet", TAGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images that the files name; nobody opens them."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in NAMES:
        (folder / name).touch()
    return folder


LONG_NAME = b".jpg " + b"1.0.jpg " * 50  # longer than a file system allows
NO_TYPE = ORIGINALS["labels.mat"].replace(b"\x10\0\0\0\5", b"\x7f\0\0\0\5", 1)  # of a text
NO_DIMENSIONS = ORIGINALS["labels.mat"].replace(b"\5\0\0\0\x08", b"\5\0\0\0\1", 3)


@HOSTILE
@example(case=("labels.txt", LONG_NAME), importer="auto", absent="missing")
@example(case=("tags.csv", b"imagesplit\n0.jpg,dog|cat,train\n1.jpg,dog,train\n2.jp"), importer="auto", absent=None)
@example(case=("coco.json", b'{"id": 1, ' * 15_000), importer="labels_txt", absent=None)  # 30,000 columns took 3 s
@example(case=("labels.mat", NO_TYPE), importer="mat", absent=None)  # of these two SciPy ended the process
@example(case=("labels.mat", NO_DIMENSIONS), importer="mat", absent=None)
@given(
    case=mutated(ORIGINALS, text=True),
    importer=st.sampled_from(["auto", "auto", *IMPORTERS]),
    absent=st.sampled_from(["missing", "negative", None]),
)
def test_a_mutated_label_file_gives_labels_or_a_user_error(
    folder: Path, case: tuple[str, bytes], importer: str, absent: str | None
) -> None:
    name, content = case
    file = folder / f"mutated{Path(name).suffix}"
    file.write_bytes(content)
    with limited():
        with contextlib.suppress(UserError):
            loaded = label_file.load(config(file, importer=importer, absent=absent))
            shape = (len(loaded.ids), len(loaded.labels.attributes))
            assert loaded.labels.targets.shape == loaded.labels.observed.shape == shape
        with contextlib.suppress(UserError):  # what `init` makes of it
            _, text = new_config.propose(file, folder, None)
            assert text.strip()
