from __future__ import annotations

from pathlib import Path

import pytest
from small_suite import execute

SUITE = """\
extends: small.yaml
suite:
  baseline: {loss: masked_bce, sampler: uniform}
  axes:
    loss: [masked_bce, {name: focal, gamma: 1.0}]
    sampler: [uniform, balanced]
"""


@pytest.fixture(scope="session")
def pair(workplace: Path) -> Path:
    """`pair.yaml`: a suite of two losses and two samplers."""
    (workplace / "pair.yaml").write_text(SUITE)
    return workplace / "pair.yaml"


@pytest.fixture(scope="session")
def suite(pair: Path) -> Path:
    """The folder of `pair.yaml`, executed."""
    out = pair.with_suffix("")
    assert execute(pair, out) == 0
    return out
