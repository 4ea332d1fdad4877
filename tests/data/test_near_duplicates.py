"""Perceptual hashes know altered copies, and tell different images apart; the search against brute force."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aimonk_bench.data import near_duplicates
from aimonk_bench.data.images import UndecodableImage
from aimonk_bench.data.near_duplicates import MOST_BITS, Hashes, close_pairs, look_alike, perceptual_hash

Pixels = np.ndarray


def encoded(pixels: Pixels, kind: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(file, kind, **options)
    return file.getvalue()


def blocks(seed: int, cells: int, size: int = 96, interpolation: int = cv2.INTER_CUBIC) -> Pixels:
    """A random image of soft or hard blocks, float [size, size, 3] from 15 to 240."""
    colours = np.random.default_rng(seed).integers(15, 241, (cells, cells, 3)).astype(np.float32)
    return np.clip(cv2.resize(colours, (size, size), interpolation=interpolation), 15, 240)


SOURCES: dict[str, Callable[[int], Pixels]] = {
    "grain": lambda seed: blocks(seed, 24),
    "fine": lambda seed: blocks(seed, 8),
    "smooth": lambda seed: blocks(seed, 6, interpolation=cv2.INTER_LINEAR),
    "hard edges": lambda seed: blocks(seed, 6, interpolation=cv2.INTER_NEAREST),
}


def distance(one: bytes, other: bytes) -> int:
    hashes = perceptual_hash(one), perceptual_hash(other)
    assert None not in hashes
    return (hashes[0] ^ hashes[1]).bit_count()  # type: ignore[operator]


ALTERED: dict[str, Callable[[Pixels], bytes]] = {
    "darker": lambda pixels: encoded(0.8 * pixels),
    "brighter": lambda pixels: encoded(1.1 * pixels),
    "shifted": lambda pixels: encoded(pixels - 15),
    "less contrast": lambda pixels: encoded(128 + 0.7 * (pixels - 128)),
    "half as large": lambda pixels: encoded(cv2.resize(pixels, (48, 48), interpolation=cv2.INTER_AREA)),
    "twice as large": lambda pixels: encoded(cv2.resize(pixels, (192, 192), interpolation=cv2.INTER_LINEAR)),
    "JPEG": lambda pixels: encoded(pixels, "JPEG", quality=75),
    "grey": lambda pixels: encoded(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)),
}


@pytest.mark.parametrize("alteration", ALTERED)
@pytest.mark.parametrize("kind", SOURCES)
def test_altered_copies_are_near_duplicates(kind: str, alteration: str) -> None:
    images = [SOURCES[kind](seed) for seed in range(25)]
    near = [distance(encoded(image), ALTERED[alteration](image)) <= MOST_BITS for image in images]
    assert np.mean(near) >= 0.9


@pytest.mark.parametrize("kind", SOURCES)
def test_different_images_are_not_near_duplicates(kind: str) -> None:
    hashes = [perceptual_hash(encoded(SOURCES[kind](seed))) for seed in range(60)]
    distances = [(one ^ other).bit_count() for one, other in itertools.combinations(hashes, 2)]  # type: ignore[operator]
    assert min(distances) > MOST_BITS


def test_an_image_of_more_bits_is_a_near_duplicate_of_its_8_bit_copy(tmp_path: Path) -> None:
    pixels = SOURCES["fine"](0)
    assert cv2.imwrite(str(tmp_path / "deep.png"), np.rint(pixels[..., ::-1] * 4.01).astype(np.uint16))
    deep, copy = perceptual_hash((tmp_path / "deep.png").read_bytes(), 1023), perceptual_hash(encoded(pixels))
    assert deep is not None
    assert copy is not None
    assert (deep ^ copy).bit_count() <= MOST_BITS


def gradient(*, step: float) -> Pixels:
    ramp = np.arange(64, dtype=np.float32) * step
    return np.repeat((ramp[:, None] + ramp[None])[..., None], 3, axis=2)


@pytest.mark.parametrize(
    "plain", [np.full((64, 64, 3), 255), np.full((64, 64, 3), 90), gradient(step=1), gradient(step=1.9)]
)
def test_images_without_structure_have_no_hash(plain: Pixels) -> None:
    assert perceptual_hash(encoded(plain)) is None


def brute_force(hashes: list[int]) -> set[tuple[int, int, int]]:
    pairs = itertools.combinations(range(len(hashes)), 2)
    near = ((i, j, (hashes[i] ^ hashes[j]).bit_count()) for i, j in pairs)
    return {pair for pair in near if pair[2] <= MOST_BITS}


flips = st.lists(st.integers(0, 63), max_size=7)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 0x0F0F_3355_AA00_FF11, 2**64 - 1]), flips), max_size=40))
def test_the_search_against_brute_force(described: list[tuple[int, list[int]]]) -> None:
    hashes = []
    for value, bits in described:
        for bit in bits:
            value ^= 1 << bit
        hashes.append(value)
    expected = brute_force(hashes)
    pairs = [
        pair
        for chunk in close_pairs(np.array(hashes, np.uint64))
        for pair in zip(*(part.tolist() for part in chunk), strict=True)
    ]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected

    usable = np.arange(len(hashes)) % 5 != 4
    group = look_alike(Hashes(np.array(hashes, np.uint64), usable))
    reach = np.eye(len(hashes), dtype=bool)
    for i, j, _ in expected:
        reach[i, j] = reach[j, i] = usable[i] and usable[j]
    for _ in hashes:
        reach = reach @ reach
    assert ((group[:, None] == group[None]) == reach).all()


def test_chunks_hold_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(0).integers(0, 1 << 7, 300).astype(np.uint64)
    whole = [np.concatenate(parts) for parts in zip(*close_pairs(hashes), strict=True)]
    groups = look_alike(Hashes(hashes, np.ones(300, bool)))
    monkeypatch.setattr(near_duplicates, "_PAIRS_AT_ONCE", 100)
    chunks = [*close_pairs(hashes)]
    assert len(chunks) > 100
    parts = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))
    assert np.array_equal(
        np.unique(groups, return_inverse=True)[1],
        np.unique(look_alike(Hashes(hashes, np.ones(300, bool))), return_inverse=True)[1],
    )


def test_near_duplicates_of_the_aimonk_photographs(aimonk: Path) -> None:
    """Most photographs are different; the few pairs show one photograph, or one garment in several prints."""
    hashes = {}
    for path in sorted((aimonk / "images").iterdir()):
        try:
            hashes[path.read_bytes()] = perceptual_hash(path.read_bytes())
        except UndecodableImage:
            continue
    usable = [value for value in hashes.values() if value is not None]
    assert len(usable) == len(hashes)
    pairs = sum(len(first) for first, _, _ in close_pairs(np.array(usable, np.uint64)))
    assert 28 <= pairs <= 36
