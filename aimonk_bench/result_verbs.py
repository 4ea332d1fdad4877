"""Verbs of the command line for finished work: plots, a page, trackers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

logger = logging.getLogger(__name__)


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
    from aimonk_bench.console import Progress

    logger.info("wrote %s", pages.report(folders, out, images=images, progress=Progress()))


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
