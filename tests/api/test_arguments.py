"""Arguments of another type or value: a UserError says what was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fake_suite
import numpy as np
import pandas as pd
import pytest

import aimonk_bench as ab
from aimonk_bench.api import work

NAN = float("nan")
CONFIG = {"data": {"labels": "x", "images": "y"}}
FRAME = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "x": [1, None]})
IMAGES = np.zeros((2, 40, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> SimpleNamespace:
    """A suite, one of its runs, a bundle, and a folder that nothing may be written into."""
    folder = tmp_path_factory.mktemp("suite")
    fake_suite.comparison(folder)
    suite = ab.Suite(folder)
    return SimpleNamespace(suite=suite, run=next(iter(suite)), bundle=bundle, out=folder / "out")


WRONG: list[tuple[Callable[[SimpleNamespace], object], str]] = [
    *[
        (lambda h, value=value: ab.predict(value, IMAGES), f"bundle: found {value!r}, expected a folder")
        for value in (5, None, b"x", "", "a\0b")
    ],
    *[
        (lambda h, value=value: ab.predict(h.bundle, value), f"images: found {text}, expected paths, NumPy arrays")
        for value, text in ((5, "5"), (None, "None"), (b"abc", "b'abc'"), ({"a": 1}, "{'a': 1}"))
    ],
    (lambda h: ab.predict(h.bundle, [7]), "images[0]: found a int, expected a path"),
    *[
        (lambda h, value=value: ab.predict(h.bundle, IMAGES, thresholds=value), f"thresholds: found {text}, expected a")
        for value, text in ((0.4, "0.4"), ([0.1], "[0.1]"), ("animal=1", "'animal=1'"), (pd.Series(), "a Series"))
    ],
    *[
        (lambda h, value=value: ab.predict(h.bundle, [], thresholds={"animal": value}), f"animal: found {text}, expec")
        for value, text in (("0.4", "a str"), (None, "a NoneType"), (NAN, "nan"), (True, "True"), (IMAGES, "a ndarray"))
    ],
    (lambda h: ab.predict(h.bundle, [], thresholds={5: 0.1}), "found 5, expected one of animal"),
    (lambda h: ab.predict(h.bundle, [], thresholds=["animal=x"]), "found 'animal=x', expected NAME=VALUE"),
    *[
        (lambda h, value=value: ab.predict(h.bundle, [], batch=value), f"batch: found {value!r}, expected a whole numb")
        for value in (0, "8", True, 2.0, None, 10**9)
    ],
    *[
        (lambda h, call=call: call(CONFIG, progress="yes"), "progress: found 'yes', expected True, False, or a functi")
        for call in (ab.run, ab.suite, ab.audit)
    ],
    (lambda h: ab.predict(h.bundle, [], progress=5), "progress: found 5"),
    (lambda h: ab.export(h.run, h.out, progress=5), "progress: found 5"),
    (lambda h: ab.score(h.bundle, "x.csv", "y", progress=5), "progress: found 5"),
    (lambda h: ab.score(h.bundle, 5, "y"), "labels: found 5, expected a label file, a YAML file"),
    (lambda h: ab.score(h.bundle, "x.csv", 5), "images: found 5, expected the folder"),
    (lambda h: ab.score(h.bundle, "x.csv"), "images: found None, expected the folder"),
    (lambda h: ab.score(h.bundle, {"labels": "x.csv"}, "y"), "config: labels: found unknown key"),
    *[
        (lambda h, call=call, value=value: call(value), f"config: found {text}, expected a YAML file, a dict")
        for call in (ab.run, ab.suite, ab.audit, work.validate)
        for value, text in ((5, "5"), (None, "None"), (["a"], "['a']"), (b"a", "b'a'"), (FRAME, "a DataFrame"))
    ],
    *[
        (lambda h, value=value: ab.run(CONFIG, value), f"overrides: found {text}, expected a dict such as")
        for value, text in ((5, "5"), ([5], "[5]"), (b"a=1", "b'a=1'"), ({5: 1}, "{5: 1}"), ({"a=1"}, "{'a=1'}"))
    ],
    *[
        (lambda h, value=value: ab.run(CONFIG, out=value), f"out: found {value!r}, expected a folder for the results")
        for value in (5, "", b"x")
    ],
    (lambda h: ab.run(CONFIG, allow_plugins="no"), "allow_plugins: found 'no', expected True or False"),
    (lambda h: ab.export(h.run, h.out, allow_plugins="no"), "allow_plugins: found 'no'"),
    (lambda h: ab.run(CONFIG, clock=5), "clock: found 5"),
    *[
        (lambda h, call=call: call(5), "folder: found 5, expected a folder that `run` or `suite` wrote")
        for call in (ab.load, ab.Run, ab.Suite)
    ],
    (lambda h: ab.load(h.run), "folder: found a Run, expected a folder"),
    (lambda h: h.suite.pivot(["f1_tuned"]), "column: found ['f1_tuned'], expected one of n_observed"),
    (lambda h: h.suite.pivot(np.array(["a", "b"])), "column: found a ndarray"),
    (lambda h: h.suite.render(5), "console: found 5"),
    (lambda h: h.run.errors(["x"]), "attribute: found ['x']"),
    (lambda h: h.run.errors(kind="fp"), "kind: found 'fp', expected one of false_positive, false_negative"),
    (lambda h: h.run.errors(kind=5), "kind: found 5"),
    *[
        (lambda h, value=value: h.run.errors(n=value), f"n: found {value!r}, expected a whole number of at least 1")
        for value in (0, "5", 2.5, True, NAN)
    ],
    *[
        (lambda h, value=value: h.suite.compare(h.run, value), f"b: found {text}, expected a run of this suite")
        for value, text in ((5, "5"), (None, "None"), (["a"], "['a']"))
    ],
    (lambda h: h.suite.disagreements(h.suite, h.run), "a: found a Suite"),
    (lambda h: h.suite[0:2], "run: found a slice"),
    (lambda h: h.suite.plot.leaderboard(top=0), "top: found 0, expected a whole number of at least 1"),
    (lambda h: h.suite.plot.heat_map(5), "column: found 5"),
    (lambda h: h.suite.plot.heat_map(top="3"), "top: found '3'"),
    (lambda h: h.suite.plot.reliability(5), "run: found 5"),
    (lambda h: h.suite.plot.save(5), "folder: found 5, expected a folder for the plots"),
    (lambda h: h.suite.plot.save(h.out, form="gif"), "format: found 'gif', expected one of png, svg, pdf"),
    (lambda h: ab.report(5), "source: found 5, expected a run, a suite, the folder of one, or a list of these"),
    (lambda h: ab.report([5]), "folder: found 5, expected a folder that `run` or `suite` wrote"),
    (lambda h: ab.report(h.run, 5), "out: found 5, expected a file for the page"),
    (lambda h: ab.report(h.run, images="no"), "images: found 'no', expected True or False"),
    (lambda h: ab.report(h.run, progress=5), "progress: found 5"),
    (lambda h: ab.log(h.run, to="wandb"), "to: found 'wandb', expected one of mlflow, tensorboard"),
    (lambda h: ab.log(5, to="mlflow"), "folder: found 5"),
    (lambda h: ab.log(h.run, to="mlflow", uri=5), "uri: found 5"),
    (lambda h: ab.log(h.run, to="mlflow", artifacts="x"), "artifacts: found 'x', expected a list of files"),
    (lambda h: ab.log(h.run, to="mlflow", artifacts=[5]), "artifacts: found 5, expected files and folders"),
    (lambda h: ab.compare(h.run, 5), "b: found 5, expected a run, its folder, its id or its name"),
    (lambda h: ab.compare(h.run, "x", within=5), "within: found 5, expected the folder of a suite, or None"),
    (lambda h: ab.show(None), "run: found None, expected a run, its folder"),
    (lambda h: ab.show(h.run, images=0), "images: found 0, expected a whole number of at least 1"),
    (lambda h: ab.show(h.run, console=5), "console: found 5"),
    (lambda h: ab.export(5, h.out), "source: found 5, expected a run, a suite, or its folder"),
    (lambda h: ab.export(h.run, None), "out: found None, expected a new folder for the bundle"),
    (lambda h: ab.export(h.suite, h.out, which="best"), "which: found 'best', expected one of selected, simplest"),
    (lambda h: ab.export(h.suite, h.out, run=h.run), "run: found a Run, expected the id of a run"),
    *[
        (lambda h, value=value: ab.export(h.run, h.out, head=value), f"head: found {value!r}, expected a seed, 'mean'")
        for value in (1.5, True, [0])
    ],
    *[
        (lambda h, value=value: ab.labels(value, "x"), f"frame: found {text}, expected a DataFrame")
        for value, text in ((5, "5"), ("labels.csv", "'labels.csv'"), (FRAME["x"], "a Series"))
    ],
    (lambda h: ab.labels(FRAME, None), "images: found None, expected the folder of the images"),
    *[
        (lambda h, value=value: ab.labels(FRAME, "x", values=value), f"values: found {value!r}, expected a dict")
        for value in (
            5,
            {"missing": 5},
            {"missing": "NA"},
            {"x": 5},
            {"x": {"missing": [5]}},
        )
    ],
    (lambda h: ab.labels(FRAME, "x", values={"missing": []}), "found missing values in 'x', but `values` declares no"),
    (lambda h: ab.labels(FRAME, "x", id=["image"]), "id: found \"['image']\", expected a column"),
    (lambda h: ab.labels(pd.concat({"a": FRAME}, axis=1), "x"), "found columns of 2 levels"),
    (
        lambda h: ab.labels(FRAME.assign(image=["a.jpg", "caf\udce9.jpg"]), "x"),
        r"found 'caf\udce9.jpg' in 'image' of frame.iloc[1], expected a text that is UTF-8; rename the file",
    ),
    (lambda h: ab.labels(FRAME.rename(columns={"x": "x\udce9"}), "x"), r"found the column 'x\\udce9', expected a name"),
]


@pytest.mark.parametrize(("call", "expected"), WRONG, ids=[expected for _, expected in WRONG])
def test_what_is_wrong_is_named(
    call: Callable[[SimpleNamespace], object], expected: str, here: SimpleNamespace
) -> None:
    with pytest.raises(ab.UserError) as caught:
        call(here)
    assert expected in str(caught.value)
    assert not here.out.exists()


def test_an_attribute_may_be_called_missing() -> None:
    frame = FRAME.rename(columns={"x": "missing"})
    for values in ({"missing": ["?"]}, {"missing": {"missing": ["?"]}}):
        assert ab.labels(frame, "x", values=values).text == "image,missing\na.jpg,1.0\nb.jpg,?\n"
    assert ab.labels(frame.head(1), "x", values={"missing": []}).text == "image,missing\na.jpg,1.0\n"


def test_numbers_of_numpy_are_numbers(here: SimpleNamespace) -> None:
    table = ab.predict(here.bundle, IMAGES, thresholds={"NA": np.float32(0.0)}, batch=np.int64(2), progress=None)
    assert table["NA_decision"].all()
    assert len(here.run.errors(n=np.int16(2))) == 2
