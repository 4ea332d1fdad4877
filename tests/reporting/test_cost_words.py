"""What a suite will take, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aimonk_bench.errors import UserError
from aimonk_bench.reporting.costs import Costs, EncodingCost, TensorCost, TrainingCost, check_budget, lines

ENCODING = EncodingCost("resnet18 at 224 x 224", images=1000, rows=2000, bytes=4_096_000, images_per_second=20.0)
TRAINING = TrainingCost(runs=24, heads=600, networks=0, seconds=7200.0, measured=24)
COSTS = Costs((ENCODING,), TRAINING, TensorCost("features", (1000, 512), 2_048_000), True, 10**9)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        (COSTS, "to encode: 1000 images, 2000 views with resnet18 at 224 x 224; 2 min at 20 views a second, the fa"),
        (COSTS, "feature store: 4.1 MB more; 1 GB are free"),
        (replace(COSTS, free_bytes=4_000_000), "4 MB are free, which is too little: name a folder"),
        (COSTS, "to train: 600 heads in 24 runs; at most 2 h"),
        (COSTS, "largest tensor in memory: features [1000 x 512], 2.05 MB"),
        (COSTS, "in all: 2.03 h; "),
        (replace(COSTS, are_counted=False), "the images are not hashed"),
        (replace(COSTS, encodings=(replace(ENCODING, rows=0),)), "to encode: nothing with resnet18"),
        (replace(COSTS, encodings=(replace(ENCODING, images_per_second=None),)), "speed is not measured yet"),
        (replace(COSTS, encodings=(replace(ENCODING, bytes=None),)), "and rows whose size is known when"),
        (replace(COSTS, encodings=(replace(ENCODING, is_network=False),)), "to decode: 1000 images"),
        (replace(COSTS, training=replace(TRAINING, measured=20)), "for 20 of the runs"),
        (replace(COSTS, training=replace(TRAINING, measured=0, seconds=0.0)), "without the training of 24 runs"),
        (
            Costs(
                (replace(ENCODING, images_per_second=None),),
                replace(TRAINING, measured=0, seconds=0.0),
                None,
                True,
                10**9,
            ),
            "in all: not known yet; not measured on this machine: encoding with resnet18",
        ),
        (replace(COSTS, training=replace(TRAINING, networks=600)), "600 of them on trainable layers"),
    ],
)
def test_a_line_says_it(costs: Costs, expected: str) -> None:
    assert sum(expected in line for line in lines(costs)) == 1, lines(costs)


def test_no_speed_means_no_number() -> None:
    nothing = replace(
        COSTS,
        encodings=(replace(ENCODING, images_per_second=None),),
        training=replace(TRAINING, seconds=0.0, measured=0),
    )
    assert not any(" a second" in line or "at most" in line for line in lines(nothing))


def test_a_budget_names_the_hours_of_each_part() -> None:
    assert check_budget(COSTS, None) == check_budget(COSTS, 2.03) == []
    with pytest.raises(UserError) as refused:
        check_budget(COSTS, 2.02)
    assert "expected at least 2.03" in refused.value.problems[0]
    assert [line.partition("; fix: ")[0] for line in refused.value.problems[1:]] == [
        "  encoding 2000 views with resnet18 at 224 x 224: 0.0278 hours",
        "  training 600 heads in 24 runs: 2 hours",
    ]
    assert all("; fix: " in line for line in refused.value.problems)
