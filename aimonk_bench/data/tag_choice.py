"""Which tags of a file are attributes, and what is doubtful about their names."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aimonk_bench.data.tokens import NO_TAGS
from aimonk_bench.errors import count
from aimonk_bench.registry import hint

MOST_TAGS = 10_000  # more are free text; labels are dense arrays
SHOWN = 10


@dataclass(frozen=True)
class Choice:
    """Which tags of a file are attributes.

    Attributes:
        names: [A] ``data.attributes``, else all tags in alphabetical order.
        others: the tags that are no attributes, in the order of the file.
        notes: what the user should know.
        warnings: what is probably wrong.
        problem: the message about ``others`` where ``data.other_tags`` does not ignore them, or about too many tags.
    """

    names: tuple[str, ...]
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str | None = None


def choose(
    counts: Mapping[str, int], attributes: Sequence[str] | None, other_tags: Literal["error", "ignore"]
) -> Choice:
    """Choose the attributes among the tags of a file.

    Args:
        counts: tag -> number of rows, in the order of the file.
        attributes: ``data.attributes``.
        other_tags: ``data.other_tags``.
    """
    if attributes is None and len(counts) > MOST_TAGS:
        text = f"found {len(counts)} tags, expected at most {MOST_TAGS}: name those that you need in data.attributes, "
        return Choice((), problem=f"{text}and write under data: `other_tags: ignore`")
    if attributes is None:
        problem = "found data.other_tags: ignore, which needs data.attributes" if other_tags == "ignore" else None
        return Choice(tuple(sorted(counts)), warnings=(*_alike(counts),), problem=problem)
    names = tuple(attributes)
    chosen = {*names}
    others = tuple(tag for tag in counts if tag not in chosen)
    absent = [name for name in names if name not in counts]
    warnings = [*_alike({**dict.fromkeys(names, 0), **counts})]
    if absent:
        hints = [f"{name!r}{hint(name, counts)}" for name in absent]
        warnings.append(f"data.attributes: no row has the tags {', '.join(hints)}")
    if not others:
        return Choice(names, warnings=tuple(warnings))
    frequent = sorted(others, key=lambda tag: -counts[tag])[:SHOWN]
    listed = ", ".join(f"{tag!r} ({count(counts[tag], 'row')}){hint(tag, names)}" for tag in frequent)
    listed += f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    if other_tags == "ignore":
        return Choice(names, others, (f"data.other_tags: ignored {listed}",), tuple(warnings))
    text = f"found tags that data.attributes does not name: {listed}; name them there, or write under data: "
    text += "`other_tags: ignore`"
    return Choice(names, others, (), tuple(warnings), text)


def _alike(counts: Mapping[str, int]) -> Iterator[str]:
    """Warnings about tags that are probably two spellings of one."""
    spellings: dict[str, list[str]] = {}
    for tag in counts:
        plain = unicodedata.normalize("NFKC", tag).casefold()
        spellings.setdefault(re.sub(r"[\s_-]", "", plain) or tag, []).append(tag)
    for alike in spellings.values():
        if len(alike) > 1:
            listed = ", ".join(f"{tag!r} ({count(counts[tag], 'row')})" for tag in alike)
            yield f"tags {listed} differ only in case, blanks, _ or -; they are read as different tags"


def unread_missing(counts: Mapping[str, int], missing: Collection[str], attributes: Sequence[str]) -> str | None:
    """The message about tags that commonly mean that nothing is known, although nothing declares them; None without.

    Args:
        counts: tag -> rows in which it stands alone.
        missing: ``data.values.missing``.
        attributes: ``data.attributes``.
    """
    unread = {tag: rows for tag, rows in counts.items() if is_unread_missing(tag, missing, attributes)}
    if not unread:
        return None
    listed = ", ".join(f"{tag!r} ({count(rows, 'row')})" for tag, rows in unread.items())
    values = json.dumps(list(dict.fromkeys(["", *sorted(missing), *unread])), ensure_ascii=False)
    return (
        f"found {listed} where tags are expected; if that means that nothing is known of the image, write "
        f"under data: `values: {{missing: {values}}}`; if it is a tag, name it in data.attributes"
    )


def is_unread_missing(tag: str, missing: Collection[str], attributes: Sequence[str]) -> bool:
    """Whether a tag commonly means that nothing is known, and neither `data.values` nor `data.attributes` has it."""
    return tag.casefold() in NO_TAGS and tag not in missing and tag not in attributes
