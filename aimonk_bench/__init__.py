"""aimonk_bench: benchmark recipes for partly labelled, skewed, multi-label images."""

__version__ = "0.2.0"
