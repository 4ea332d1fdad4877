"""What a cell of a label file looks like: a number, a common spelling of a label, the name of an image file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from aimonk_bench.config.fields import number_of, value_of

# Lower case, in a few languages. A token that only looks like a label is never read as one: `data.values` declares it.
_NOT_KNOWN = (  # no tag has such a name
    "na|n/a|#n/a|<na>|nan|nat|none|null|?|-|unknown|undefined|unbekannt|unklar|keine angabe|k.a.|k. a.|inconnu|"
    "inconnue|indéfini|desconocido|desconhecido|"
    "sconosciuto|onbekend|nieznane|неизвестно|未知|不明"
)
_SPELLINGS = {
    "positive": "yes|y|true|t|present|positive|pos|ja|j|wahr|vorhanden|positiv|oui|vrai|présent|positif|si|sí|sì|"
    "verdadero|vero|presente|positivo|sim|verdadeiro|waar|tak|да|是|はい",
    "negative": "no|n|false|f|absent|negative|neg|nein|falsch|nicht vorhanden|fehlt|negativ|non|faux|négatif|falso|"
    "ausente|assente|negativo|não|nao|nee|nej|nei|onwaar|nie|нет|否|いいえ",
    "missing": f"|n.a.|nil|missing|empty|blank|--|unk|uncertain|not mentioned|not available|{_NOT_KNOWN}",
}
NO_TAGS = frozenset(_NOT_KNOWN.split("|"))
MOST_WORDS = 5  # in a column of labels that are no common spelling
MARKS = ("x", "✓", "✔", "•", "*", "+")  # lower case; a cell that is marked, beside empty ones
UNKNOWN_CODES = (-999.0, -99.0, -9.0, -2.0, 9.0, 99.0, 999.0)  # numbers that stand for "not known" beside 0 and 1
STATE_OF_SPELLING = {word: state for state, words in _SPELLINGS.items() for word in words.split("|")}
# Of files that an image name without suffix may mean; a text file or a mask as .npy of the same stem is none of them.
IMAGE_SUFFIX = re.compile(
    r"\.(jpe?g?|jfif|png|bmp|dib|gif|tiff?|webp|jp2|j2k|p[gpbn]m|pfm|hdr|exr|avif|heic|heif|dcm)$", re.IGNORECASE
)


def decimal_of(token: str) -> float | None:
    """The number that a token writes with a point or a comma, or None."""
    return number_of(token.replace(",", "."))


def spelling_of(token: str) -> str | None:
    """The state, positive, negative or missing, that a token commonly spells: a word, 1 or 0."""
    number = decimal_of(token)
    if number is None:
        return STATE_OF_SPELLING.get(token.casefold())
    return {1.0: "positive", 0.0: "negative"}.get(number)


def state_of(token: str, minus_one: str) -> str | None:
    """The state that a token of a column of labels means, a mark or a code for not known too; None if not known.

    Args:
        minus_one: the state that -1 means.
    """
    number = decimal_of(token)
    if number == -1:
        return minus_one
    return "missing" if number in UNKNOWN_CODES else "positive" if token.casefold() in MARKS else spelling_of(token)


def guessed_states(
    columns: Iterable[Iterable[str]], counts: Mapping[str, int], states: Mapping[str, str]
) -> dict[str, str]:
    """The likely states of tokens that are no common spelling: of such words, the most frequent means no.

    Where other tokens mean yes and no, and the column has some of them, the word is a label that is not known.

    Args:
        columns: the tokens of each column; a token has one state in all of them, in upper and lower case.
        counts: token -> rows.
        states: those of the tokens that are understood.
    """
    state_of_word = {_plain(token): state for token, state in states.items()}
    rows: Counter[str | float] = Counter()
    for token, count in counts.items():
        rows[_plain(token)] += count
    columns = [*map(list, columns)]
    everywhere = {*states.values()} - {"missing"}
    for tokens in columns:
        distinct = dict.fromkeys(map(_plain, tokens))
        words = sorted((word for word in distinct if word not in state_of_word), key=lambda word: -rows[word])
        present = {state_of_word[word] for word in distinct if word in state_of_word} - {"missing"}
        present |= everywhere if present else set()
        if len(present) == 2:
            state_of_word |= dict.fromkeys(words, "missing")
        elif present == {"positive"}:
            state_of_word |= dict.fromkeys(words, "negative")
        else:
            state_of_word |= dict.fromkeys(words, "positive")
            state_of_word |= {words[0]: "negative"} if not present and len(words) > 1 else {}
    return {token: state_of_word[_plain(token)] for tokens in columns for token in tokens if token not in states}


def _plain(token: str) -> str | float:
    """What tokens are alike by: numbers by value, words without regard to case."""
    return value_of(token.casefold())


def is_value(token: str) -> bool:
    """Whether a token is a number or a common spelling of a label: the cells of a label column are."""
    return decimal_of(token) is not None or token.casefold() in STATE_OF_SPELLING


def is_missing(token: str) -> bool:
    """Whether a token commonly spells a missing label, as ``NA`` and an empty cell do."""
    return STATE_OF_SPELLING.get(token.casefold()) == "missing"


def is_image_file(token: str) -> bool:
    """Whether a token ends like the name of an image file."""
    return IMAGE_SUFFIX.search(token) is not None
