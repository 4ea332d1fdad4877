"""ELPV: 2,624 electroluminescence images of solar cells, from the installed package ``elpv-dataset``.

Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery,
EU PVSEC 2018; Deitsch et al., Solar Energy 185, 2019. Licence CC BY-NC-SA 4.0: nothing of it is shipped here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import shutil
from pathlib import Path

import pandas as pd

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
        cells = pd.read_csv(source / "labels.csv", sep=r"\s+", names=["path", "probability", "kind"])
        names = cells["path"].map(os.path.basename)
        poly = (cells["kind"] == "poly").astype(int)
        shutil.copytree(source / "images", out / "images", dirs_exist_ok=True)
        (out / "LICENCE.txt").write_text(LICENCE.format(version=version), "utf-8")
        likely = (cells["probability"] > 0.5).astype("Int64")
        sure = likely.where(cells["probability"].isin([0, 1]))
        for path, defective in ((out / "labels_uncertain.csv", sure), (labels, likely)):
            table = pd.DataFrame({"image": names, "defective": defective, "poly": poly})
            table.to_csv(path, index=False, na_rep="NA", lineterminator="\n")
    logger.info("wrote %d images, labels.csv, labels_uncertain.csv and LICENCE.txt to %s", len(names), out)
