"""``torch`` and ``Tensor`` for the modules of tables, which planning a run imports without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aimonk_bench.lazy import Lazy

if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor as Tensor
else:
    torch, Tensor = Lazy("torch"), Any
