"""How far a piece of work is, as it is reported."""

from __future__ import annotations

from collections.abc import Callable

# gets the phase, the units of work done, and how many there will be; None: it is not known
Progress = Callable[[str, int, int | None], None]
