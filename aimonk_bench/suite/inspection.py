"""The data of an audit: labels, image files, features and the split of one config."""

from __future__ import annotations

import collections
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from aimonk_bench.config.fields import Config
from aimonk_bench.config.loader import Source
from aimonk_bench.config.overrides import Overrides
from aimonk_bench.config.tables import Tables
from aimonk_bench.data import headers
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import audit, duplicates, probe
from aimonk_bench.evaluation.audit import Audit, Files
from aimonk_bench.evaluation.missing_dependence import missing_dependence
from aimonk_bench.progress import Progress
from aimonk_bench.suite import containment, dataset, networks, plan, tasks

logger = logging.getLogger(__name__)
SEED = 0  # of permutations and of the probe's folds, so that an audit is the same each time
ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def configured(source: Source, tables: Tables, overrides: Overrides) -> Config:
    """The config to audit with: that of a run, or of the baseline of a suite.

    Raises:
        UserError: it is wrong.
    """
    suite = plan.load(source, tables, overrides)
    return suite.runs[suite.baseline].config


def inspect(config: Config, progress: Progress) -> Audit:
    """Audit the data set of a config; nothing is trained.

    Features are those of the whole backbone for the unaugmented images.

    Raises:
        UserError: labels, images or options are wrong, or the weights cannot be had.
        RunFailed: the engine cannot be had, or the network ends its worker process.
    """
    config = config.model_copy(
        update={
            "transform": config.transform.model_copy(update={"train": [], "views": "exact"}),
            "backbone": config.backbone.model_copy(update={"freeze": "all"}),
        }
    )
    listed = plan.checked_labels([config])
    [network] = networks.prepare([config])
    if isinstance(network.outcome, UserError):
        raise network.outcome
    located = dataset.locate(config.data, listed)
    encoder = replace(network.encoder, white=located.white)
    for warning in network.warnings:
        logger.warning("%s", warning)
    elsewhere = partial(containment.encode_where_due, config.run)
    encoded = tasks.encode(located, config, encoder, progress, elsewhere)
    labels, groups, features = encoded.labels, encoded.groups, encoded.features()
    content, folds = encoded.content, encoded.folds(config.split)
    part = duplicates.tested_part(folds, len(labels))
    files, formats = _read_headers(encoded.images)
    scores = probe.probe(features, labels, groups, seed=SEED)
    probabilities = probe.calibrated(scores, labels, groups, seed=SEED)
    return Audit(
        name=config.name,
        ids=encoded.listed.ids,
        labels=labels,
        features=encoder.weights.name,
        skipped=[(item.image_id, item.reason) for item in encoded.skipped],
        content=content,
        part=part,
        scheme=config.split,
        groups=encoded.group_checks(config.split),
        files=files,
        counts=audit.counts(labels, groups, folds),
        together=audit.together(labels),
        dependence=missing_dependence(
            labels,
            groups,
            sizes={"pixels": files.width * files.height, "aspect": files.width / files.height},
            traits=_traits(files, formats),
            features=features,
            seed=SEED,
        ),
        disagreement=duplicates.disagreement(content, labels),
        near=encoded.near_duplicates(config.split),
        before=encoded.association,
        suspects=audit.suspects(probabilities, labels, audit.has_signal(encoded.association)),
    )


def _read_headers(files: Sequence[ImageFile]) -> tuple[Files, np.ndarray]:
    """What the headers of N image files say, and [N] the format of each by its content."""
    stored = [headers.read_header(file.path.read_bytes()) for file in files]
    formats = np.array([header.format for header in stored])
    named = [headers.named_format(file.path.name) for file in files]
    size = np.array([(header.width, header.height) for header in stored])
    rotated = np.isin([header.orientation for header in stored], ROTATED)
    size[rotated] = size[rotated, ::-1]
    described = Files(
        formats=dict(collections.Counter(formats.tolist()).most_common()),
        width=size[:, 0],
        height=size[:, 1],
        misnamed=[(row, str(kind)) for row, kind in enumerate(formats) if named[row] not in (None, kind)],
        transparent=np.array([header.transparent for header in stored]),
        grey=np.array([header.grey for header in stored]),
    )
    return described, formats


def _traits(files: Files, formats: np.ndarray) -> dict[str, np.ndarray]:
    """Binary properties [N] of image files on which NA may depend; of two formats one is enough."""
    names = list(files.formats)
    by_format = {name: formats == name for name in (names[1:] if len(names) == 2 else names)}
    return by_format | {"grey": files.grey, "transparent": files.transparent}
