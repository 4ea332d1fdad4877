"""The function that is checked, and how a violation is reported."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from aimonk_bench import registry
from aimonk_bench.config.plugin_entries import CONTRACTS, signature_problems
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.training.entries import bind

RTOL, ATOL = 1e-9, 1e-12  # of float64


@dataclass(frozen=True)
class Subject:
    """An entry with its options.

    Attributes:
        function: the entry.
        options: all of them, defaults filled in.
    """

    function: Callable[..., Any]
    options: dict[str, Any]

    @classmethod
    def of(cls, function: Callable[..., Any], table: str, options: dict[str, Any]) -> Subject:
        """Check signature and options.

        Args:
            table: the name of its table in a plug-in.
            options: those that differ from the defaults, and those without one.

        Raises:
            AssertionError: the program cannot call the function, or an option is wrong.
        """
        for actual, expected in signature_problems(function, CONTRACTS[table]):
            raise AssertionError(f"{function.__name__}: found {actual}, expected {expected}")
        name = function.__name__
        spec, problems = registry.check("entry", {name: function}, {"name": name, **options})
        if spec is None:
            raise AssertionError("; ".join(f"{name}: {'.'.join(map(str, p.path))}: {p}" for p in problems))
        return cls(function, dict(spec.options))

    def require(self, holds: object, sentence: str) -> None:
        """Raise `AssertionError` with the sentence if something does not hold."""
        if not holds:
            raise AssertionError(f"{self.function.__name__}: {sentence}")

    def with_data(self, **values: Any) -> Callable[..., Any]:
        """The function with its options, and with that further data for which it has a parameter."""
        return bind(functools.partial(self.function, **self.options), **values)

    def call(self, function: Callable[..., Any], *data: Any, when: str = "") -> Any:
        """A result of the function, or of a derivative; what it raises is a violation, but for the two messages."""
        try:
            return function(*data)
        except (UserError, RunFailed):
            raise
        except Exception as error:
            text = f"it raised {type(error).__name__}: {error}"
            raise AssertionError(f"{self.function.__name__}: {text}{when and f' ({when})'}") from error

    def require_tensor(self, value: object, shape: Iterable[int], dtype: torch.dtype, what: str) -> Tensor:
        """The value, a tensor of this shape and dtype."""
        self.require(isinstance(value, Tensor), f"{what}: found a {type(value).__name__}, expected a tensor")
        assert isinstance(value, Tensor)
        expected = list(shape)
        self.require(list(value.shape) == expected, f"{what}: found shape {list(value.shape)}, expected {expected}")
        self.require(value.dtype == dtype, f"{what}: found {value.dtype}, expected {dtype}")
        return value

    def require_close(
        self, actual: Tensor, expected: Tensor, sentence: str, *, rtol: float = RTOL, atol: float = ATOL
    ) -> None:
        """Two tensors are equal but for rounding."""
        holds = torch.allclose(actual.double(), expected.double(), rtol=rtol, atol=atol)
        difference = (actual.double() - expected.double()).abs().max().item() if actual.numel() else 0.0
        self.require(holds, f"{sentence} (largest difference {difference:.3g})")

    def head_options(self, heads: int) -> dict[str, Tensor]:
        """For each numeric option a tensor [H, 1, 1] of other values in its range, one for each head."""
        rng = np.random.default_rng(0)
        options = {}
        for name in registry.numeric_options(self.function):
            value = self.options[name]
            if value is None:
                continue
            ranges = ((0.5 * value, 0.99 * value), (1.01 * value, 2 * value)) if value else ((0, 0.2), (-0.2, 0))
            drawn = (rng.uniform(low, high, heads) for low, high in ranges)
            values = next((some for some in drawn if self._accepts(name, some)), np.full(heads, value))
            options[name] = torch.from_numpy(values).view(heads, 1, 1)
        return options

    def _accepts(self, name: str, values: np.ndarray) -> bool:
        """Whether all values are in the range of an option."""
        model = registry.options_model(self.function)
        try:
            for value in values.tolist():
                model(**{**self.options, name: value})
        except ValidationError:
            return False
        return True


def unchanged(*tensors: Tensor) -> Callable[[], bool]:
    """A function that says whether tensors are what they are now."""
    copies = [tensor.detach().clone() for tensor in tensors]
    return lambda: all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(copies, tensors, strict=True))
