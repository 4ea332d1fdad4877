"""What is guessed about a data set so far: keys of `data` and `split`, the role of each column, reasons and doubts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aimonk_bench.config.fields import DataConfig, Values


@dataclass(frozen=True)
class Note:
    """Why a key has its value, or what may be wrong about it.

    Attributes:
        key: of the config, such as ``data.id``.
        doubt: the guess may be wrong.
    """

    key: str
    text: str
    doubt: bool = False


@dataclass(frozen=True)
class Role:
    """What a column is taken for, and why where that is a question."""

    column: str
    role: Literal["images", "tags", "values", "group", "split", "left out"]
    reason: str = ""


@dataclass
class Guess:
    """How a label file and its image folder are probably to be read, as far as it is known.

    Attributes:
        labels, images: where they are.
        data: keys of the section, without ``labels`` and ``images``.
        split: keys of the section; empty for the default.
        notes: reasons and doubts, each with the key that it is about, in the order in which they are found.
        roles: of the columns of a table.
        understood: one line on the file, with its first row.
        states: attribute -> token -> (its state, rows). A token may be the label itself, True or False, or None.
        listed: number of images that the file names.
        present: those of them that are in the folder.
    """

    labels: Path
    images: Path
    data: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    understood: str = ""
    states: dict[str, dict[str | bool | None, tuple[str, int]]] = field(default_factory=dict)
    listed: int = 0
    present: int = 0

    @property
    def config(self) -> DataConfig:
        """The section `data` that is guessed so far."""
        return DataConfig(labels=self.labels, images=self.images, **self.data)

    @property
    def values(self) -> Values:
        """The tokens of all attributes, as far as they are guessed."""
        return Values(**self.data.get("values", {}))

    def set(self, key: str, value: Any, reason: str = "", *, doubt: bool = False) -> None:
        """Guess the value of a key of `data`."""
        self.data[key] = value
        if reason:
            self.notes.append(Note(f"data.{key}", reason, doubt))

    def doubt(self, key: str, text: str) -> None:
        """Say what may be wrong about a key."""
        self.notes.append(Note(key, text, doubt=True))
