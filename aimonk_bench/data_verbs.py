"""The verbs of `aimonk-bench data`, which make data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

data = typer.Typer(help="Prepare a data set.", no_args_is_help=True)
NewFolder = Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")]


@data.command()
def synthetic(
    out: NewFolder,
    images: Annotated[int, typer.Option(help="Number of images.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 128,
    prevalences: Annotated[
        tuple[float, float, float, float], typer.Option(help="Share of the images that have each attribute.")
    ] = (0.88, 0.81, 0.53, 0.08),
    missing: Annotated[
        float, typer.Option(help="Share of the labels that are NA; with --hide positives, of the positives.")
    ] = 0.1,
    hide: Annotated[
        Literal["random", "per_class", "positives", "score"],
        typer.Option(
            help="Which labels are NA. random: any (MCAR); per_class: all but equally many positives and negatives of "
            "each attribute; positives: only positives (PU); score: first those with low visibility (MNAR)."
        ),
    ] = "random",
    label_noise: Annotated[float, typer.Option(help="Share of the labels that are wrong.")] = 0.0,
) -> None:
    """Make a data set: images with clutter, labels.txt, and truth.csv with the labels behind every NA."""
    from aimonk_bench.api import data_sets

    data_sets.synthetic(
        out,
        images=images,
        seed=seed,
        size=size,
        prevalences=prevalences,
        missing=missing,
        mechanism=hide,
        label_noise=label_noise,
    )


@data.command()
def elpv(out: NewFolder) -> None:
    """Write the solar cells of the package elpv-dataset (CC BY-NC-SA 4.0) as images and label files."""
    from aimonk_bench.api import data_sets

    data_sets.elpv(out)
