"""A module that is imported when it is first used, so that planning does not wait for it."""

from __future__ import annotations

import importlib
from typing import Any


class Lazy:
    """Stands for a module; the first use of one of its names imports it.

    Args:
        name: of the module, such as "torch".
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)  # so that this method is not called again
        return value
