"""Values: tokens to labels, numbers by value, and one message per column with the YAML line that fixes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from label_files import problems, read, states

from aimonk_bench.config.fields import Values


def proposed(message: str) -> dict[str, Any]:
    """What the `values:` line of a message says as YAML."""
    [line] = re.findall(r"`(values: .*?)`", message)
    values: dict[str, Any] = yaml.safe_load(line)["values"]
    return values


@pytest.mark.parametrize("one", ["1", "1.0", "+1", "1e0", " 1 ", "01"])
@pytest.mark.parametrize("zero", ["0", "0.0", "-0.0", ".0", "00"])
def test_numbers_are_compared_by_value(tmp_path: Path, one: str, zero: str) -> None:
    text = f"image,x\na.png,{one}\nb.png,{zero}\nc.png,\nd.png,NA\n"
    assert states(read(tmp_path, text, "l.csv").labels) == [[1], [0], [None], [None]]
    declared = Values(positive=["1.0"], negative=["-1"], missing=["0.00", ""])
    text = f"image,x\na.png,{one}\nb.png,-1.0\nc.png,{zero}\n"
    assert states(read(tmp_path, text, "l.csv", values=declared).labels) == [[1], [0], [None]]


def test_a_number_has_one_meaning() -> None:
    with pytest.raises(ValueError, match="no token that 'positive' holds"):
        Values(positive=["1"], negative=["1.0"])


@pytest.mark.parametrize(
    ("tokens", "positive", "negative", "missing"),
    [
        (["yes", "no"], ["yes"], ["no"], []),
        (["Yes", "NO", "n/a"], ["Yes"], ["NO"], ["n/a"]),
        (["True", "False", "nan"], ["True"], ["False"], ["nan"]),
        (["y", "n", "?"], ["y"], ["n"], ["?"]),
        (["t", "f", "unknown"], ["t"], ["f"], ["unknown"]),
        (["present", "absent", "null"], ["present"], ["absent"], ["null"]),
        (["positive", "negative", "None"], ["positive"], ["negative"], ["None"]),
        (["1", "-1"], [], ["-1"], []),
        (["1,0", "0,0"], ["1,0"], ["0,0"], []),
        (["1,0", "0,0", "-1,0", "n.a."], ["1,0"], ["0,0"], ["-1,0", "n.a."]),
        (["0,25", "0,75", "1"], ["0,75"], ["0,25"], []),
        (["+1", "-1.0"], [], ["-1.0"], []),
        (["1", "0", "-1"], [], [], ["-1"]),
        (["1.0", "0.0", "-1.0", ""], [], [], ["-1.0"]),
        (["0.33", "0.67", "0.5", "1"], ["0.67"], ["0.33"], ["0.5"]),
        (["yes", 'o"k', "no"], ["yes"], ["no"], ['o"k']),
        (["ja", "nein", "unbekannt", "k.A."], ["ja"], ["nein"], ["unbekannt", "k.A."]),
        (["Oui", "Non", "inconnu"], ["Oui"], ["Non"], ["inconnu"]),
        (["sì", "no"], ["sì"], ["no"], []),
        (["si", "no", "desconocido"], ["si"], ["no"], ["desconocido"]),
        (["sim", "não"], ["sim"], ["não"], []),
        (["WAHR", "FALSCH"], ["WAHR"], ["FALSCH"], []),
        (["vrai", "faux"], ["vrai"], ["faux"], []),
        (["verdadero", "falso"], ["verdadero"], ["falso"], []),
        (["gut", "schlecht", "schlecht"], ["gut"], ["schlecht"], []),
        (["kein", "leicht", "kein", "schwer"], ["leicht", "schwer"], ["kein"], []),
        (["ja", "keinesfalls"], ["ja"], ["keinesfalls"], []),
        (["Kratzer", "nein"], ["Kratzer"], ["nein"], []),
        (["OK", "ok", "Defekt", "ok", "Defekt"], ["Defekt"], ["OK", "ok"], []),
        (["yes", "no", "#N/A"], ["yes"], ["no"], ["#N/A"]),
        (["+", "-", ""], ["+"], ["-"], []),
        (["++", "+", "-", "+/-"], ["++", "+"], ["-"], ["+/-"]),
        (["\u2713", "\u2717"], ["\u2713"], ["\u2717"], []),
        (["\u2713", "x", ""], ["\u2713"], ["x"], []),
        (["1", "0", "X"], [], [], ["X"]),
        (["1", "0", "*", ""], [], [], ["*"]),
        (["yes", "no", "x"], ["yes"], ["no"], ["x"]),
        (["0", "255"], ["255"], [], []),
        (["0", "1", "2", "3"], ["2", "3"], [], []),
        (["0", "1", "2", "9"], ["2"], [], ["9"]),
        (["0", "0", "1", "2", "3", "4", "5", "6", "7"], ["2", "3", "4", "5", "6", "7"], [], []),
        ([*map(str, range(10))], [*map(str, range(2, 10))], [], []),
        (["0", "1", "-99"], [], [], ["-99"]),
        (["normal", "abnormal", "abnormal", "not assessed"], ["abnormal"], ["normal"], ["not assessed"]),
        (["P", "P", "N", "U"], ["P"], ["N"], ["U"]),
        (["crack", "crack", "no crack"], ["crack"], ["no crack"], []),
        (["visible", "visible", "not visible", "ungraded"], ["visible"], ["not visible"], ["ungraded"]),
        (["OK", "NOK", "NOK", "indeterminate"], ["NOK"], ["OK"], ["indeterminate"]),
    ],
)
def test_every_token_is_proposed_and_none_is_read(
    tmp_path: Path, tokens: list[str], positive: list[str], negative: list[str], missing: list[str]
) -> None:
    text = "image\tx\n" + "".join(f"{n}.png\t{token}\n" for n, token in enumerate(tokens * 2))
    [message] = problems(tmp_path, text, "l.tsv", importer="wide_csv")
    proposal = proposed(message)
    lists = {"positive": ["1", *positive], "negative": ["0", *negative], "missing": ["NA", "", *missing]}
    assert {state: sorted(words) for state, words in proposal.items()} == {
        state: sorted(words) for state, words in lists.items()
    }
    for token in (*positive, *negative, *missing):
        assert f"{token!r} ({2 * tokens.count(token)} rows)" in message
    labels = read(tmp_path, text, "l.tsv", importer="wide_csv", values=Values(**proposal)).labels
    assert labels.observed.sum() == 2 * sum(token not in ("", *missing) for token in tokens)


def test_minus_one_is_judged_by_its_columns(tmp_path: Path) -> None:
    text = "image,x,y\n" + "".join(f"{n}.png,{1 - 2 * (n % 2)},{n // 2 % 2}\n" for n in range(8))
    [message] = problems(tmp_path, text, "l.csv")
    assert proposed(message) == {"positive": ["1"], "negative": ["0", "-1"], "missing": ["NA", ""]}
    assert "if -1 means that a label is not known, move it to missing" in message
    [message] = problems(tmp_path, text + "8.png,0,0\n", "l.csv")
    assert proposed(message)["missing"] == ["NA", "", "-1"]


@pytest.mark.parametrize("token", ["X", "*", "2", "not assessed", "\u2713"])
def test_what_depends_on_the_column_is_a_guess_to_check(tmp_path: Path, token: str) -> None:
    text = "image,x\n" + "".join(f"{n}.png,{cell}\n" for n, cell in enumerate(["1", "0", token] * 2))
    [message] = problems(tmp_path, text, "l.csv", importer="wide_csv")
    assert f"has to be checked: {token!r} {'positive' if token == '2' else 'missing'}" in message


def test_columns_with_the_same_tokens_are_one_problem(tmp_path: Path) -> None:
    text = "image,x,y,z\n" + "".join(f"{n}.png,{t},{t},{n % 2}\n" for n, t in enumerate(["yes", "no", "yes"]))
    [message] = problems(tmp_path, text, "l.csv")
    assert message.startswith("l.csv:1: 2 attributes (x, y): found 'yes' (4 rows), 'no' (2 rows), ")
    assert states(read(tmp_path, text, "l.csv", values=Values(**proposed(message))).labels)[1] == [0, 0, 1]


def test_columns_with_different_tokens_are_one_problem(tmp_path: Path) -> None:
    text = "image,x,y\na.png,yes,-1\nb.png,no,0\nc.png,maybe,1\n"
    [message] = problems(tmp_path, text, "l.csv")
    assert message.startswith("l.csv:1: 2 attributes (x, y): found 'yes' (1 row), ")
    assert proposed(message) == {
        "positive": ["1", "yes"], "negative": ["0", "no"], "missing": ["NA", "", "maybe", "-1"]
    }  # fmt: skip
    assert "checked: 'maybe' missing (x, line 4)" in message
    assert "if -1 means negative and 0 missing, swap them" in message
    assert "ignore" not in message


def test_columns_of_other_words_are_the_only_ones_to_ignore(tmp_path: Path) -> None:
    states = ["ja", "nein", "unbekannt", "nein"]
    graders, cases = ["Meier", "Huber", "Kunz", "Lang"], ["Ja", "nein", "k.A.", "ja"]
    lines = [f"{n}.png;{states[n % 4]};{cases[n % 4]};{graders[n % 4]};{30 + n}" for n in range(16)]
    header = 'Datei;Rot;"Groß, gestreift";Prüfer;Alter'
    text = "\n".join([header, *lines])
    [message] = problems(tmp_path, text, "l.csv")
    assert message.startswith("l.csv:1: 2 attributes (Rot, Gro\u00df, gestreift): found 'nein' (12 rows), ")
    assert proposed(message) == {
        "positive": ["1", "ja", "Ja"], "negative": ["0", "nein"], "missing": ["NA", "", "unbekannt", "k.A."]
    }  # fmt: skip
    assert "'Ja' and 'ja' differ only in case" in message
    [line] = re.findall(r"`(ignore: .*?)`", message)
    assert line == 'ignore: ["Pr\u00fcfer", "Alter"]'
    assert message.index("values: {") < message.index("ignore: [")
    loaded = read(tmp_path, text, "l.csv", values=Values(**proposed(message)), **yaml.safe_load(line))
    assert loaded.labels.attributes == ("Rot", "Gro\u00df, gestreift")
    assert loaded.labels.observed.mean() == 0.75


@pytest.mark.parametrize(
    ("cells", "options", "negative", "missing"),
    [
        (["x", "", "x", "?"], {}, ["0", ""], ["NA", "?"]),
        (["\u2713", "", "", ""], {}, ["0", ""], ["NA"]),
        (["defekt", "", "", ""], {}, ["0", ""], ["NA"]),
        (["x", "", "n", ""], {}, ["0", "n"], ["NA", ""]),
        (["x", "", "0", ""], {}, ["0"], ["NA", ""]),
        (["x", "-", "x", ""], {}, ["0", "-"], ["NA", ""]),
        (["yes", "-", "yes", ""], {}, ["0", "-"], ["NA", ""]),
        (["x", "", "x", "?"], {"values": Values(missing=[""])}, ["0"], ["", "?"]),
    ],
)
def test_a_blank_means_no_where_no_token_does(
    tmp_path: Path, cells: list[str], options: dict[str, Any], negative: list[str], missing: list[str]
) -> None:
    text = "image,a\n" + "".join(f"{n}.png,{cell}\n" for n, cell in enumerate(cells))
    [message] = problems(tmp_path, text, "l.csv", importer="wide_csv", **options)
    assert (proposed(message)["negative"], proposed(message)["missing"]) == (negative, missing)
    assert ("no token means no" in message) == (not {"", "-"}.isdisjoint(negative))


def test_a_file_without_a_negative_label_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "image,a\n0.png,x\n1.png,\n2.png,?\n"
    read(tmp_path, text, "l.csv", importer="wide_csv", values=Values(positive=["x"], missing=["", "?"]))
    assert "no label is negative" not in caplog.text
    read(tmp_path, text.replace("x", "1").replace("?", "NA"), "l.csv")
    assert proposed(caplog.text) == {"positive": ["1"], "negative": ["0", ""], "missing": ["NA"]}


def test_a_map_per_attribute_is_extended_and_complete(tmp_path: Path) -> None:
    values = {"x": Values(positive=["ja"], negative=["nein"]), "y": Values()}
    [message] = problems(tmp_path, "image,x,y\na.png,yes,1\nb.png,ja,0\n", "l.csv", values=values)
    assert proposed(message) == {
        "x": {"positive": ["ja", "yes"], "negative": ["nein"], "missing": ["NA", ""]},
        "y": {"positive": ["1"], "negative": ["0"], "missing": ["NA", ""]},
    }


def test_soft_labels_are_named_as_what_they_are(tmp_path: Path) -> None:
    text = "image,x\n" + "".join(f"{n}.png,0.{n + 10}\n" for n in range(50))
    [message] = problems(tmp_path, text, "l.csv")
    assert message.startswith("l.csv:1: attribute x: soft labels such as 0.10 are not supported: ")
    assert 'table[["x"]].round()' in message
    assert len(message) < 300
    assert "values:" not in message
    assert '`ignore: ["x"]`' in message


def test_a_million_wrong_cells_are_one_short_message(tmp_path: Path) -> None:
    attributes = [f"a{n}" for n in range(14)]
    line = ",".join(["-1.0"] * 14)
    text = f"image,{','.join(attributes)}\n" + "".join(f"{n}.png,{line}\n" for n in range(2000)) + f"b.png{',0' * 14}\n"
    [message] = problems(tmp_path, text, "l.csv")
    assert "14 attributes" in message
    assert "'-1.0' (28000 rows)" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    "token", ["NA", "nan", "NaN", "none", "null", "Empty", "", "?", "N/A", "#N/A", "<NA>", "-", "Unknown", "-9", "-9.0"]
)
def test_a_missing_token_is_no_group(tmp_path: Path, token: str) -> None:
    text = f"image,g,x\na.png,{token},1\nb.png,{token},0\nc.png,p1,0\n"
    values = Values(missing=["NA", "", "-9"])
    assert read(tmp_path, text, "l.csv", group="g", values=values).groups == (None, None, "p1")


def test_columns_that_are_rarely_attributes_are_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "image,is_valid,fold,x\na.png,1,0,1\nb.png,0,1,0\n"
    assert read(tmp_path, text, "l.csv").labels.attributes == ("is_valid", "fold", "x")
    [line] = re.findall(r"`(ignore: .*?)`", caplog.text)
    caplog.clear()
    loaded = read(tmp_path, text, "l.csv", **yaml.safe_load(line))
    assert loaded.labels.attributes == ("x",)
    assert "ignored columns is_valid, fold" in loaded.notes[0]
    assert read(tmp_path, text, "l.csv", attributes=["fold", "x"]).labels.attributes == ("fold", "x")
    assert not caplog.records


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("row,file,x", {"ignore": ["row"]}),
        ("row,file,x", {"attributes": ["x"]}),
        ("row,mask,x,file", {"ignore": ["row", "mask"]}),
        ("mask,image,x", {"ignore": ["mask"]}),
        ("row,g,image,x", {"group": "g", "ignore": ["row"]}),
    ],
)
def test_the_column_with_the_images_is_looked_for(tmp_path: Path, header: str, options: dict[str, Any]) -> None:
    cells = {"row": "r", "file": ".png", "mask": "m.png", "x": "", "g": "g.png", "image": ".png"}
    rows = [",".join(("01"[n] if name == "x" else f"{n}{cells[name]}") for name in header.split(",")) for n in (0, 1)]
    loaded = read(tmp_path, "\n".join([header, *rows]), "l.csv", **options)
    assert loaded.ids == ("0.png", "1.png")
    assert (loaded.labels.attributes, states(loaded.labels)) == (("x",), [[0], [1]])


def test_one_line_says_what_was_understood(tmp_path: Path) -> None:
    note = read(tmp_path, "image;g;x;y\na.png;p1;1;\n", "l.csv", group="g").notes[0]
    for part in ("semicolon", "utf-8", "header", "'image'", "attributes x, y", "'g'", "a.png x='1', y=''"):
        assert part in note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore": ["z"]}, "l.csv:1: no column 'z' (data.ignore)"),
        ({"ignore": ["image"]}, "l.csv:1: column 'image' is named by data.id and by data.ignore"),
        ({"ignore": ["x"], "attributes": ["x"]}, "l.csv:1: column 'x' is named by data.ignore and by data.attributes"),
        ({"ignore": ["x"]}, "l.csv:1: found no attribute"),
        ({"separator": "|"}, "l.csv:1: found no attribute"),
        ({"header": False, "attributes": ["a", "b"]}, "l.csv:1: found 1 column of labels"),
        ({"tags": "x"}, "data.tags: found 'x', expected null, because wide_csv"),
        ({"other_tags": "ignore"}, "data.other_tags: found 'ignore', expected 'error', because wide_csv"),
    ],
)
def test_options_are_used_or_are_errors(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    options = {"importer": "wide_csv", **options}
    assert problems(tmp_path, "image,x\na.png,1\n", "l.csv", **options)[0].startswith(message)


def test_columns_that_hold_no_labels_have_one_line_to_paste(tmp_path: Path) -> None:
    text = "image,sex,age,x\n" + "".join(f"{n}.png,{'MF'[n % 2]},{n},{-(n % 2)}\n" for n in range(9))
    messages = problems(tmp_path, text, "l.csv")
    lines = {line for message in messages for line in re.findall(r"`(ignore: .*?)`", message)}
    assert lines == {'ignore: ["sex", "age"]'}
    [message] = [message for message in messages if "values:" in message]
    assert "attribute x: " in message
    values = Values(**proposed(message))
    assert read(tmp_path, text, "l.csv", ignore=["sex", "age"], values=values).labels.attributes == ("x",)


def test_labels_without_a_header_are_named_by_the_config(tmp_path: Path) -> None:
    loaded = read(tmp_path, "a.png,1,0\nb.png,0,1\n", "l.csv", attributes=["x", "y"])
    assert (loaded.labels.attributes, states(loaded.labels)) == (("x", "y"), [[1, 0], [0, 1]])


def test_too_many_words_are_not_guessed(tmp_path: Path) -> None:
    header = ",".join(f"a{n}" for n in range(60))
    rows = [f"{row}.png," + ",".join(f"{'pq'[row % 2]}{n}" for n in range(60)) for row in range(4)]
    [message] = problems(tmp_path, "\n".join([f"image,{header}", *rows]), "l.csv", importer="wide_csv")
    assert "values: {" not in message
    assert "declare each token in data.values" in message
