"""Gathers what an audit is made of: labels, files, features and the split of one config."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aimonk_bench.backbones.features import Progress
from aimonk_bench.config import loader
from aimonk_bench.config.fields import Config, Tables
from aimonk_bench.data import images, splits
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.evaluation import audit, signal
from aimonk_bench.evaluation.audit import Audit, Files
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.suite import plan, runner

SEED = 0  # of permutations and of the probe's folds: the same audit each time
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def configured(path: Path, tables: Tables, overrides: Sequence[str]) -> Config:
    """The config to audit with: of a suite that of its baseline.

    Raises:
        UserError: the file is wrong.
    """
    if loader.is_suite(path):
        suite = loader.load_suite(path, tables, overrides)
        return suite.runs[suite.baseline].config.model_copy(update={"name": suite.name})
    return loader.load(path, tables, overrides)


def inspect(config: Config, progress: Progress) -> Audit:
    """Audit the data set of a config: only the undisturbed pictures are encoded, and nothing is trained.

    Raises:
        UserError: labels, pictures or options are wrong, or the weights cannot be had.
        RunFailed: the engine cannot be had.
    """
    undisturbed = config.transform.model_copy(update={"train": [], "views": "exact"})
    frozen = config.backbone.model_copy(update={"freeze": "all"})
    planned = plan.plan_run(config.model_copy(update={"transform": undisturbed, "backbone": frozen}))
    material = runner.Materials(planned.dataset, runner.Clock(), progress).of(planned.baseline)
    labels, groups = material.labels, material.groups
    targets, observed = labels.targets, labels.observed
    features = material.features()
    by_line = {picture.line: picture for picture in planned.dataset.pictures if picture is not None}
    used = [by_line[line] for line in material.listed.lines.tolist()]
    content = np.unique([picture.sha256 for picture in used], return_inverse=True)[1]
    folds = splits.split(config.split, labels, groups)
    part = audit.tested_part(folds, len(used))
    files, real = _read_files(used)
    adjusted = holm(material.before.p)
    scores = signal.probe(features, targets, observed, groups, seed=SEED)
    probabilities = signal.calibrated(scores, targets, observed, groups, seed=SEED)
    return Audit(
        name=config.name,
        ids=material.listed.ids,
        attributes=labels.attributes,
        features=planned.baseline.encoder.weights.name,
        folds=len(folds),
        skipped=[(item.image_id, item.reason) for item in material.skipped],
        content=content,
        targets=targets,
        observed=observed,
        part=part,
        files=files,
        counts=audit.counts(targets, observed, groups, folds),
        together=audit.together(targets, observed),
        dependence=audit.missing_dependence(
            labels.attributes,
            targets,
            observed,
            groups,
            sizes={"pixels": files.width * files.height, "aspect": files.width / files.height},
            traits=_traits(files, real),
            features=features,
            seed=SEED,
        ),
        disagreement=audit.disagreement(content, targets, observed),
        near=audit.near_duplicates(features, content, part),
        before=material.before,
        adjusted=adjusted,
        suspects=audit.suspects(probabilities, targets, observed, audit.has_signal(adjusted)),
    )


def _read_files(used: Sequence[ImageFile]) -> tuple[Files, np.ndarray]:
    """What the headers of N pictures say, and [N] the real format of each."""
    headers = [images.read_header(picture.path.read_bytes()) for picture in used]
    real = np.array([header.format for header in headers])
    named = [images.named_format(picture.path.name) for picture in used]
    size = np.array([(header.width, header.height) for header in headers])
    turned = np.isin([header.orientation for header in headers], TURNED)
    size[turned] = size[turned, ::-1]
    files = Files(
        formats=dict(collections.Counter(real.tolist()).most_common()),
        width=size[:, 0],
        height=size[:, 1],
        misnamed=[(row, str(kind)) for row, kind in enumerate(real) if named[row] not in (None, kind)],
        transparent=np.array([header.transparent for header in headers]),
        grey=np.array([header.grey for header in headers]),
    )
    return files, real


def _traits(files: Files, real: np.ndarray) -> dict[str, np.ndarray]:
    """Properties of a picture that NA may depend on; of two formats one says it all."""
    formats = list(files.formats)
    kinds = {kind: real == kind for kind in (formats[1:] if len(formats) == 2 else formats)}
    return kinds | {"grey": files.grey, "transparent": files.transparent}
