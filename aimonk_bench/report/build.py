"""The page of finished work: reads the folders, collects what the page shows, and forms the HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aimonk_bench.errors import UserError
from aimonk_bench.progress import Progress
from aimonk_bench.report.document import Document, document
from aimonk_bench.report.galleries import galleries
from aimonk_bench.report.page import render
from aimonk_bench.report.shortened import shortened
from aimonk_bench.report.thumbnails import StoredHashes
from aimonk_bench.reporting.summary import Summary

LEFT_OUT = "Images were left out of this page."


@dataclass(frozen=True)
class Page:
    """A page, and what its maker should know: a line for each folder whose images are not in it."""

    html: str
    notes: list[str]


def build(
    summaries: Sequence[Summary], stored_hashes: StoredHashes, progress: Progress, *, images: bool = True
) -> Page:
    """The page about the runs of one folder or more.

    Args:
        stored_hashes: perceptual hashes of images; those of other images are computed.
        progress: called with a phase, what is done and the total.
        images: False leaves thumbnails out, and no image is read.

    Raises:
        UserError: a file of a run is missing or damaged.
    """
    documents, notes = [], []
    for place, summary in enumerate(summaries):
        documents.append(document(summary))
        progress("collect", place + 1, len(summaries))
        if images:
            notes += _add_galleries(documents[-1], summary, stored_hashes, progress)
        else:
            documents[-1]["no_images"] = LEFT_OUT
    return Page(render(documents), notes)


def _add_galleries(page: Document, summary: Summary, stored_hashes: StoredHashes, progress: Progress) -> list[str]:
    """Put the galleries into a document; where the image folder is gone, the page and the caller are told."""
    try:
        page["galleries"], page["no_images"] = galleries(summary, stored_hashes, progress)
    except UserError as error:
        page["no_images"] = f"There are no images in this page: {shortened('; '.join(error.problems))}."
        return [f"the page has no images: {problem}" for problem in error.problems]
    return [f"{summary.collection.folder}: {page['no_images']}"] if page["no_images"] else []
