"""``torch`` and ``Tensor`` for the modules that hold tables: what only plans a run reads those but loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aimonk_bench.lazy import Lazy

if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor as Tensor
else:
    torch, Tensor = Lazy("torch"), Any
