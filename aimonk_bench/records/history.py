"""``history.csv``: the loss of every step, and the validation metrics of every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aimonk_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

WHOLE = ("seed", "fold", "iteration_number", "epoch")  # columns that hold whole numbers


def read(path: Path) -> pd.DataFrame:
    """Read the file: whole numbers in the columns `WHOLE`, elsewhere floats, NaN for an empty field.

    Raises:
        UserError: it is missing or broken.
    """
    import pandas as pd

    try:
        fields = pd.read_csv(path, dtype=str, keep_default_na=False)  # before version 3, pandas would round floats
        if fields.empty or not {*WHOLE, "training_loss"} <= set(fields):
            raise ValueError(f"expected rows with {', '.join(WHOLE)} and training_loss")
        return fields.replace("", "nan").astype({name: "int64" if name in WHOLE else "float64" for name in fields})
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read as a history: {error}") from error
