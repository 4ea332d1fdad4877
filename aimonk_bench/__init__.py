"""aimonk_bench: benchmark recipes for partly labelled, skewed, multi-label pictures."""

__version__ = "0.1.0"
