"""ELPV: 2,624 electroluminescence images of solar cells, from the installed package ``elpv-dataset``.

Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery,
EU PVSEC 2018; Deitsch et al., Solar Energy 185, 2019. Licence CC BY-NC-SA 4.0: nothing of it is shipped here.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from aimonk_bench.data.prepared import prepared
from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

PACKAGE = "elpv-dataset"
LICENCE = """\
The images in this folder and their labels are the ELPV data set, copied from the Python package elpv-dataset
{version} (https://github.com/zae-bayern/elpv-dataset). They are under the Creative Commons licence
Attribution-NonCommercial-ShareAlike 4.0 International (https://creativecommons.org/licenses/by-nc-sa/4.0/):
not for commercial use. The images are unchanged; the label files were derived from the package's labels.csv.
"""


def write(out: Path) -> None:
    """Write the images and two label files (`wide_csv`: image, defective, poly) to ``out``.

    ``labels.csv``: defective is 1 where the experts' defect probability p (0, 1/3, 2/3 or 1) is above 0.5.
    ``labels_uncertain.csv``: the same, but NA where they were not sure (1/3 and 2/3). poly: the cell is
    polycrystalline, else monocrystalline. A folder that is complete already is left as it is.

    Raises:
        UserError: the package is not installed, or ``out`` holds something else.
    """
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise UserError(f"the package {PACKAGE} is not installed; fix: pip install {PACKAGE}")
    source = Path(package.origin).parent / "data"
    version = importlib.metadata.version(PACKAGE)
    with prepared(out, {"data": "elpv", "version": version}, "labels.csv") as labels:
        if labels is None:
            return
        rows = [line.split() for line in (source / "labels.csv").read_text("utf-8").splitlines()]
        names = [Path(path).name for path, _, _ in rows]
        defects = [float(probability) for _, probability, _ in rows]
        poly = [str(int(kind == "poly")) for _, _, kind in rows]
        shutil.copytree(source / "images", out / "images", dirs_exist_ok=True)
        (out / "LICENCE.txt").write_text(LICENCE.format(version=version), "utf-8")
        sure = ["NA" if 0 < p < 1 else str(int(p)) for p in defects]
        _write_table(out / "labels_uncertain.csv", zip(names, sure, poly, strict=True))
        _write_table(labels, zip(names, [str(int(p > 0.5)) for p in defects], poly, strict=True))
    logger.info("wrote %d images, labels.csv, labels_uncertain.csv and LICENCE.txt to %s", len(names), out)


def _write_table(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "defective", "poly"])
        table.writerows(rows)
