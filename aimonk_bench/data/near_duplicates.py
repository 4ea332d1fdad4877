"""Perceptual hashes, and the pairs of images that look alike: near duplicates.

The hash depends on the pixels alone, not on a backbone or on `transform.size`: groups are the same for every run.

Near duplicates are 32 pairs of 965 distinct product photographs (Aimonk): the same photograph, or one garment in
several prints; 1,071 pairs of 2,624 solar cells (ELPV): cells photographed twice, and cells that only look alike, the
largest group of 61; none of 1,000 synthetic images. Of altered copies, of every 16th image of the three, it finds at
least 98 % of those that are darker by 15 or 30 %, half as large, blurred, noisy, or saved again as JPEG of quality 40;
at least 95 % of those that are brighter by 15 %; 83 to 94 % of those that are brighter by 30 %, where bright areas
become white; few with 5 % cut off on each side. At 4 bits it would find 85 % of photographs that are brighter by 15 %;
at 8 bits the largest group of solar cells would have 428.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aimonk_bench.data.images import decode

# Part of the name of the stored hashes: raise it whenever a change below changes a hash, or `hash_store` its layout.
HASH_REVISION = 2
MOST_BITS = 6  # by which the hashes of near duplicates differ; see above
SIZE = 32  # edge of the image that is hashed, in pixels
LOW = 8  # frequencies of each axis that enter the hash
# A coefficient below it is rounding: 2 is an eighth of a grey level. Smooth images have many; their signs are noise.
SMALLEST = 2.0
# Coefficients above SMALLEST that a hash needs: one colour or one gradient is like any other.
FEWEST_COEFFICIENTS = 24
_BANDS = MOST_BITS + 1  # two hashes that differ in MOST_BITS bits agree in one of them
_PAIRS_AT_ONCE = 1 << 20

Pairs = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Hashes:
    """The perceptual hashes of N images.

    Attributes:
        bits: [N] uint64.
        usable: [N] bool; False where an image is too plain to be recognised, its bits are 0 and it is like no other.
    """

    bits: NDArray[np.uint64]
    usable: NDArray[np.bool_]


def perceptual_hash(data: bytes, white: int | None = None) -> int | None:
    """The hash of an image file; None if the image is too plain, such as one colour.

    The image is squashed to 32 x 32 grey pixels. A bit is 1 where one of the 8 x 8 lowest coefficients of their cosine
    transform is above the median of all, and above rounding; the first, which is the brightness, does not enter.

    Args:
        data: the bytes of the file.
        white: of the data set, see `images.decode`.

    Raises:
        UndecodableImage: with the reason.

    Source: pHash (Zauner 2010, Implementation and benchmarking of perceptual image hash functions).
    """
    grey = cv2.cvtColor(decode(data, SIZE, "bilinear", fast=True, white=white), cv2.COLOR_RGB2GRAY)
    coefficients = cv2.dct(grey.astype(np.float32))[:LOW, :LOW].ravel()[1:]
    if (np.abs(coefficients) > SMALLEST).sum() < FEWEST_COEFFICIENTS:
        return None
    bits = coefficients > max(np.median(coefficients), SMALLEST)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def close_pairs(hashes: NDArray[np.uint64]) -> Iterator[Pairs]:
    """All pairs of hashes [N] that differ in at most `MOST_BITS` bits: (first row, second row, bits that differ).

    Two such hashes are equal in at least one of seven bands of bits. Only hashes with an equal band are compared, each
    with the next, the one after, and so on in the order of that band (multi-index hashing, Norouzi et al. 2012). A pair
    is yielded once, in chunks of about a million. Memory grows with N, not with the number of pairs.
    """
    chunk: list[Pairs] = []
    size = 0
    for pairs in _in_each_band(hashes):
        chunk.append(pairs)
        size += len(pairs[0])
        if size >= _PAIRS_AT_ONCE:
            yield _joined(chunk)
            chunk, size = [], 0
    if size:
        yield _joined(chunk)


def _joined(chunk: list[Pairs]) -> Pairs:
    first, second, distance = (np.concatenate(parts) for parts in zip(*chunk, strict=True))
    return first, second, distance


def _in_each_band(hashes: NDArray[np.uint64]) -> Iterator[Pairs]:
    masks = [sum(1 << bit for bit in range(band, 64, _BANDS)) for band in range(_BANDS)]
    for number, mask in enumerate(masks):
        keys = hashes & np.uint64(mask)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        place = np.arange(len(keys))  # in `order`, of hashes whose band equals that of the one ``step`` places later
        for step in itertools.count(1):
            place = place[place + step < len(keys)]
            place = place[keys[place] == keys[place + step]]
            if not len(place):
                break
            one, other = order[place], order[place + step]
            differing = hashes[one] ^ hashes[other]
            distance = np.bitwise_count(differing)
            close = distance <= MOST_BITS
            for earlier in masks[:number]:  # that has yielded the pair already
                close &= (differing & np.uint64(earlier)) != 0
            yield np.minimum(one, other)[close], np.maximum(one, other)[close], distance[close]


def look_alike(hashes: Hashes) -> NDArray[np.intp]:
    """[N] group numbers: images are in one group if a chain of near duplicates connects them; equal hashes too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.flatnonzero(hashes.usable)
    bits, distinct = np.unique(hashes.bits[rows], return_inverse=True)  # n equal hashes alone would be n^2 / 2 pairs
    group_of_bits = np.arange(len(bits))
    for one, other, _ in close_pairs(bits):
        edges = coo_array((np.ones(len(one), bool), (group_of_bits[one], group_of_bits[other])), shape=2 * bits.shape)
        group_of_bits = connected_components(edges, directed=False)[1][group_of_bits]
    group = np.arange(len(hashes.bits))
    group[rows] = len(group) + group_of_bits[distinct]
    return group
