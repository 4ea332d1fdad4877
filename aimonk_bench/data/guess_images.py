"""Which column of an unknown table names the images, and which files its names mean."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from aimonk_bench.data import image_names
from aimonk_bench.data.annotations import names_of
from aimonk_bench.data.columns import Column, long_columns
from aimonk_bench.data.draft import Guess
from aimonk_bench.data.image_names import ImagePaths
from aimonk_bench.data.tables import Table
from aimonk_bench.data.tokens import is_image_file
from aimonk_bench.data.top_rows import ID_NAMES
from aimonk_bench.data.values import listed
from aimonk_bench.errors import UserError

SAMPLE = 200  # names of a column that are looked up in the image folder
SURE = 0.9  # share of names that fit files, from which on no other column is looked at
MOST_CANDIDATES = 8  # columns that may name the images
MOST_SUFFIXES = 3  # that are tried where names lack one
NAME_FILES = (".txt", ".csv", ".tsv")
MOST_NAME_FILES, MOST_NAME_BYTES = 40, 1 << 23


def named_images(columns: Sequence[Column], folder: Path) -> Column | None:
    """The column that names most files of the image folder; None if none names one."""

    def order(item: Column) -> tuple[bool, bool]:
        return not item.holds_images, item.name.lower() not in ID_NAMES

    best: tuple[bool, float, Column] | None = None
    candidates = [item for item in columns if item.tokens and item.kind != "soft labels"]
    for item in sorted(candidates, key=order)[:MOST_CANDIDATES]:
        share = _share_there(item.tokens, folder)
        if share > SURE and (item.holds_images or len(item.tokens) == len(item.cells)):
            return item
        rank = item.holds_images, share * len(item.tokens), item
        if share and (best is None or rank[:2] > best[:2]):
            best = rank
    return best[2] if best else None


def _share_there(names: Sequence[str], folder: Path) -> float:
    """The share of these names, or of a sample of them, that fit one or several files of the image folder."""
    sample = names[:: -(-len(names) // SAMPLE)]
    located, there, _ = fit(sample, range(len(sample)), folder)
    ambiguous = [path is None and is_image_file(name) for name, path in zip(sample, located.paths, strict=True)]
    return sum(map(max, there, ambiguous)) / len(sample)


def fit(names: Sequence[str], lines: Sequence[int], folder: Path) -> tuple[ImagePaths, list[bool], str | None]:
    """The files that N names mean, which of them are there [N], and the suffix of the files that the names lack.

    The suffix is the most frequent one of the folder that completes all names, or that files have whose names have
    another one; None where names are files, or lack different ones.
    """

    def are_there(located: ImagePaths) -> list[bool]:
        return [path is not None and os.path.isfile(folder / path) for path in located.paths]

    located = image_names.resolve(names, lines, folder)
    there = are_there(located)
    have_suffixes = any(map(is_image_file, names))
    if have_suffixes == (any(there) or bool(located.problems)):
        return located, there, None
    files = (posixpath.splitext(path)[1] for path in image_names.files_below(folder))
    for suffix, _ in Counter(filter(is_image_file, files)).most_common(MOST_SUFFIXES):
        other = image_names.resolve(names, lines, folder, suffix)
        if not other.problems and any(are_there(other)) and sum(are_there(other)) >= sum(there):
            return other, are_there(other), suffix
    return located, there, None


def numbered_images(columns: Sequence[Column], draft: Guess) -> Column | None:
    """The column of numbers of images whose names stand in another file, which only long tables have."""

    def names_images(names: Sequence[str]) -> bool:
        return _share_there(names, draft.images) > 0

    for item in columns:
        is_long = item.tokens and long_columns(columns, item)
        if is_long and (file := names_file(draft, item.tokens, names_images)):
            draft.set("image_names", file, f"it names the images whose numbers column {item.name!r} holds")
            return item
    return None


def names_file(draft: Guess, ids: Sequence[str], accept: Callable[[Sequence[str]], bool]) -> Path | None:
    """A table of id and name near the label file with a name for each of these ids, and the fewest others."""
    labels, folder = draft.labels, draft.images
    places = dict.fromkeys([labels.parent, *labels.parent.parents[:2], folder, folder.parent])
    fitting: list[tuple[int, Path]] = []
    for place in places:
        files = [path for path in sorted(place.glob("*.*")) if path.suffix.lower() in NAME_FILES and path != labels]
        for file in files[:MOST_NAME_FILES]:
            if not os.path.isfile(file) or file.stat().st_size > MOST_NAME_BYTES:
                continue
            try:
                name_of = names_of(file)
            except UserError:  # a file of something else
                continue
            if name_of.keys() >= {*ids} and accept([name_of[text] for text in ids]):
                fitting.append((len(name_of), file))
    return min(fitting)[1] if fitting else None


def no_images(draft: Guess, table: Table, columns: Sequence[Column]) -> str:
    """The message about a table none of whose columns names an image of the folder."""
    shown = [f"{item.name!r} ({item.examples})" for item in columns]
    files = [*itertools.islice(image_names.files_below(draft.images), 3)]
    holds = f"files such as {', '.join(files)}" if files else "no file"
    return (
        f"{draft.labels}:{table.header_line}: found the columns {listed(shown)} ({table.dialect}), expected one "
        f"that names images of {draft.images}, which holds {holds}; a label file has a row for each image, with its "
        "name and its labels. Set --images to the folder that the names are relative to, or correct the names"
    )
