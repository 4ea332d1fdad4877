"""Verbs of the command line for finished work: its table, one run, two runs, plots, a page, trackers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

logger = logging.getLogger(__name__)

Top = Annotated[int, typer.Option("--top", min=1, metavar="N", help="Show the N best runs; csv and json have all.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run; or its id or name in a suite.")]
Within = Annotated[
    Path | None,
    typer.Option("--in", metavar="DIR", help="The suite of ids and names; default the one in experiments/ that fits."),
]
Images = Annotated[int, typer.Option("--images", min=1, metavar="N", help="How many images to name.")]


def table(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that `run` or `suite` wrote.")],
    form: Annotated[
        Literal["rich", "csv", "json", "markdown", "latex"],
        typer.Option("--format", help="rich: for reading; csv, json: the rows of summary.csv."),
    ] = "rich",
    attributes: Annotated[
        list[str] | None, typer.Option("--attribute", metavar="A", help="Only this attribute; repeatable.")
    ] = None,
    metric: Annotated[
        str,
        typer.Option("--metric", metavar="M", help="What the columns show: a figure of summary.csv, such as roc_auc."),
    ] = "f1_tuned",
    sort: Annotated[
        str, typer.Option("--sort", metavar="M", help="What sorts the runs, best first: a figure of summary.csv.")
    ] = "f1_validation",
    top: Top = 20,
    explain: Annotated[bool, typer.Option("--explain", help="The whole legend and every warning.")] = False,
) -> None:
    """Print the summary of finished work from the saved predictions; several folders in one table."""
    from rich.console import Console

    from aimonk_bench.api import results, tables
    from aimonk_bench.console import write_data

    finished = [results.load(folder) for folder in folders]
    view = tables.View(attributes or (), metric, sort, top, explain)
    if form == "rich":
        tables.render(finished, Console(), view)
    else:
        write_data(tables.as_text(finished, form, view))


def compare(a: RunName, b: RunName, within: Within = None, images: Images = 10) -> None:
    """Compare two runs: settings, paired differences of F1, and the images on which decisions differ most."""
    from rich.console import Console

    from aimonk_bench.api import comparing

    comparing.compare(a, b, within).render(Console(), images)


def show(run: RunName, within: Within = None, images: Images = 10) -> None:
    """Show one run in full: figures, settings, and the images that it decides worst."""
    from aimonk_bench.api import comparing

    comparing.show(run, within, images=images)


def plots(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `run` or `suite` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where the files go.")],
    form: Annotated[Literal["png", "svg", "pdf"], typer.Option("--format", help="Of the files.")] = "png",
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Id or name; default the simplest of the best runs.")
    ] = None,
) -> None:
    """Draw finished work: leaderboard, heat map, precision-recall, thresholds, reliability, missing labels."""
    from aimonk_bench.api import results

    for file in results.load(folder).plot.save(out, form, run_id):
        logger.info("wrote %s", file)


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that `run` or `suite` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE.html", help="Default report.html in the first folder."),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="With or without small copies of images.")
    ] = True,
) -> None:
    """Write one HTML page on finished work: what to use, comparisons, curves, errors, data, settings."""
    from aimonk_bench.api import pages
    from aimonk_bench.console import ProgressBar

    logger.info("wrote %s", pages.report(folders, out, images=images, progress=ProgressBar()))


def log(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `run` or `suite` wrote.")],
    to: Annotated[Literal["mlflow", "tensorboard"], typer.Option("--to", help="Each needs the extra of its name.")],
    uri: Annotated[
        str | None, typer.Option("--uri", help="MLflow: its store or server; TensorBoard: a folder.")
    ] = None,
    artifacts: Annotated[
        list[Path] | None,
        typer.Option("--artifact", metavar="PATH", help="A report or bundle that MLflow keeps too; repeatable."),
    ] = None,
) -> None:
    """Log finished work to MLflow or TensorBoard; logged again it is updated."""
    from aimonk_bench.api import tracking

    logger.info("logged to %s", tracking.log(folder, to=to, uri=uri, artifacts=artifacts or ()))
