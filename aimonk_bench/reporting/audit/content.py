"""Everything that an audit says as plain data, with attributes, images and pairs by name: what the JSON holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from aimonk_bench.evaluation.audit import Audit
from aimonk_bench.evaluation.duplicates import NEAR, copies, cut_chance
from aimonk_bench.reporting.audit.findings import findings, n_pairs


def content(audit: Audit) -> dict[str, Any]:
    """The content of ``aimonk-bench audit --format json``; NaN is undefined."""
    return {
        "name": audit.name,
        "n_listed": len(audit.ids) + len(audit.skipped),
        "n_used": len(audit.ids),
        "skipped": [{"image_id": name, "reason": reason} for name, reason in audit.skipped],
        "features": audit.features,
        "folds": audit.folds,
        "findings": [asdict(finding) for finding in findings(audit)],
        "attributes": {name: _attribute(audit, a) for a, name in enumerate(audit.attributes)},
        "pairs": _pairs(audit),
        "dependence_of_missing": [asdict(test) for test in audit.dependence],
        "files": _files(audit),
        "duplicates": _duplicates(audit),
        "suspects": _suspects(audit),
    }


def _attribute(audit: Audit, a: int) -> dict[str, Any]:
    counts, disagreement = audit.counts, audit.disagreement
    return {
        **{f"n_{name}": getattr(counts, name)[a] for name in ("positive", "negative", "missing", "groups")},
        "prevalence": counts.prevalence[a],
        "missing_rate": counts.missing_rate[a],
        **{
            f"min_{part}_{state}": counts.smallest[p, s, a]
            for p, part in enumerate(("train", "val", "test"))
            for s, state in enumerate(("positive", "negative"))
        },
        "signal": {
            "p": audit.before.p[a],
            "adjusted": audit.adjusted[a],
            "auc": audit.before.auc[a],
            "shown": audit.signal[a],
            "note": audit.before.notes[a],
        },
        "duplicates": {field.name: getattr(disagreement, field.name)[a] for field in fields(disagreement)},
        "n_suspects": audit.suspects.total[a],
    }


def _pairs(audit: Audit) -> list[dict[str, Any]]:
    """How often two attributes are positive, and missing, together."""
    b, a = np.tril_indices(len(audit.attributes), -1)
    names, together = np.array(audit.attributes, dtype=object), audit.together
    both, only_a, only_b, neither, missing = (
        matrix[a, b].astype(int)
        for matrix in (together.both, together.first_only, together.first_only.T, together.neither, together.missing)
    )
    return _records(
        a=names[a],
        b=names[b],
        n_observed=both + only_a + only_b + neither,
        n_both=both,
        n_only_a=only_a,
        n_only_b=only_b,
        n_neither=neither,
        phi=together.phi[a, b],
        b_if_a=_ratio(both, both + only_a),
        b_if_not_a=_ratio(only_b, only_b + neither),
        a_if_b=_ratio(both, both + only_b),
        a_if_not_b=_ratio(only_a, only_a + neither),
        n_both_missing=missing,
        missing_phi=together.missing_phi[a, b],
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.where(whole, whole, np.nan)


def _records(**columns: Iterable[Any]) -> list[dict[str, Any]]:
    """Columns as one map for each row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _files(audit: Audit) -> dict[str, Any]:
    files = audit.files
    return {
        "formats": files.formats,
        "width": {"min": files.width.min(), "median": np.median(files.width), "max": files.width.max()},
        "height": {"min": files.height.min(), "median": np.median(files.height), "max": files.height.max()},
        "misnamed": [{"image_id": audit.ids[row], "format": kind} for row, kind in files.misnamed],
        "transparent": [audit.ids[row] for row in np.flatnonzero(files.transparent)],
        "grey": {"n": files.grey.sum(), "all": bool(files.grey.all())},
    }


def _duplicates(audit: Audit) -> dict[str, Any]:
    near, repeated, chance = audit.near, copies(audit.content), cut_chance(audit.part)
    ids = np.array(audit.ids)
    cut = audit.part[near.first] != audit.part[near.second]
    return {
        "exact": [ids[rows].tolist() for rows in repeated],
        "n_exact_pairs": n_pairs(repeated),
        "exact_pairs_cut_by_a_naive_split": n_pairs(repeated) * chance,
        "near_threshold": NEAR,
        "n_near_pairs": near.total,
        "near_pairs_cut_by_a_naive_split": near.total * chance,
        "near_pairs_cut_by_this_split": near.cut,
        "near": _records(a=ids[near.first], b=ids[near.second], cosine=near.cosine, cut=cut),
    }


def _suspects(audit: Audit) -> list[dict[str, Any]]:
    suspects = audit.suspects
    return _records(
        image_id=np.array(audit.ids)[suspects.row],
        attribute=np.array(audit.attributes)[suspects.attribute],
        label=suspects.positive.astype(int),
        probability_of_label=suspects.probability,
    )
