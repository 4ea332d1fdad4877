"""What is guessed about a data set so far: keys of `data` and `split`, the role of each column, reasons and doubts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


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
class Draft:
    """What is guessed so far about a label file and an image folder.

    Attributes:
        data: keys of the section, without ``labels`` and ``images``.
        split: keys of the section; empty for the default.
        notes: in the order in which they are found.
        roles: of the columns of a table.
    """

    labels: Path
    images: Path
    data: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)

    def set(self, key: str, value: Any, reason: str = "", *, doubt: bool = False) -> None:
        """Guess the value of a key of `data`."""
        self.data[key] = value
        if reason:
            self.notes.append(Note(f"data.{key}", reason, doubt))

    def doubt(self, key: str, text: str) -> None:
        """Say what may be wrong about a key."""
        self.notes.append(Note(key, text, doubt=True))
