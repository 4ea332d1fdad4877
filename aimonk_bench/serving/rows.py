"""Predictions as rows: CSV, JSON lines, a pandas table. The columns are those of the contract.

Names that are not UTF-8 have an escape for each byte that cannot be decoded, ``\\udcff`` for 255; in JSON that is the
text from which `os.fsencode` makes the name again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from aimonk_bench.serving.predict import Prediction

if TYPE_CHECKING:
    import pandas as pd

Form = Literal["csv", "jsonl"]
TYPES = {"probability": "float64", "decision": "boolean"}  # of an attribute: what a row has -> its type in pandas


def columns(attributes: Sequence[str]) -> dict[str, str]:
    """The columns and their types in pandas: image, error, and a probability and a decision for each attribute."""
    values = {f"{name}_{what}": kind for name in attributes for what, kind in TYPES.items()}
    return {"image": "string", "error": "string", **values}


def table(attributes: Sequence[str], predictions: Iterable[Prediction]) -> pd.DataFrame:
    """The rows as a table; what an error leaves out is NA, of a probability NaN."""
    import pandas as pd

    kinds = columns(attributes)
    rows = [[_encodable(p.image), p.error and _encodable(p.error), *_values(p)] for p in predictions]
    return pd.DataFrame(rows, columns=list(kinds), dtype=object).astype(kinds)


def lines(predictions: Iterable[Prediction], form: Form) -> Iterator[str]:
    """The text of each prediction; the first of CSV begins with the header."""
    first = form == "csv"
    for prediction in predictions:
        text = _csv(prediction) if form == "csv" else _json(prediction)
        yield _csv_line(columns(prediction.attributes)) + text if first else text
        first = False


def _csv(prediction: Prediction) -> str:
    words = {None: "", True: "true", False: "false"}
    values = (repr(value) if isinstance(value, float) else words[value] for value in _values(prediction))
    return _csv_line([prediction.image, prediction.error or "", *values])


def _csv_line(cells: Iterable[str]) -> str:
    # not by the module csv, which leaves a lone carriage return unquoted before Python 3.13
    return (
        ",".join('"' + cell.replace('"', '""') + '"' if re.search('[",\r\n]', cell) else cell for cell in cells) + "\n"
    )


def _json(prediction: Prediction) -> str:
    values = iter(_values(prediction))
    attributes: dict[str, Any] = {}
    for name, threshold in zip(prediction.attributes, prediction.thresholds.tolist(), strict=True):
        attributes[name] = {**{what: next(values) for what in TYPES}, "threshold": threshold}
    row = {"image": prediction.image, "error": prediction.error, "attributes": attributes}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _values(prediction: Prediction) -> list[float | bool | None]:
    """A probability and a decision for each attribute; None where there is an error."""
    if prediction.error is not None:
        return [None] * (len(TYPES) * len(prediction.attributes))
    pairs = zip(prediction.probabilities.tolist(), prediction.decisions.tolist(), strict=True)
    return [value for pair in pairs for value in pair]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
