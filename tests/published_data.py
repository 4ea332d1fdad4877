"""A few rows of public data sets in the format in which they are published, with the labels that they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

States = list[list[int | None]]


@dataclass(frozen=True)
class Published:
    """A few rows of a data set, as it is published.

    Attributes:
        files: path below the folder of the data set -> content, or what writes the file.
        labels: the path of the label file.
        images: the folder of the images.
        names: of the images, below that folder.
        expected: [N][A].
        ids: [N] as the label file has them; by default ``names``.
        attributes: those that are looked at; empty for all.
        groups: [N].
        parts: [N] of the official split.
        options: `--set` beside the two paths.
    """

    files: dict[str, str | Callable[[Path], None]]
    labels: str
    images: str
    names: list[str]
    expected: States
    ids: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    groups: list[str | None] | None = None
    parts: list[str] | None = None
    options: dict[str, str] = field(default_factory=dict)


CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,"
    "Height],OriginalImagePixelSpacing[x,y],"
)
CHEXPERT_NAMES = [
    "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg",
    "CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg",
    "CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg",
]


def pa100k(path: Path) -> None:
    def cells(*texts: str) -> np.ndarray:
        array = np.empty((len(texts), 1), object)
        array[:, 0] = texts
        return array

    variables = {"attributes": cells("Female", "AgeOver60")}
    for part, names, labels in (
        ("train", ["000001.jpg", "000002.jpg"], [[1, 0], [0, 0]]),
        ("val", ["000003.jpg"], [[1, 1]]),
        ("test", ["000004.jpg"], [[0, 1]]),
    ):
        variables |= {f"{part}_images_name": cells(*names), f"{part}_label": np.array(labels, np.uint8)}
    savemat(path, variables)


PUBLISHED = {
    "chexpert": Published(
        files={
            "CheXpert-v1.0-small/train.csv": f"{CHEXPERT_HEADER}\n"
            f"{CHEXPERT_NAMES[0]},Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"
            f"{CHEXPERT_NAMES[1]},Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,\n"
            f"{CHEXPERT_NAMES[2]},Female,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,\n"
        },
        labels="CheXpert-v1.0-small/train.csv",
        images=".",
        names=CHEXPERT_NAMES,
        attributes=["No Finding", "Cardiomegaly", "Lung Opacity", "Pneumothorax", "Support Devices"],
        expected=[[1, None, None, 0, 1], [None, None, 1, None, None], [None, None, 1, None, None]],
        groups=["patient00001", "patient00002", "patient00002"],
    ),
    "nih_chestxray14": Published(
        files={
            "Data_Entry_2017.csv": f"{NIH_HEADER}\n"
            "00000001_000.png,Cardiomegaly,0,1,58,M,PA,2682,2749,0.14300000000000002,0.14300000000000002,\n"
            "00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143,\n"
            "00000002_000.png,No Finding,0,2,81,M,PA,2500,2048,0.171,0.171,\n"
        },
        labels="Data_Entry_2017.csv",
        images="images",
        names=["00000001_000.png", "00000001_001.png", "00000002_000.png"],
        attributes=["Cardiomegaly", "Emphysema", "Hernia"],
        expected=[[1, 0, 0], [1, 1, 0], [0, 0, 0]],
        groups=["1", "1", "2"],
    ),
    "celeba": Published(
        files={
            "list_attr_celeba.txt": "3\n5_o_Clock_Shadow Arched_Eyebrows Young \n"
            "000001.jpg -1  1  1\n000002.jpg -1 -1  1\n000003.jpg  1 -1 -1\n"
        },
        labels="list_attr_celeba.txt",
        images="img_align_celeba",
        names=["000001.jpg", "000002.jpg", "000003.jpg"],
        expected=[[0, 1, 1], [0, 0, 1], [1, 0, 0]],
    ),
    "coco": Published(
        files={
            "annotations/instances_train2017.json": '{"info": {"year": 2017}, "licenses": [], "images": ['
            '{"license": 3, "file_name": "000000391895.jpg", "height": 360, "width": 640, "id": 391895}, '
            '{"license": 4, "file_name": "000000522418.jpg", "height": 480, "width": 640, "id": 522418}], '
            '"annotations": [{"segmentation": [[1.0, 2.0]], "area": 12.5, "iscrowd": 0, "image_id": 391895, '
            '"bbox": [1, 2, 3, 4], "category_id": 2, "id": 151091}, {"segmentation": {"counts": [1], "size": [1, 2]}, '
            '"iscrowd": 1, "image_id": 391895, "category_id": 1, "id": 151092}], "categories": ['
            '{"supercategory": "person", "id": 1, "name": "person"}, '
            '{"supercategory": "vehicle", "id": 2, "name": "bicycle"}]}'
        },
        labels="annotations/instances_train2017.json",
        images="train2017",
        names=["000000391895.jpg", "000000522418.jpg"],
        expected=[[1, 1], [0, 0]],
    ),
    "openimages": Published(
        files={
            "oidv7-val-annotations-human-imagelabels.csv": "ImageID,Source,LabelName,Confidence\n"
            "0001eeaf4aed83f9,verification,/m/0cmf2,1\n0001eeaf4aed83f9,verification,/m/01g317,0\n"
            "000595fe6fee6369,verification,/m/01g317,1\n000595fe6fee6369,crowdsource-verification,/m/07j7r,0\n",
            "oidv7-class-descriptions.csv": "LabelName,DisplayName\n"
            "/m/0cmf2,Airplane\n/m/01g317,Person\n/m/07j7r,Tree\n",
        },
        labels="oidv7-val-annotations-human-imagelabels.csv",
        images="images",
        names=["0001eeaf4aed83f9.jpg", "000595fe6fee6369.jpg"],
        ids=["0001eeaf4aed83f9", "000595fe6fee6369"],
        expected=[[0, None], [1, 0]],
        options={
            "data.attributes": "[Person, Tree]",
            "data.tag_names": "oidv7-class-descriptions.csv",
        },
    ),
    "pa100k": Published(
        files={"annotation.mat": pa100k},
        labels="annotation.mat",
        images="release_data/release_data",
        names=["000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg"],
        expected=[[1, 0], [0, 0], [1, 1], [0, 1]],
        parts=["train", "train", "val", "test"],
    ),
    "cub": Published(
        files={
            "attributes.txt": "1 has_bill_shape::curved_(up_or_down)\n2 has_bill_shape::dagger\n",
            "CUB_200_2011/images.txt": "1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg\n"
            "2 002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg\n",
            "CUB_200_2011/attributes/image_attribute_labels.txt": "1 1 0 3 27.7080\n1 2 1 4 27.7080\n"
            "2 1 0 1 1.0000\n2 2 0 2 0 4 1.0000\n",
        },
        labels="CUB_200_2011/attributes/image_attribute_labels.txt",
        images="CUB_200_2011/images",
        names=[
            "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
            "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
        ],
        expected=[[0, 1], [None, 0]],
        options={"data.image_names": "CUB_200_2011/images.txt", "data.tag_names": "attributes.txt"},
    ),
    "kaggle_tags": Published(
        files={"train_v2.csv": "image_name,tags\ntrain_0,haze primary\ntrain_1,agriculture clear primary water\n"},
        labels="train_v2.csv",
        images="train-jpg",
        names=["train_0.jpg", "train_1.jpg"],
        ids=["train_0", "train_1"],
        expected=[[0, 0, 1, 1, 0], [1, 1, 0, 1, 1]],
    ),
    "huggingface": Published(
        files={"metadata.csv": "file_name,cat,dog\n0001.png,1,0\nsub/0002.png,,1\n"},
        labels="metadata.csv",
        images=".",
        names=["0001.png", "sub/0002.png"],
        expected=[[1, 0], [None, 1]],
    ),
    "huggingface of flat JSON lines": Published(
        files={
            "metadata.jsonl": '{"file_name": "0001.png", "cat": 1, "dog": false}\n{"file_name": "0002.png", "dog": 1}\n'
        },
        labels="metadata.jsonl",
        images=".",
        names=["0001.png", "0002.png"],
        expected=[[1, 0], [None, 1]],
    ),
    "huggingface of JSON lines with tags": Published(
        files={
            "metadata.jsonl": '{"file_name": "0001.png", "tags": ["cat", "No Finding"]}\n'
            '{"file_name": "0002.png", "tags": []}\n'
        },
        labels="metadata.jsonl",
        images=".",
        names=["0001.png", "0002.png"],
        expected=[[1, 1], [0, 0]],
        options={"data.importer": "label_list", "data.tags": "tags", "data.absent": "negative"},
    ),
    "paddleclas": Published(
        files={"train_list.txt": "0517_2715.jpg\t0,1,0\n0518_2716.jpg\t1,1,0\n"},
        labels="train_list.txt",
        images="images",
        names=["0517_2715.jpg", "0518_2716.jpg"],
        expected=[[0, 1, 0], [1, 1, 0]],
    ),
    "roboflow": Published(
        files={"train/_classes.csv": "filename, cat, dog\na_jpg.rf.0a1b.jpg, 1, 0\nb_jpg.rf.2c3d.jpg, 0, 1\n"},
        labels="train/_classes.csv",
        images="train",
        names=["a_jpg.rf.0a1b.jpg", "b_jpg.rf.2c3d.jpg"],
        expected=[[1, 0], [0, 1]],
    ),
}


def write(folder: Path, published: Published) -> None:
    """Write the files of a data set, and its images."""
    for file, content in published.files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content) if isinstance(content, str) else content(path)
    for number, image in enumerate(published.names):
        path = folder / published.images / image
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((4, 4, 3), number, np.uint8))
