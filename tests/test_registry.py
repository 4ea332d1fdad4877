from __future__ import annotations

import sys
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Lt

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.lazy import Lazy
from aimonk_bench.registry import Spec


def scale(values, *, factor: Annotated[float, Ge(0), Lt(10)] = 2.0, mode: Literal["up", "down"] = "up"):
    """Scales."""
    return [value * factor if mode == "up" else value / factor for value in values]


def needy(values, *, k: int):
    """Has a required option."""
    return values[:k]


def bare(values):
    """Has no option."""
    return values


TABLE = {"scale": scale, "needy": needy, "bare": bare}


def messages(value):
    spec, problems = registry.check("tool", TABLE, value)
    assert (spec is None) == bool(problems)
    return [(problem.path, str(problem), problem.on_key) for problem in problems]


def test_a_spec_is_completed_with_every_default():
    assert registry.check("tool", TABLE, "scale") == (Spec("scale", {"factor": 2.0, "mode": "up"}), [])
    assert registry.check("tool", TABLE, {"name": "bare"}) == (Spec("bare"), [])


def test_an_integer_is_accepted_for_a_number_and_becomes_one():
    spec, _ = registry.check("tool", TABLE, {"name": "scale", "factor": 3})
    assert spec is not None
    assert isinstance(spec.options["factor"], float)


@pytest.mark.parametrize(
    ("value", "path", "message", "on_key"),
    [
        ("scael", (), "found unknown tool 'scael', expected one of scale, needy, bare (did you mean scale?)", False),
        ({"name": "zzz"}, ("name",), "found unknown tool 'zzz', expected one of scale, needy, bare", False),
        ({"name": 3}, ("name",), "found 3, expected the name of a tool, or a map with 'name'", False),
        ([], (), "found [], expected the name of a tool, or a map with 'name'", False),
        (None, (), "found null, expected the name of a tool, or a map with 'name'", False),
        ({"factor": 1}, (), "found a map without 'name', expected the name of a tool under 'name'", False),
        (
            {"name": "scale", "facter": 1.0},
            ("facter",),
            "found unknown key 'facter' of scale, expected one of factor, mode (did you mean factor?)",
            True,
        ),
        (
            {"name": "bare", "k": 1},
            ("k",),
            "found unknown key 'k' of bare, expected no options, or another tool (needy)",
            True,
        ),
        ({"name": "needy", "k": 1, "l": 2}, ("l",), "found unknown key 'l' of needy, expected k", True),
        ({"name": "scale", "factor": -1}, ("factor",), "found -1, expected a number of at least 0.0", False),
        ({"name": "scale", "factor": 10}, ("factor",), "found 10, expected a number below 10.0", False),
        ({"name": "scale", "factor": "2"}, ("factor",), "found '2', expected a number", False),
        ({"name": "scale", "factor": True}, ("factor",), "found true, expected a number", False),
        ({"name": "scale", "factor": float("nan")}, ("factor",), "found nan, expected a finite number", False),
        (
            {"name": "scale", "mode": "dwn"},
            ("mode",),
            "found 'dwn', expected one of up, down (did you mean down?)",
            False,
        ),
        ({"name": "needy", "k": 1.0}, ("k",), "found 1.0, expected an integer", False),
        ("needy", ("k",), "found nothing, expected a value, which is required", False),
    ],
)
def test_a_wrong_value_is_explained(value, path, message, on_key):
    assert messages(value) == [(path, message, on_key)]


def test_all_problems_of_one_entry_are_found_at_once():
    problems = messages({"name": "scale", "factor": "x", "mode": 3, "other": 1})
    assert sorted(path for path, _, _ in problems) == [("factor",), ("mode",), ("other",)]


def test_build_binds_the_options():
    assert registry.build("tool", TABLE, Spec("scale", {"factor": 3.0}))([1, 2]) == [3.0, 6.0]
    assert registry.build("tool", TABLE, "scale")([1]) == [2.0]
    with pytest.raises(UserError, match="tool: found unknown tool 'x'"):
        registry.build("tool", TABLE, "x")


def test_a_label_shows_what_differs_from_the_defaults():
    assert registry.label(TABLE, Spec("scale", {"factor": 2.0, "mode": "down"})) == "scale(mode=down)"
    assert registry.label(TABLE, Spec("scale", {"factor": 2.0, "mode": "up"})) == "scale"
    assert registry.label(TABLE, Spec("needy", {"k": 2})) == "needy(k=2)"
    others = {"a": Spec("bare"), "b": Spec("needy", {"k": 1}), "c": Spec("bare")}
    assert registry.label(TABLE, Spec("needy", {"k": 2}, others)) == "needy(k=2; a, c: bare; b: needy(k=1))"


def test_long_values_are_cut_in_messages():
    assert len(registry.show("x" * 1000)) == 60
    assert registry.show(sys.maxsize) == str(sys.maxsize)


def test_a_user_error_prints_at_most_its_limit():
    error = UserError([f"line {n}" for n in range(25)], limit=20)
    assert str(error).splitlines()[-1] == "... and 5 more (25 problems in all)"
    assert len(str(error).splitlines()) == 21
    assert str(UserError("one")) == "one"


def test_the_types_of_the_data_need_not_be_imported():
    def lossy(values: Unheard, *, gamma: Annotated[float, Ge(0)] = 2.0, name: str = "x"):  # noqa: F821
        """Its data is of a type that no module here has."""

    assert list(registry.options_model(lossy).model_fields) == ["gamma", "name"]
    assert registry.numeric_options(lossy) == ["gamma"]


def test_a_lazy_module_is_imported_by_its_first_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    lazy = Lazy("this")
    assert "this" not in sys.modules
    assert lazy.c == 97
    assert "this" in sys.modules
    assert vars(lazy)["c"] == 97
