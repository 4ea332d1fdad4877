"""Predictions as rows: CSV, JSON lines. The columns are those of the contract.

Names that are not UTF-8 have an escape for each byte that cannot be decoded, ``\\udcff`` for 255; in JSON that is the
text from which `os.fsencode` makes the name again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from aimonk_bench.errors import UserError
from aimonk_bench.records.files import atomic
from aimonk_bench.serving.predict import Prediction

Form = Literal["csv", "jsonl"]


def header(attributes: Sequence[str]) -> list[str]:
    """The columns: image, error, and a probability and a decision for each attribute."""
    return ["image", "error", *(f"{name}_{what}" for name in attributes for what in ("probability", "decision"))]


def lines(predictions: Iterable[Prediction], form: Form) -> Iterator[str]:
    """The text of each prediction; the first of CSV begins with the header."""
    first = form == "csv"
    for prediction in predictions:
        text = _csv(prediction) if form == "csv" else _json(prediction)
        yield _csv_line(header(prediction.attributes)) + text if first else text
        first = False


def _csv(prediction: Prediction) -> str:
    cells = [prediction.image, prediction.error or ""]
    for probability, decision in _values(prediction):
        cells += ["", ""] if prediction.error else [repr(probability), "true" if decision else "false"]
    return _csv_line(cells)


def _csv_line(cells: Iterable[str]) -> str:
    # not by the module csv, which leaves a lone carriage return unquoted before Python 3.13
    return (
        ",".join('"' + cell.replace('"', '""') + '"' if re.search('[",\r\n]', cell) else cell for cell in cells) + "\n"
    )


def _json(prediction: Prediction) -> str:
    attributes: dict[str, Any] = {}
    thresholds = prediction.thresholds.tolist()
    for name, threshold, (probability, decision) in zip(
        prediction.attributes, thresholds, _values(prediction), strict=True
    ):
        values = (None, None) if prediction.error else (probability, decision)
        attributes[name] = {**dict(zip(("probability", "decision"), values, strict=True)), "threshold": threshold}
    row = {"image": prediction.image, "error": prediction.error, "attributes": attributes}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _values(prediction: Prediction) -> list[tuple[float, bool]]:
    return list(zip(prediction.probabilities.tolist(), prediction.decisions.tolist(), strict=True))


@contextlib.contextmanager
def output(out: Path | None) -> Iterator[TextIO]:
    """Where to write UTF-8: a file that appears when it is complete, or standard output.

    Raises:
        UserError: the file cannot be written.
    """
    if out is None:
        if reconfigure := getattr(sys.stdout, "reconfigure", None):  # a stream in memory has no encoding
            reconfigure(encoding="utf-8", errors="backslashreplace")
        yield sys.stdout
        return
    if out.is_dir():
        raise UserError(f"-o: found the folder {out}, expected a file")
    if not out.parent.is_dir():
        raise UserError(f"-o: found no folder {out.parent}, expected one that exists")
    device = out.exists() and not out.is_file()  # such as /dev/null, which nothing may replace
    # of a link, what it leads to is replaced
    with contextlib.nullcontext(out) if device else atomic(Path(os.path.realpath(out))) as place:
        try:
            file = place.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        except OSError as error:
            raise UserError(f"-o: {out} cannot be written: {error.strerror}") from error
        with file:
            yield file
