"""The whole audit as JSON: attributes, images and pairs by name."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from aimonk_bench.evaluation.audit import NEAR, Audit, copies, cut_chance
from aimonk_bench.records.files import dumps
from aimonk_bench.reporting.audit.findings import findings, n_pairs


def to_json(audit: Audit) -> str:
    """The text of ``aimonk-bench audit --format json``."""
    n = len(audit.attributes)
    return dumps(
        {
            "name": audit.name,
            "n_listed": len(audit.ids) + len(audit.skipped),
            "n_used": len(audit.ids),
            "skipped": [{"image_id": name, "reason": reason} for name, reason in audit.skipped],
            "features": audit.features,
            "folds": audit.folds,
            "findings": [asdict(finding) for finding in findings(audit)],
            "attributes": {name: _attribute(audit, a) for a, name in enumerate(audit.attributes)},
            "pairs": [pair(audit, a, b) for b in range(n) for a in range(b)],
            "dependence_of_missing": [asdict(test) for test in audit.dependence],
            "files": _files(audit),
            "duplicates": _duplicates(audit),
            "suspects": _suspects(audit),
        }
    )


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


def pair(audit: Audit, a: int, b: int) -> dict[str, Any]:
    """How often two attributes are positive, and missing, together."""
    pairs = audit.together
    both, only_a, only_b = int(pairs.both[a, b]), int(pairs.first_only[a, b]), int(pairs.first_only[b, a])
    neither = int(pairs.neither[a, b])

    def share(part: int, whole: int) -> float:
        return part / whole if whole else np.nan

    return {
        "a": audit.attributes[a],
        "b": audit.attributes[b],
        "n_observed": both + only_a + only_b + neither,
        "n_both": both,
        "n_only_a": only_a,
        "n_only_b": only_b,
        "n_neither": neither,
        "phi": float(pairs.phi[a, b]),
        "b_if_a": share(both, both + only_a),
        "b_if_not_a": share(only_b, only_b + neither),
        "a_if_b": share(both, both + only_b),
        "a_if_not_b": share(only_a, only_a + neither),
        "n_both_missing": int(pairs.missing[a, b]),
        "missing_phi": float(pairs.missing_phi[a, b]),
    }


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
    pairs = zip(near.first.tolist(), near.second.tolist(), near.cosine.tolist(), strict=True)
    return {
        "exact": [[audit.ids[row] for row in rows] for rows in repeated],
        "n_exact_pairs": n_pairs(repeated),
        "exact_pairs_cut_by_a_naive_split": n_pairs(repeated) * chance,
        "near_threshold": NEAR,
        "n_near_pairs": near.total,
        "near_pairs_cut_by_a_naive_split": near.total * chance,
        "near_pairs_cut_by_this_split": near.cut,
        "near": [
            {"a": audit.ids[a], "b": audit.ids[b], "cosine": cosine, "cut": bool(audit.part[a] != audit.part[b])}
            for a, b, cosine in pairs
        ],
    }


def _suspects(audit: Audit) -> list[dict[str, Any]]:
    suspects = audit.suspects
    columns = (suspects.row, suspects.attribute, suspects.positive.tolist(), suspects.probability.tolist())
    return [
        {
            "image_id": audit.ids[row],
            "attribute": audit.attributes[a],
            "label": int(positive),
            "probability_of_label": probability,
        }
        for row, a, positive, probability in zip(*columns, strict=True)
    ]
