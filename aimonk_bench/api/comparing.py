"""One run in full, and two runs side by side, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from rich.console import Console

from aimonk_bench import registry
from aimonk_bench.api.results import Run, Suite, load
from aimonk_bench.api.work import RESULTS
from aimonk_bench.arguments import instance, path, whole
from aimonk_bench.errors import UserError
from aimonk_bench.records import run as runs
from aimonk_bench.records import suite as suites
from aimonk_bench.reporting import details, frames, pairs
from aimonk_bench.reporting.words import listed, run_name
from aimonk_bench.trackers.content import flattened

if TYPE_CHECKING:
    import pandas as pd

Wanted = Run | str | os.PathLike[str]
IMAGES = 10  # that are shown
LEFT_OUT = ("name", "plot.", "run.")  # settings that say nothing about a result


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        a: one run, done.
        b: the other.
        suite: in which both are, for the attributes of its macro average; None where they are not in one.
    """

    a: Run
    b: Run
    suite: Suite | None = None

    @property
    def settings(self) -> pd.DataFrame:
        """The settings that differ: key, a, b (string); a key that a run does not have is "(not set)"."""
        import pandas as pd

        return pd.DataFrame(self._settings, columns=["key", "a", "b"], dtype="string")

    @cached_property
    def figures(self) -> pd.DataFrame:
        """Tuned F1 of a minus that of b by attribute and macro, as of `Suite.compare`.

        Raises:
            UserError: the attributes of the two differ, or one of them has no results.
        """
        if self.suite is not None:
            return self.suite.compare(self.a, self.b)
        defined = [np.isfinite(run._done.scores.figures.value("f1_tuned")) for run in (self.a, self.b)]
        covered = np.logical_and(*defined) if defined[0].shape == defined[1].shape else defined[0]
        return frames.differences(self.a._scored, self.b._scored, covered)

    @cached_property
    def disagreements(self) -> pd.DataFrame:
        """The test images on which decisions differ, the widest apart first, as of `Suite.disagreements`.

        Raises:
            UserError: the test rows of the two differ, or one of them has no results.
        """
        return frames.disagreements(self.a._scored, self.b._scored)

    def render(self, console: Console, images: int = IMAGES) -> None:
        """Print the comparison, as `aimonk-bench compare` does.

        Args:
            console: of rich.
            images: how many of the images on which decisions differ.

        Raises:
            UserError: the attributes of the two differ, one has no results, or images is no number of at least 1.
        """
        shown = whole("images", images, least=1)
        names = [f"{run.name} ({run.id})" for run in (self.a, self.b)]
        figures = self.figures
        if (figures["reason"].iloc[-1:] == "other_rows").any():
            differing = figures.iloc[:0], 0, 0
        else:
            rows = self.disagreements
            differing = rows.head(shown), len(rows), self.a._scored[0].part("test").labels.targets.size
        pairs.render(instance("console", console, Console), names, self._settings, figures, differing)

    @cached_property
    def _settings(self) -> list[tuple[str, str, str]]:
        return pairs.differing(_compared_settings(self.a), _compared_settings(self.b))


def compare(a: Wanted, b: Wanted, within: str | os.PathLike[str] | None = None) -> Comparison:
    """Two runs side by side, as `aimonk-bench compare` shows them; they need not be of one suite.

    Args:
        a: a run; or its folder, its id or its name.
        b: likewise.
        within: the folder of the suite of ids and names; by default the suite of the other run, if that is a run or
            its folder, else the one suite below ``experiments`` that has a run of this id or name.

    Raises:
        UserError: no run, or more than one, is meant, it has no results, or both are the same.
    """
    (first, of_first), (second, of_second) = _meant({"a": a, "b": b}, within)
    if first.folder.resolve() == second.folder.resolve():
        raise UserError(f"compare: found {first.id} twice, expected two runs to compare")
    same = of_first is not None and of_second is not None and of_first.folder == of_second.folder
    return Comparison(first, second, of_first if same else None)


def show(
    run: Wanted,
    within: str | os.PathLike[str] | None = None,
    *,
    images: int = IMAGES,
    console: Console | None = None,
) -> None:
    """Print one run in full, as `aimonk-bench show` does: figures, verdict, settings, the images decided worst.

    Args:
        run: a run; or its folder, its id or its name.
        within: as for `compare`.
        images: how many of the images that it decides wrongly.
        console: of rich; default standard output.

    Raises:
        UserError: no run, or more than one, is meant, it is damaged, or an argument is of another type.
    """
    [(placed, _)] = _meant({"run": run}, within)
    shown = whole("images", images, least=1)
    if reason := placed._figures.collection.damaged.get(placed.id):
        raise UserError(reason)
    terminal = Console() if console is None else instance("console", console, Console)
    details.render(terminal, placed._record, placed._figures, _settings(placed))
    if placed._record.done:
        wrong = placed.errors(n=None)
        details.errors(terminal, wrong.head(shown), len(wrong))


def _meant(wanted: Mapping[str, Wanted], within: str | os.PathLike[str] | None) -> list[tuple[Run, Suite | None]]:
    """The runs that are meant, each with its suite.

    Args:
        wanted: what a message calls each of them -> the run.
    """
    inside = None if within is None else path("within", within, "the folder of a suite, or None")
    placed = [_placed(argument, one) for argument, one in wanted.items()]
    beside = [pair[1] for pair in placed if not isinstance(pair, str) and pair[1] is not None]
    return [
        pair if not isinstance(pair, str) else _called(pair, list(_suites(inside, beside)), inside) for pair in placed
    ]


def _placed(argument: str, wanted: Wanted) -> tuple[Run, Suite | None] | str:
    """A run, or the run of a folder, and its suite; or the text that is an id or a name."""
    if not isinstance(wanted, Run):
        place = path(argument, wanted, "a run, its folder, its id or its name")
        if not place.is_dir():
            return os.fspath(wanted)
        result = load(place)
        if isinstance(result, Suite):
            raise UserError(
                f"{place}: found a suite, expected a run: RUN is a folder below its {suites.RUNS}/, or --in {place} "
                "and an id or a name"
            )
        wanted = result
    above = wanted.folder.parent.parent
    inside = wanted.folder.parent.name == suites.RUNS and (above / suites.FILE).exists()
    suite = Suite(above) if inside else None
    return wanted, suite if suite is not None and wanted.folder.name in suite.runs else None


def _suites(within: Path | None, beside: Sequence[Suite]) -> Iterator[Suite]:
    """The suites in which an id or a name is looked up."""
    if within is not None:
        yield Suite(within)
    elif beside:
        yield beside[0]
    else:
        for folder in (Path(), *sorted(RESULTS.glob("*"))):
            if (folder / suites.FILE).exists():
                yield Suite(folder)


def _called(name: str, where: Sequence[Suite], within: Path | None) -> tuple[Run, Suite]:
    """The run of this id or name in the suites."""
    names = {suite: _names(suite) for suite in where}
    having = [suite for suite in where if name in names[suite]]
    if len(having) == 1:
        return having[0][name], having[0]
    if having:
        raise UserError(f"{name}: found in {', '.join(str(s.folder) for s in having)}; name one of them with --in DIR")
    if not where:
        raise UserError(
            f"{name}: found no such folder, and no suite below {RESULTS}/, expected the folder of a run, or --in DIR "
            "and an id or a name"
        )
    near = registry.nearest(name, [one for suite in where for one in names[suite]])
    called = [run_name(parts) for suite in where for parts in suite._collection.names.values()]
    examples = "" if near else f", such as {listed(called)},"
    problem = registry.Problem((), repr(name), f"the folder, id or name of a run{examples}", near)
    places = f" in {', '.join(str(suite.folder) for suite in where)}"
    raise UserError(f"{problem}{places}" + ("" if within else "; --in DIR names another suite"))


def _names(suite: Suite) -> list[str]:
    """The ids and the names of all runs of a suite."""
    parts = suite._collection.names
    return [*parts, *map(run_name, parts.values())]


def _settings(run: Run) -> dict[str, str]:
    """The config of a run, flattened by dots.

    Raises:
        UserError: it cannot be read.
    """
    file = run.folder / runs.CONFIG
    try:
        return dict(flattened(yaml.safe_load(file.read_bytes())))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error


def _compared_settings(run: Run) -> Mapping[str, str]:
    """The settings of a run that bear on its results, and the backbone and weights that it got."""
    settings = {
        key: value
        for key, value in _settings(run).items()
        if not key.startswith(LEFT_OUT) and value not in details.EMPTY
    }
    used = {f"{key} used": run._record.status.columns[key] for key in ("backbone", "weights")}
    return settings | used
