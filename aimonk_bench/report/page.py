"""The page as one HTML file: the documents as JSON, the script that draws them, and what shows without it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2

from aimonk_bench.errors import printable
from aimonk_bench.records.files import plain
from aimonk_bench.report.document import Document, Run
from aimonk_bench.report.headline import SHOWN, headline
from aimonk_bench.reporting.words import number

SCRIPTS = ("elements.js", "charts.js", "runs.js", "run.js", "page.js")  # in this order, as one script
# What the template writes, and the script does not read: it is not embedded a second time.
WRITTEN = ("version", "heading", "verdict", "plainly", "cards", "warnings", "making", "commands")
# Signs that end a script element, or that JavaScript of before 2019 takes for the end of a line.
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def render(documents: Sequence[Document]) -> str:
    """The page about one folder or more, the first shown first.

    Its policy lets it run its own script alone and load nothing.
    """
    style = _asset("page.css")
    script = "\n".join(["(() => {", '"use strict";', *map(_asset, SCRIPTS), "})();"])
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_visible
    )
    environment.filters["figure"] = _figure
    return environment.from_string(_asset("page.html.jinja")).render(
        title=", ".join(document["title"] for document in documents),
        documents=[(document, headline(document), _rows(document)) for document in documents],
        shown=SHOWN,
        policy=_policy(style, script),
        style=style,
        script=script,
        data=embedded([{key: value for key, value in one.items() if key not in WRITTEN} for one in documents]),
    )


def embedded(value: Any) -> str:
    r"""A value as JSON for a script element: no text in it can end the element or begin another.

    >>> embedded({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _visible(value: Any) -> Any:
    """A value of the template; text with its control characters and marks of direction as escapes."""
    if not isinstance(value, str) or hasattr(value, "__html__"):  # which is style, script or JSON
        return value
    return "\n".join(map(printable, value.split("\n")))


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy: the style and the script of these hashes, images inside the page, nothing else."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src {hashes[0]}; script-src {hashes[1]}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _rows(document: Document) -> list[Run]:
    """The runs of the table that shows without a script: the best ones, the baseline, and those without figures."""
    runs = {run["id"]: run for run in document["runs"]}
    shown = [*document["ranking"][:SHOWN], *filter(None, [document["baseline"]])]
    rest = [run_id for run_id, run in runs.items() if not run["figures"]]
    return [runs[run_id] for run_id in dict.fromkeys([*shown, *rest])]


def _figure(run: Run, name: str) -> str:
    """The macro average of a figure as the table writes it; empty where the run has none."""
    return number(float(run["figures"][name][-1])) if name in run["figures"] else ""
