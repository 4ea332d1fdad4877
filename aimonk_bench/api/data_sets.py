"""Data sets that are made or fetched: what the verbs of `aimonk-bench data` call."""

from aimonk_bench.data.elpv import write as elpv
from aimonk_bench.data.synthetic import write as synthetic

__all__ = ["elpv", "synthetic"]
