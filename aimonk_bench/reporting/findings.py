"""What a reader should know about the data set: findings in words, the worst first, each with advice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np

from aimonk_bench.config.split_fields import OfficialSplit, Split
from aimonk_bench.data.group_checks import GroupChecks, LargeGroup
from aimonk_bench.data.near_duplicates import MOST_BITS
from aimonk_bench.errors import count
from aimonk_bench.evaluation.audit import Audit, conflicts
from aimonk_bench.evaluation.duplicates import FEWEST_PAIRS, Near, copies, cut_chance
from aimonk_bench.evaluation.missing_dependence import LEVEL, Dependence
from aimonk_bench.reporting.words import DEPENDS_ON, listed, number, one_class, p_value

FEW = 10  # positives or negatives of a fold's validation or test rows; figures that rest on fewer get a warning

_FROM_SOURCES = "Some sources have more NA than others: find out which, and group by source (data.group)."
ADVICE = {
    "labels": "`ignore` assumes that labels are missing at random: compare policies (suite axis `missing`), and read "
    "F1 with its range over NA fillings.",
    "missing": "These labels were probably left out together: ask who labelled them and when. Figures of these "
    "attributes rest on the same kind of image.",
    "size": _FROM_SOURCES,
    "format": _FROM_SOURCES,
    "features": "Figures hold for the kind of image that gets labels. Label a random sample of the NA, and compare "
    "policies (suite axis `missing`).",
}


@dataclass(frozen=True)
class Finding:
    """Something that a reader should know, and what to do about it."""

    level: Literal["warning", "note"]
    kind: str
    text: str
    advice: str


def findings(audit: Audit) -> list[Finding]:
    """Warnings, the worst at the top, then notes."""
    in_order = [
        *_one_class(audit),
        *_no_association(audit),
        *_disagreeing_duplicates(audit),
        *group_findings(audit.scheme, audit.groups, audit.near, audit.ids),
        *_dependent_missing(audit),
        *_few(audit),
        *_suspected_labels(audit),
        *_files(audit),
        *_exact_duplicates(audit),
        *_never_together(audit),
    ]
    return sorted(in_order, key=lambda finding: finding.level != "warning")


def _one_class(audit: Audit) -> Iterator[Finding]:
    if parts := one_class(audit.attributes, audit.counts.positive > 0, audit.counts.negative > 0):
        advice = "Label images of the missing class, or leave the attribute out (data.attributes)."
        yield Finding("warning", "one_class", f"Attributes whose labels are {parts}.", advice)


def _no_association(audit: Audit) -> Iterator[Finding]:
    if np.isnan(audit.adjusted).all():
        return
    if not audit.signal.any():
        p = p_value(float(np.nanmin(audit.adjusted)))
        tested = [a for a, adjusted in enumerate(audit.adjusted) if not np.isnan(adjusted)]
        aucs = listed([f"{audit.attributes[a]} {number(audit.before.auc[a])}" for a in tested])
        text = f"No attribute is associated with the features (smallest adjusted p {p}; AUC of a linear probe: {aucs})."
        advice = (
            "Look at ten images at random and check that each has its own labels; then check the labels. An "
            "association that a linear head on these features cannot use may still exist."
        )
        yield Finding("warning", "no_signal", text, advice)
    elif not audit.signal.all():
        names = list(compress(audit.attributes, ~audit.signal))
        text = f"No association with the features is detectable before training for {listed(names)}."
        yield Finding("note", "no_signal", text, "Expect no gain over all positive there; check labels and counts.")


def _disagreeing_duplicates(audit: Audit) -> Iterator[Finding]:
    disagreement = audit.disagreement
    attributes = np.flatnonzero(disagreement.differing).tolist()
    if attributes:
        shares = listed([_share_of_copies(audit, a) for a in attributes], "; ")
        few = f" Under {FEWEST_PAIRS} pairs are too few for a rate." if disagreement.pairs.min() < FEWEST_PAIRS else ""
        copied = (rows for a in attributes for rows in _differing(audit, a))
        images = dict.fromkeys(" = ".join(audit.ids[row] for row in rows) for rows in copied)
        text = f"Exact duplicates have different labels: {shares}.{few}"
        yield Finding("warning", "duplicates_disagree", text, f"Label again: {listed(list(images), '; ')}.")


def _share_of_copies(audit: Audit, a: int) -> str:
    """How many pairs of copies differ in an attribute, and what that says about the error of its labels."""
    disagreement = audit.disagreement
    pairs, differing = int(disagreement.pairs[a]), int(disagreement.differing[a])
    text = f"{audit.attributes[a]} {differing} of {pairs} pairs"
    if pairs < FEWEST_PAIRS:
        return text
    low, high, chance = (float(values[a]) for values in (disagreement.low, disagreement.high, disagreement.chance))
    share = differing / pairs
    text += f" ({number(share)} [{number(low)}, {number(high)}], chance {number(chance)}"
    text += f"; label error at least {number(share / 2)} [{number(low / 2)}, {number(high / 2)}]"
    return text + ("; no better than unrelated images)" if high >= chance else ")")


def _differing(audit: Audit, a: int) -> list[np.ndarray]:
    """The rows of each group of copies whose observed labels of an attribute differ."""
    observed = [rows[audit.labels.observed[rows, a]] for rows in copies(audit.content)]
    return [rows for rows in observed if len(np.unique(audit.labels.targets[rows, a])) > 1]


def group_findings(scheme: Split, checks: GroupChecks, near: Near | None, ids: Sequence[str]) -> Iterator[Finding]:
    """What is doubtful about groups, with the line of YAML that changes it.

    Args:
        scheme: of the split.
        checks: of the groups.
        near: near duplicates; None before images are hashed.
        ids: [N] names of the images.
    """
    if near is not None and near.cut:
        pairs = zip(near.first[:3], near.second[:3], strict=True)  # those that are cut stand first
        examples = "; ".join(f"{ids[one]} ~ {ids[other]}" for one, other in [*pairs][: near.cut])
        text = (
            f"The split separates {near.cut} of {count(near.total, 'pair')} of near duplicates (perceptual hashes that "
            f"differ in at most {MOST_BITS} of 64 bits), such as {examples}: heads are tested on images very similar "
            "to those that they were trained on."
        )
        official = "The column decides: report this beside the figures. " if isinstance(scheme, OfficialSplit) else ""
        other = "scheme: kfold, " if official else ""
        advice = (
            f"{official}`split: {{{other}near_duplicates: keep_together}}` never separates them. Where a column or the "
            "file name says which images have one source, name it in data.group: that is surer than hashes of images."
        )
        yield Finding("warning", "near_duplicates_cut", text, advice)
    if cut := checks.cut:
        examples = "; ".join(f"{one} ({part}) and {other} ({its_part})" for one, part, other, its_part in cut.examples)
        text = (
            f"The official split cuts {count(cut.groups, 'duplicate group')} (equal bytes, or equal group values) of "
            f"{cut.images} images, such as {examples}."
        )
        advice = "It is used as it is: report this beside the figures. `split: {scheme: kfold}` keeps groups together."
        yield Finding("warning", "groups_cut", text, advice)
    if checks.large:
        text = f"{count(len(checks.large), 'group')} larger than a fold, which has {checks.fold} images: {{}}."
        groups = listed([_described(group) for group in checks.large])
        advice = (
            "Check that each is one source. A token that means an unknown source belongs to data.values.missing; each "
            "of its images is then a group of its own. A group that is really so large: fewer folds."
        )
        yield Finding("warning", "large_group", text.format(groups), advice)
    if stem := checks.stem:
        text = (
            f"{stem.images} images share the beginning of their file names with others ({stem.stems} beginnings), such "
            f"as {stem.examples[0]} and {stem.examples[1]}, and there are no groups."
        )
        advice = (
            f"If {stem.stem} is one source, such as a patient or a video, keep its images together: "
            f'`data: {{group: {{regex: "{stem.pattern}"}}}}`.'
        )
        yield Finding("note", "common_stem", text, advice)


def _described(group: LargeGroup) -> str:
    name = f"{group.value!r}" if group.value is not None else f"that of {group.example}"
    return f"{name} ({count(group.size, 'image')})"


def _dependent_missing(audit: Audit) -> Iterator[Finding]:
    for family, on in DEPENDS_ON.items():
        rejected = [test for test in by_p(audit, family) if test.adjusted < LEVEL]
        if rejected:
            text = f"NA depends on {on}: {listed([describe(test) for test in rejected], '; ')}."
            yield Finding("warning", f"na_depends_on_{family}", text, ADVICE[family])


def by_p(audit: Audit, family: str) -> list[Dependence]:
    """The tests of a family, the smallest p first."""
    return sorted((test for test in audit.dependence if test.family == family), key=lambda test: test.p)


def describe(test: Dependence) -> str:
    """What one test of NA says: ``attr1: NA rate .30 where attr2 is positive, else .05 (adjusted p <.001)``."""
    end = f"(adjusted p {p_value(test.adjusted)})"
    if test.family == "features":
        return f"{test.attribute}, predicted with AUC {number(test.found)} {end}"
    if test.family == "size":
        digits = ",.0f" if test.on == "pixels" else ".2f"
        medians = f"{test.found:{digits}} where NA, else {test.otherwise:{digits}}"
        return f"{test.attribute} on {test.on}: median {medians} {end}"
    where = {"labels": f"where {test.on} is positive", "missing": f"where {test.on} is NA", "format": test.on}
    return f"{test.attribute}: NA rate {number(test.found)} {where[test.family]}, else {number(test.otherwise)} {end}"


def _few(audit: Audit) -> Iterator[Finding]:
    counts = audit.counts
    fewest, test = counts.smallest[1:].min(axis=0), counts.smallest[2]  # [2, A]
    cases = [
        (fewest[state, a], test[state, a], f"{name} {count(fewest[state, a], word)} ({test[state, a]} to test on)")
        for a, name in enumerate(audit.attributes)
        for state, word in enumerate(("positive", "negative"))
        if fewest[state, a] < FEW and counts.positive[a] and counts.negative[a]
    ]
    rare = [text for *_, text in sorted(cases, key=lambda case: case[:2])]  # the fewest first
    if rare:
        text = f"Thresholds and figures rest on few labels; fewest of a fold's validation or test rows: {listed(rare)}."
        yield Finding("warning", "few", text, "Label more of the rare class, or use fewer folds or a larger split.val.")


def _suspected_labels(audit: Audit) -> Iterator[Finding]:
    totals = audit.suspects.total
    if totals.any():
        shares = [f"{name} {total}" for name, total in zip(audit.attributes, totals.tolist(), strict=True) if total]
        text = (
            f"A linear probe contradicts {count(int(totals.sum()), 'label')}: {listed(shares)}. This is no error rate: "
            "with perfect labels it would contradict 43-50 % of them at AUC .5, 12-19 % at .75, 3-7 % at .9."
        )
        advice = "Check the list below from the top; stop when you find no more errors."
        yield Finding("note", "suspected_labels", text, advice)


def _files(audit: Audit) -> Iterator[Finding]:
    files = audit.files
    if audit.skipped:
        names = listed([f"{name} ({reason})" for name, reason in audit.skipped])
        yield Finding("warning", "skipped", f"Skipped: {names}.", "Restore the files, or delete their lines.")
    if files.misnamed:
        names = listed([f"{audit.ids[row]} is {kind}" for row, kind in files.misnamed])
        advice = "aimonk_bench reads the content; rename the files, because other tools may go by the name."
        yield Finding("note", "misnamed", f"The file name says another format: {names}.", advice)
    if transparent := [audit.ids[row] for row in np.flatnonzero(files.transparent)]:
        text = f"{count(len(transparent), 'image')} with transparency: {listed(transparent)}."
        advice = "They are laid over white; make sure that the images in use are treated alike."
        yield Finding("note", "transparent", text, advice)
    grey = [audit.ids[row] for row in np.flatnonzero(files.grey)]
    if grey and len(grey) < len(audit.ids):
        text = f"{count(len(grey), 'image')} stored without colours among coloured ones: {listed(grey)}."
        advice = "They become three equal channels; make sure that colour does not give a label away."
        yield Finding("note", "grey", text, advice)


def _exact_duplicates(audit: Audit) -> Iterator[Finding]:
    pairs = n_pairs(copies(audit.content))
    if pairs:
        separated = f"{pairs * cut_chance(audit.part):.1f}"
        text = (
            f"{count(pairs, 'pair')} of exact duplicates: a split that ignores them separates {separated} on average."
        )
        advice = "Nothing to do: images of equal bytes are kept together here. Keep it in mind with other tools."
        yield Finding("note", "duplicates", text, advice)


def n_pairs(groups: list[np.ndarray]) -> int:
    """Number of pairs within groups of copies."""
    return sum(len(rows) * (len(rows) - 1) // 2 for rows in groups)


def _never_together(audit: Audit) -> Iterator[Finding]:
    words = {
        "exclusive": "{a} and {b} are never both positive",
        "one of": "{a} or {b} is always positive",
        "implies": "{a} is never positive without {b}",
    }
    by_surprise = sorted(conflicts(audit.together), key=lambda conflict: -conflict[3])
    texts = [words[kind].format(a=audit.attributes[a], b=audit.attributes[b]) for kind, a, b, _ in by_surprise]
    if texts:
        advice = "If that holds by definition, nothing is wrong; if not, look at how these attributes were labelled."
        yield Finding("note", "never", f"{listed(texts, '; ')}.", advice)
