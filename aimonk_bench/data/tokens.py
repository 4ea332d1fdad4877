"""What a cell of a label file looks like: a number, a common spelling of a label, the name of an image file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

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
TICKS = ("+", "✓", "✔", "√", "☑", "✅")
CROSSES = ("-", "−", "–", "x", "×", "✗", "✘", "❌")  # beside a tick they mean no
MARKS = (*TICKS, *CROSSES[3:], "•", "●", "*")  # lower case; a cell that is marked, beside empty ones
UNKNOWN_CODES = (-999.0, -99.0, -9.0, -2.0, 9.0, 99.0, 999.0)  # numbers that stand for "not known" beside 0 and 1
_EXAMINED = (  # how "not assessed", "unlabelled" and the like begin
    "assess|evaluat|exam|test|done|determin|known|avail|applic|mention|record|rated|label|annotat|grade|report|sure|"
    "certain|clear|collect|perform|scor|check|review|decid|beurteil|bewert|untersucht|geprüft|bekannt|sicher"
)
_GUESSES = (  # pattern of a word that is no common spelling -> what it probably means
    (rf"(not|non|nicht|un)[ _-]?({_EXAMINED}).*|in(determin|conclus).*|equivocal|ambiguous|pending|maybe|u", "missing"),
    (r"(no|not|non|without|nicht|ohne|sans|sin|sem|senza|geen)[ _-].+|kein.*|[无無没].+|normal|ok", "negative"),
    (r"p|abnormal|nok", "positive"),
)
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


def state_of(token: str) -> str | None:
    """The state that a token of a column of labels may mean, a mark or a code for not known too; None if not known."""
    if decimal_of(token) in (-1, *UNKNOWN_CODES):
        return "missing"
    return "positive" if _is_mark(token) else spelling_of(token)


def states_in_context(columns: Sequence[Collection[str]], states: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """(token, state, whether it is a guess) of the tokens whose meaning depends on what their columns hold beside them.

    | token | means |
    |---|---|
    | `-` or a cross | no beside a tick: `+` and `-` |
    | a tick, a cross or another mark | yes; beside other tokens for yes and for no it is a guess, not known |
    | -1 | no; not known where a column has another token for no, or an empty cell and other columns such a token |
    | 9, -99 and the like | not known, a guess; 9 is a number where 8 stands beside it, or no other number means yes |
    | a number above 1 beside 0 | yes, a guess: a count, or 255 of a mask |

    Args:
        columns: the tokens of each.
        states: of the tokens that mean the same everywhere.
    """
    for token in dict.fromkeys(token for column in columns for token in column):
        number, word = decimal_of(token), token.casefold()
        beside = [[other for other in column if other != token] for column in columns if token in column]
        of_columns = [{states.get(other) for other in column} for column in beside]
        numbers = [{decimal_of(other) for other in column} for column in beside]
        ticked = any(is_tick(other) for column in beside for other in column)
        if word in CROSSES and ticked:
            yield token, "negative", word == "x"
        elif _is_mark(token):
            unclear = any({"positive", "negative"} <= present for present in of_columns)
            yield (
                token,
                "missing" if unclear else "positive",
                any(present - {None, "missing"} for present in of_columns),
            )
        elif number == -1:
            other_no = {"negative", "missing"} if "negative" in states.values() else {"negative"}
            yield token, "missing" if any(present & other_no for present in of_columns) else "negative", False
        elif number in UNKNOWN_CODES and (number < 0 or _is_code(number, numbers)):
            yield token, "missing", True
        elif number is not None and number > 1 and any(0 in values for values in numbers):
            yield token, "positive", True


def _is_code(number: float, numbers: Iterable[Collection[float | None]]) -> bool:
    """Whether a number is no count: the one below it is not there, and others mean yes."""
    return all(number - 1 not in values and any(value and value > 0 for value in values) for values in numbers)


def _is_mark(token: str) -> bool:
    return token.casefold() in MARKS or is_tick(token)


def is_tick(token: str) -> bool:
    """Whether a token is a tick or a plus: beside it, a cross or a dash means no."""
    return token in TICKS or (token != "" and not token.strip("+"))  # "++" is more than "+"


def guessed_states(columns: Sequence[Mapping[str, int]], states: Mapping[str, str]) -> dict[str, str]:
    """The likely states of tokens that are no common spelling: of such words, the most frequent means no.

    Where other tokens mean yes and no, and the column has some of them, the word is a label that is not known. Words
    such as ``not assessed`` say what they probably mean.

    Args:
        columns: token -> rows of each column; a token has one state in all of them, in upper and lower case.
        states: those of the tokens that are understood.
    """
    state_of_word = {_plain(token): state for token, state in states.items()}
    rows: Counter[str | float] = Counter()
    for tokens in columns:
        for token, count in tokens.items():
            rows[_plain(token)] += count
    for word in rows.keys() - state_of_word.keys():
        if (state := likely_state(str(word))) is not None:
            state_of_word[word] = state
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


def likely_state(word: str) -> str | None:
    """The state that a word probably means although it is no common spelling: ``not assessed`` is missing."""
    return next((state for pattern, state in _GUESSES if re.fullmatch(pattern, word.casefold(), re.DOTALL)), None)


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
