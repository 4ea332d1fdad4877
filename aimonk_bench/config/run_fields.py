"""The section `run`: how work is executed."""

from __future__ import annotations

import importlib.util
import math
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from aimonk_bench.config.section import Section

MOST_THREADS = 1024  # of one training; with tens of thousands OpenMP ends the process

# Users read a ValueError raised below as "found VALUE, expected MESSAGE".


def _count(value: Any, most: float = math.inf) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= most):
        return value
    raise ValueError(f"auto or a whole number {'of at least 1' if most == math.inf else f'from 1 to {most}'}")


def _seconds(value: Any) -> Any:
    if value is None or (type(value) in (int, float) and 0 < value < float("inf")):
        return value if value is None else float(value)
    raise ValueError("null or a number of seconds above 0")


Executor = Literal["auto", "serial", "processes", "ray"]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[Literal["auto"] | int, BeforeValidator(_count, json_schema_input_type=Literal["auto"] | Positive)]
Threads = Annotated[
    Literal["auto"] | int,
    BeforeValidator(
        partial(_count, most=MOST_THREADS),
        json_schema_input_type=Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_THREADS)],
    ),
]
Seconds = Annotated[
    float | None, BeforeValidator(_seconds, json_schema_input_type=Annotated[float, Field(gt=0)] | None)
]


class RunConfig(Section):
    """How work is executed: it enters no id and is no axis of a suite.

    ``executor``: `serial` does everything in this process, `processes` builds networks, encodes, trains and scores in
    worker processes, `ray` does so on the machines of a Ray cluster (and tries networks, and encodes the first images,
    in a worker process of this one), and `auto` uses processes if there are many runs on frozen features and they
    train on the CPU; the networks of plug-ins it tries, and encodes with, in a worker process. A worker that ends, or
    that takes longer than ``timeout`` seconds for a task (a network, or the heads of a run), costs this task, which is
    tried again ``retries`` times. One that tries a network or encodes may stand still for as long, but at least for
    120 seconds. ``threads`` are torch's for each network or stack of heads that is trained; their number may change the
    last bits of a result, executor and ``workers`` change none.
    """

    executor: Executor = "auto"
    workers: Count = "auto"
    threads: Threads = "auto"
    timeout: Seconds = None
    retries: Annotated[int, Field(ge=0)] = 1

    @field_validator("executor")
    @classmethod
    def _can_be_had(cls, value: str) -> str:
        if value == "ray" and importlib.util.find_spec("ray") is None:
            raise ValueError("the package ray; install it with `pip install 'aimonk_bench[ray]'`, or use processes")
        return value

    @field_validator("workers", "timeout")
    @classmethod
    def _of_workers(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("executor") == "serial" and value not in ("auto", None):
            default = "auto" if info.field_name == "workers" else "null"
            raise ValueError(f"{default}, because executor: serial starts no worker")
        return value
