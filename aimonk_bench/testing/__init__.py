"""Contract tests of entries, for functions of the user: each check raises `AssertionError` with what is violated.

    from aimonk_bench.testing import check_loss

    check_loss(my_loss)                    # with the defaults of its options
    check_loss(my_loss, gamma=0.5)         # with others

The entries of the program pass the same checks.
"""

from aimonk_bench.testing.backbones import check_backbone
from aimonk_bench.testing.losses import check_loss, check_set_loss
from aimonk_bench.testing.missing import check_missing
from aimonk_bench.testing.samplers import check_sampler
from aimonk_bench.testing.thresholds import check_threshold

__all__ = ["check_backbone", "check_loss", "check_missing", "check_sampler", "check_set_loss", "check_threshold"]
