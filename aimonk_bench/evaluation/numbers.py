"""The type of an array, and the types of numbers in records that are read from JSON, where NaN is ``null``."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import PlainValidator

Array = npt.NDArray[Any]


def _floats(values: Any) -> Array:
    try:
        return np.array(values, dtype=np.float64)  # None becomes NaN
    except TypeError as error:  # pydantic reports a ValueError alone
        raise ValueError(f"expected numbers: {error}") from error


Number = Annotated[float, PlainValidator(lambda value: _floats(value).item())]
Numbers = Annotated[Array, PlainValidator(_floats)]
