"""One plain word for each attribute: whether its decisions are of use. The model card and the report say the same."""

from __future__ import annotations

from typing import Literal

from aimonk_bench.evaluation.verdict import Signal

Word = Literal["works", "weak", "not better than guessing", "cannot be told"]

USEFUL_AUC = 0.8  # of a ranking that is worth having; tests that would miss it cannot rule it out

MEANING: dict[Word, str] = {
    "works": "F1 above that of calling every image positive is shown",
    "weak": "the scores rank better than chance, but no F1 above that of calling every image positive is shown",
    "not better than guessing": f"an AUC of {USEFUL_AUC:g} would have been found with 80 % probability, and was not",
    "cannot be told": "there are too few labels of one class to find even a useful ranking, or the features are "
    "associated with the attribute and the trained scores are not shown to have learned it",
}


def words(signal: Signal) -> list[Word]:
    """The word of each attribute, [A]. The first rule that holds decides:

    - works: a gain in F1 over the all-positive baseline is claimed (adjusted by Holm).
    - weak: the test after training claims that the scores rank better than chance (adjusted by Holm).
    - not better than guessing: the tests would have found an AUC of `USEFUL_AUC` with 80 % probability, and neither
      claims anything.
    - cannot be told: all else. They would not have, or a class was not observed, or only the test before training
      claims an association, which the trained scores are not shown to have learned.
    """
    columns = zip(signal.gains, signal.ranked, signal.has_signal, signal.detectable_auc.tolist(), strict=True)
    return [_word(*column) for column in columns]


def _word(gains: bool, ranked: bool, associated: bool, detectable_auc: float) -> Word:
    if gains:
        return "works"
    if ranked:
        return "weak"
    could_be_found = detectable_auc <= USEFUL_AUC  # not so where it is NaN
    return "not better than guessing" if could_be_found and not associated else "cannot be told"
