"""Views: their probabilities, their pixels, and what the config check says of transforms."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.transforms import FLIPS, check, render, views

SIZE = 32
IMAGE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
DRAWN: list[dict[str, dict[str, Any]]] = [
    {"RandomResizedCrop": {"size": [24, 24], "scale": [0.5, 1.0]}},
    {"ColorJitter": {}},
    {"Affine": {"rotate": [-20, 20], "p": 1}},
    {"GaussNoise": {}},
]


def config(train: list[dict[str, dict[str, Any]]], number: str | int = "exact") -> TransformConfig:
    return TransformConfig(size=SIZE, train=train, views=number)


def digest(number: int) -> str:
    return f"{number:064x}"


# --- exact views


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ([], {"identity": 1.0}),
        ([{"HorizontalFlip": {}}], {"identity": 0.5, "h": 0.5}),
        ([{"HorizontalFlip": {"p": 0}}], {"identity": 1.0}),
        ([{"HorizontalFlip": {"p": 1}}], {"identity": 0.0, "h": 1.0}),
        ([{"VerticalFlip": {"p": 0.25}}], {"identity": 0.75, "v": 0.25}),
        ([{"HorizontalFlip": {"p": 1}}, {"VerticalFlip": {"p": 0.5}}], {"identity": 0.0, "h": 0.5, "hv": 0.5}),
        ([{"VerticalFlip": {"p": 1}}, {"HorizontalFlip": {"p": 1}}], {"identity": 0.0, "hv": 1.0}),
        ([{"HorizontalFlip": {"p": 1}}, {"HorizontalFlip": {"p": 0.25}}], {"identity": 0.25, "h": 0.75}),
    ],
)
def test_exact_views_and_their_probabilities(
    train: list[dict[str, dict[str, Any]]], expected: dict[str, float]
) -> None:
    assert check(train, "exact", SIZE) == []
    stored = views(config(train))
    assert dict(zip(stored.keys, stored.probabilities, strict=True)) == expected
    assert stored.keys[0] == "identity"


@given(st.lists(st.tuples(st.sampled_from(["HorizontalFlip", "VerticalFlip"]), st.floats(0, 1)), max_size=5))
def test_probabilities_are_those_of_enumerating_every_draw(flips: list[tuple[str, float]]) -> None:
    expected: Counter[str] = Counter()
    for drawn in np.ndindex(*[2] * len(flips)):
        sides = [name for (name, _), on in zip(flips, drawn, strict=True) if on]
        key = "h" * (sides.count("HorizontalFlip") % 2) + "v" * (sides.count("VerticalFlip") % 2)
        expected[key or "identity"] += float(
            np.prod([p if on else 1 - p for (_, p), on in zip(flips, drawn, strict=True)])
        )
    stored = views(config([{name: {"p": p}} for name, p in flips]))
    assert stored.probabilities.sum() == pytest.approx(1)
    for key, p in expected.items():
        probability = dict(zip(stored.keys, stored.probabilities, strict=True)).get(key, 0)
        assert probability == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("key", FLIPS)
def test_flips_are_those_of_numpy(key: str) -> None:
    expected = IMAGE
    for axis in {"identity": [], "h": [1], "v": [0], "hv": [0, 1]}[key]:
        expected = np.flip(expected, axis)
    view = render(IMAGE, digest(0), key, config([]))
    np.testing.assert_array_equal(view, expected)
    assert view.flags.c_contiguous


def test_drawn_flips_fall_as_often_as_the_exact_probabilities_say() -> None:
    train = [{"HorizontalFlip": {"p": 0.3}}, {"VerticalFlip": {"p": 0.6}}]
    exact = views(config(train))
    [key] = views(config(train, 1)).keys[1:]
    sides = {render(IMAGE, digest(0), name, config([])).tobytes(): name for name in FLIPS}
    draws = 2000
    seen = Counter(sides[render(IMAGE, digest(n), key, config(train, 1)).tobytes()] for n in range(draws))
    for name, p in zip(exact.keys, exact.probabilities, strict=True):
        assert seen[name] / draws == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / draws))  # four standard errors


# --- drawn views


def test_drawn_views_are_uniform_and_never_the_identity() -> None:
    stored = views(config(DRAWN, 4))
    assert len(set(stored.keys)) == 5
    np.testing.assert_array_equal(stored.probabilities, [0, 0.25, 0.25, 0.25, 0.25])
    assert views(config(DRAWN, 2)).keys == stored.keys[:3]  # more views keep the stored ones


def test_keys_tell_transforms_and_arguments_apart() -> None:
    trains = [
        [{"Rotate": {}}],
        [{"Rotate": {"limit": 20}}],
        [{"Rotate": {}}, {"Blur": {}}],
        [{"Blur": {}}, {"Rotate": {}}],
    ]
    assert len({views(config(train, 1)).keys for train in trains}) == len(trains)


def test_a_drawn_view_depends_on_image_and_key_alone() -> None:
    transform = config(DRAWN, 3)
    assert check(DRAWN, 3, SIZE) == []
    jobs = [(digest(number), key) for number in range(6) for key in views(transform).keys]
    np.random.default_rng(1).shuffle(jobs)
    once = {job: render(IMAGE, *job, transform) for job in jobs}
    with ThreadPoolExecutor(4) as pool:
        again = dict(
            zip(reversed(jobs), pool.map(lambda job: render(IMAGE, *job, transform), reversed(jobs)), strict=True)
        )
    for job in jobs:
        np.testing.assert_array_equal(once[job], again[job])
    assert len({view.tobytes() for view in once.values()}) == 6 * 3 + 1  # all differ but the identities
    assert {(view.shape, view.dtype) for view in once.values()} == {((SIZE, SIZE, 3), np.dtype(np.uint8))}


# --- the check


def reported(train: list[dict[str, dict[str, Any]]], number: str | int) -> list[tuple[tuple[str | int, ...], str]]:
    return [(problem.path[1:], str(problem)) for problem in check(train, number, SIZE)]


def test_arguments_of_flips_are_checked() -> None:
    problems = reported([{"HorizontalFlip": {"p": 1.5, "probability": 1}}, {"VerticalFlip": {"p": True}}], "exact")
    assert [path for path, _ in problems] == [
        (0, "HorizontalFlip", "p"),
        (0, "HorizontalFlip", "probability"),
        (1, "VerticalFlip", "p"),
    ]


@pytest.mark.parametrize("name", ["Resize", "Normalize", "ToTensorV2", "ToTensor", "ToFloat"])
@pytest.mark.parametrize("number", ["exact", 2])
def test_steps_that_are_implied_are_refused(name: str, number: str | int) -> None:
    [(path, text)] = reported([{name: {}}], number)
    assert path == (0, name)
    assert "implied" in text


def test_exact_refuses_other_random_transforms_and_names_the_way_out() -> None:
    [(path, text)] = reported([{"HorizontalFlip": {}}, {"Rotate": {}}], "exact")
    assert path == (1, "Rotate")
    assert "views: K" in text


@pytest.mark.parametrize("number", ["exact", 2])
def test_unknown_transforms_get_the_nearest_name(number: str | int) -> None:
    [(path, text)] = reported([{"HorizontalFlop": {}}], number)
    assert path == (0, "HorizontalFlop")
    assert text.endswith("(did you mean HorizontalFlip?)")


@pytest.mark.parametrize(
    ("name", "arguments", "place", "text"),
    [
        ("Rotate", {"limits": 20}, ("limits",), "did you mean limit?"),
        ("Rotate", {"limit": "20"}, ("limit",), "number"),
        ("Rotate", {"limit": True}, ("limit",), "number"),
        ("Rotate", {"p": "0.5"}, ("p",), "number"),
        ("Rotate", {"p": 2}, ("p",), "less than or equal to 1"),
        ("RandomBrightnessContrast", {"brightness_limit": [0.1, float("nan")]}, ("brightness_limit",), "finite"),
        ("RandomCrop", {"height": 8}, (), "'width', which is required"),
        ("RandomCrop", {"height": 64, "width": 64}, (), "works on a 32 x 32 image"),
        ("CropAndPad", {}, (), "cannot be None"),
        ("MaskDropout", {}, (), "alone"),
        ("FDA", {}, (), "alone"),
        ("FromFloat", {}, (), "uint8"),
    ],
)
def test_arguments_are_checked_against_the_transform(
    name: str, arguments: dict[str, Any], place: tuple[str, ...], text: str
) -> None:
    [(path, message)] = reported([{name: arguments}], 2)
    assert path == (0, name, *place)
    assert text in message


def test_all_problems_are_reported_at_once() -> None:
    train: list[dict[str, dict[str, Any]]] = [{"Rotate": {"limit": "a", "q": 1}}, {"Bluur": {}}, {"Normalize": {}}]
    assert [path for path, _ in reported(train, 2)] == [
        (0, "Rotate", "q"),
        (0, "Rotate", "limit"),
        (1, "Bluur"),
        (2, "Normalize"),
    ]


def test_views_of_nothing_random_are_refused() -> None:
    [problem] = check([], 3, SIZE)
    assert problem.path == ("views",)


def test_flips_import_neither_albumentations_nor_torch() -> None:
    code = """if True:
        import sys
        import numpy as np
        from aimonk_bench.config.fields import TransformConfig
        from aimonk_bench.data import transforms
        transform = TransformConfig()
        assert not transforms.check(transform.train, transform.views, transform.size)
        for key in transforms.views(transform).keys:
            transforms.render(np.zeros((224, 224, 3), np.uint8), "0" * 64, key, transform)
        assert not {"albumentations", "torch"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)
