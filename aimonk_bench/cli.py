"""The verbs of `aimonk-bench`: each parses, calls the API and prints. Data goes to stdout, everything else to stderr.

Every import of another room stands inside its verb, so that `--help` and `table` start at once.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aimonk_bench import __version__, errors, result_verbs
from aimonk_bench.cache_verbs import cache
from aimonk_bench.data_verbs import data
from aimonk_bench.errors import RunFailed, UserError, sentence, visible, write_traceback
from aimonk_bench.shorthands import with_run_options
from aimonk_bench.suite.clock import Clock

if TYPE_CHECKING:
    from aimonk_bench.api.results import Result

logger = logging.getLogger(__name__)

DONE, FAILED, WRONG, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="aimonk-bench",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data, name="data")
app.add_typer(cache, name="cache")


class Interrupted(Exception):
    """`errors.Resumable` as an exception that typer does not take for an interrupt."""


def _log_to_stderr(quiet: bool) -> None:
    from aimonk_bench.console import set_up_logging

    set_up_logging(quiet=quiet)


ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in --set train.lr=1e-4; repeatable."),
]
AllowPlugins = Annotated[
    bool, typer.Option("--allow-plugins", help="Execute the code that the config names under `plugins`.")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE.py", help="With the entries of a plug-in, which is executed; repeatable."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write; default experiments/<name>.")]
BudgetHours = Annotated[
    float | None,
    typer.Option("--budget-hours", metavar="H", help="Refuse what takes more hours at the speeds measured here."),
]
Quiet = Annotated[bool, typer.Option("--quiet", callback=_log_to_stderr, help="Only the result, warnings and errors.")]
KINDS = ("backbones", "losses", "missing", "samplers", "thresholds", "optimizers", "schedules", "importers")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"aimonk-bench {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Reach no network: everything must be on this machine.")
    ] = False,
) -> None:
    """Benchmark recipes for partly labelled, skewed, multi-label images."""
    _log_to_stderr(quiet=False)
    if offline:
        from aimonk_bench import offline as network

        network.forbid()


@app.command()
@with_run_options
def run(
    context: typer.Context,
    config: ConfigFile,
    overrides: Overrides = None,
    out: Out = None,
    allow_plugins: AllowPlugins = False,
    budget_hours: BudgetHours = None,
    quiet: Quiet = False,
) -> None:
    """Run one experiment and print its table."""
    from aimonk_bench.api import work

    options = _options(context, allow_plugins=allow_plugins, budget_hours=budget_hours)
    with _resumable():
        result = work.run(config, overrides, out=out, **options)
    _print_table(result)


@app.command()
@with_run_options
def suite(
    context: typer.Context,
    config: ConfigFile,
    overrides: Overrides = None,
    out: Out = None,
    top: result_verbs.Top = 20,
    allow_plugins: AllowPlugins = False,
    budget_hours: BudgetHours = None,
    quiet: Quiet = False,
) -> None:
    """Run every combination of a suite and print the table; finished runs are not run again."""
    from aimonk_bench.api import work

    options = _options(context, allow_plugins=allow_plugins, budget_hours=budget_hours)
    with _resumable():
        result = work.suite(config, overrides, out=out, **options)
    _print_table(result, top)
    if result.unfinished or result.failed_again or result.unwritten:
        raise typer.Exit(SOME_FAILED if result.finished else FAILED)


def _options(context: typer.Context, **options: Any) -> dict[str, Any]:
    """Options of work, with its progress on the terminal and the clock of the command."""
    from aimonk_bench.console import ProgressBar

    return {"progress": ProgressBar(), "clock": context.obj, **options}


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """Work from which the same command may go on when it is interrupted."""
    try:
        yield
    except errors.Resumable:
        raise Interrupted from None


for _verb in (
    result_verbs.table,
    result_verbs.compare,
    result_verbs.show,
    result_verbs.plots,
    result_verbs.report,
    result_verbs.log,
):
    app.command()(_verb)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `run` or `suite` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="BUNDLE", help="A new or empty folder.")],
    run_id: Annotated[str | None, typer.Option("--run", metavar="ID", help="A run of a suite.")] = None,
    which: Annotated[
        Literal["selected", "simplest"] | None,
        typer.Option(
            "--which",
            help="Of a suite: the run selected on validation rows, or the simplest that is not distinguishable from it "
            "(default).",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="SEED|mean|refit",
            help="Of a hold-out the head of one seed, or the mean of all (default; of a fine-tuned run the first); "
            "refit trains again on all images (default with folds).",
        ),
    ] = None,
    allow_plugins: AllowPlugins = False,
    quiet: Quiet = False,
) -> None:
    """Write a run as a folder that timm, transformers, onnxruntime and `predict` load."""
    from aimonk_bench.api import bundles
    from aimonk_bench.console import ProgressBar

    made = bundles.export(
        folder,
        out,
        run=run_id,
        which=which,
        head=head,
        progress=ProgressBar(),
        allow_plugins=allow_plugins,
    )
    logger.info("wrote %s: run %s, head %s; its README.md says how to load it", made.folder, made.run, made.head)


@app.command()
def init(
    labels: Annotated[Path, typer.Option("--labels", metavar="FILE", help="A label file in any format.")],
    images: Annotated[Path, typer.Option("--images", metavar="DIR", help="The folder of its images.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE.yaml", help="A new file; default standard output.")
    ] = None,
) -> None:
    """Look at a label file and its images, and write a config that reads them."""
    from rich.console import Console

    from aimonk_bench import new_config

    understood, text = new_config.propose(labels, images, out)
    new_config.render(understood, Console(stderr=True))
    if out is None:
        sys.stdout.write(text)
    else:
        new_config.write(out, text)
        logger.info("wrote %s; next: aimonk-bench validate %s", out, out)


@app.command()
def validate(
    config: ConfigFile,
    overrides: Overrides = None,
    allow_plugins: AllowPlugins = False,
    budget_hours: BudgetHours = None,
) -> None:
    """Check config, labels, that every listed image exists and that the networks work; print what it would take."""
    from aimonk_bench.api import work

    print(visible(work.validate(config, overrides, allow_plugins=allow_plugins, budget_hours=budget_hours)))


@app.command()
def audit(
    config: ConfigFile,
    overrides: Overrides = None,
    form: Annotated[
        Literal["rich", "json"], typer.Option("--format", help="rich: for reading; json: everything.")
    ] = "rich",
    allow_plugins: AllowPlugins = False,
    quiet: Quiet = False,
) -> None:
    """Find problems in the labels and images of an experiment or suite, before anything is trained."""
    from rich.console import Console

    from aimonk_bench.api import work
    from aimonk_bench.console import ProgressBar, write_data

    result = work.audit(config, overrides, progress=ProgressBar(), allow_plugins=allow_plugins)
    if form == "rich":
        result.render(Console())
    else:
        write_data(result.to_json())


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that `export` wrote, or its model.onnx.")],
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Image files, folders, globs, or - for names on standard input."),
    ],
    form: Annotated[
        Literal["csv", "jsonl"] | None,
        typer.Option("--format", help="Default csv; with --labels a table for reading."),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Default standard output.")] = None,
    thresholds: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="NAME=VALUE", help="Another threshold of an attribute; repeatable."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Images that the network takes at once.")] = 8,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Score the bundle on labels of the images in the folder PATH: a label file of any format, or a YAML "
            "file, as `init` writes it, whose `data` says how to read one.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Predict new images with an exported bundle: a row each; or score it on new labels."""
    from aimonk_bench import predict_verb

    options = {"thresholds": thresholds or (), "batch": batch}
    if labels is None:
        complete = predict_verb.write_rows(bundle, paths, form or "csv", out, options)
    else:
        complete = predict_verb.write_scores(bundle, paths, labels, form, out, options)
    if not complete:
        raise typer.Exit(SOME_FAILED)


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help=f"One table, of {', '.join(KINDS)}; default all.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """List what a config can name, with options and defaults."""
    from rich.console import Console

    from aimonk_bench import registry
    from aimonk_bench.tables import describe, tables

    if kind is not None and kind not in KINDS:
        problem = registry.Problem((), repr(kind), f"one of {', '.join(KINDS)}", registry.nearest(kind, KINDS))
        raise UserError(f"list: {problem}")
    console, extended = Console(), tables(plugin or ())
    for name in [kind] if kind else KINDS:
        console.print(describe(name, extended, console.width))


@app.command()
def schema(plugin: Plugins = None) -> None:
    """Print the JSON Schema of the YAML files."""
    from aimonk_bench import tables
    from aimonk_bench.console import write_data

    write_data(tables.schema(tables.tables(plugin or ())))


@app.command()
def doctor(
    backbone: Annotated[
        str, typer.Argument(metavar="BACKBONE", help="Whose ImageNet weights to look for.")
    ] = "resnet18",
) -> None:
    """Report what this machine has, what is wrong with it, and how to fix it."""
    from aimonk_bench.doctor import examine

    problems = 0
    for finding in examine(backbone):
        first, *others = finding.text.splitlines()
        print(f"{finding.state:<8} {first}", *others, sep=f"\n{'':11}", flush=True)
        problems += finding.state == "problem"
    if problems:
        raise typer.Exit(FAILED)


def _print_table(result: Result, top: int = 20) -> None:
    from rich.console import Console

    result.render(Console(), top)


def main(argv: Sequence[str], began: float | None = None) -> int:
    """Run one command and return its exit code; no exception leaves it, and no traceback is printed.

    Args:
        argv: the words after the program's name.
        began: when the process did, by `time.perf_counter`; default now.
    """
    from aimonk_bench.console import standard_streams

    with standard_streams():
        return _main(argv, began)


def _main(argv: Sequence[str], began: float | None) -> int:
    """Run one command; what it raises becomes a message and an exit code."""
    try:
        try:
            app(args=list(argv), prog_name="aimonk-bench", obj=Clock(began))
        finally:
            sys.stdout.flush()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else DONE
        if code == INTERRUPTED:
            print("interrupted; the same command does it again", file=sys.stderr)
        return code
    except Interrupted:
        print("interrupted; the same command again goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        print(error, file=sys.stderr)
        return WRONG
    except RunFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return FAILED
    except ImportError as error:
        print(visible(f"{error}\n`aimonk-bench doctor` says what is wrong with this machine"), file=sys.stderr)
        return FAILED
    except Exception as error:
        print(f"failed: {sentence(error)}\n{write_traceback(error)}", file=sys.stderr)
        return FAILED
    return DONE
