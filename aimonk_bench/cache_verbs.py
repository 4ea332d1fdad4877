"""The verbs of `aimonk-bench cache`, which show, verify and clear the feature store."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

cache = typer.Typer(help="Show, verify or clear the feature store.", no_args_is_help=True)


@cache.command()
def show() -> None:
    """List the encoders whose features are stored, and how large they are."""
    from aimonk_bench.api import store

    _print(store.show(), f"feature store {store.place()}")


@cache.command()
def verify() -> None:
    """Read everything and compare checksums; exit code 1 where something is damaged."""
    from aimonk_bench.api import store

    table = store.verify()
    _print(table, f"feature store {store.place()}")
    if (table["damaged"].fillna(1) > 0).any():
        raise typer.Exit(1)


@cache.command()
def clear(
    experiments: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="Folders of experiments whose features are meant.")
    ] = None,
    unused_days: Annotated[
        float | None, typer.Option("--unused-days", min=0, metavar="DAYS", help="Not used for so long.")
    ] = None,
    to_gigabytes: Annotated[
        float | None,
        typer.Option("--to-gigabytes", min=0, metavar="GB", help="Those unused longest, until the store is so small."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All features.")] = False,
) -> None:
    """Remove features that all conditions name; they are encoded again when they are needed."""
    from aimonk_bench.api import store

    removed = store.clear(experiments or (), unused_days=unused_days, to_gigabytes=to_gigabytes, everything=everything)
    _print(removed, f"removed from {store.place()}")


def _print(table: pd.DataFrame, title: str) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    heads = ["network", "input", "images", "rows", "MB", "unused"]
    heads += ["damaged blocks"] if "damaged" in table else []
    grid = Table(*(Column(head, overflow="fold") for head in heads), box=None, pad_edge=False)
    for row in table.to_dict("records"):
        grid.add_row(*map(Text, _cells(row)))
    console = Console()
    console.print(Text(f"{title}: {table['bytes'].sum() / 1e6:,.1f} MB"))
    if len(table):
        console.print(grid)


def _cells(row: dict[Hashable, Any]) -> list[str]:
    """The cells of an encoder; of a damaged record or index nothing is known but the size of its files."""
    import pandas as pd

    on_disk = [f"{row['bytes'] / 1e6:,.1f}", f"{row['days']:.1f} days"]
    if pd.isna(row["rows"]):
        return [row["network"], "", "", "", *on_disk, *(["all"] if "damaged" in row else [])]
    boundary = "" if row["boundary"] in ("global pooling", "pixels") else f", {row['boundary']}"
    of_rows = [f"{row['size']} px, {row['dtype']}", f"{row['images']:,}", f"{row['rows']:,}"]
    blocks = [f"{row['damaged']} of {row['blocks']}"] if "damaged" in row else []
    return [f"{row['network']}{boundary}", *of_rows, *on_disk, *blocks]
