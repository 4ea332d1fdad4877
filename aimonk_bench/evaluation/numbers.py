"""The types of numbers in records that are kept as JSON: NaN in memory is ``null`` in the file."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import PlainValidator


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)  # None becomes NaN


Number = Annotated[float, PlainValidator(_number)]
Numbers = Annotated[npt.NDArray[Any], PlainValidator(_numbers)]  # of any number of axes
