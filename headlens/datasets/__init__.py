"""Readers of data sets: each is a function from a root folder to a manifest and class names, in one registry.

    data = hl.datasets.read("waterbirds", "/data/waterbird_complete95_forest2water2")
    store = hl.extract(clip, data.manifest, "waterbirds.zarr")

Nothing is downloaded: a data set is obtained from its authors, under their terms. A data set of one's own needs no
reader: write a CSV file in the manifest's columns (see `headlens.manifest`).

Attributes of people are columns named after what was labelled: how a person is perceived in a picture
(`gender_presentation`, `age_presentation`, `perceived_race`), never who they are.
"""

from headlens.datasets.celeba import read_celeba
from headlens.datasets.counteranimal import read_counteranimal
from headlens.datasets.dataset import DATASETS, Dataset, available, read, read_classes, read_table, register
from headlens.datasets.faces import read_fairface, read_utkface
from headlens.datasets.facet import read_facet
from headlens.datasets.genderbias_vl import read_genderbias_vl
from headlens.datasets.segmentation import read_segmentation, unpack_imagenet_segmentation
from headlens.datasets.waterbirds import read_waterbirds

__all__ = [
    "DATASETS",
    "Dataset",
    "available",
    "read",
    "read_celeba",
    "read_classes",
    "read_counteranimal",
    "read_facet",
    "read_fairface",
    "read_genderbias_vl",
    "read_segmentation",
    "read_table",
    "read_utkface",
    "read_waterbirds",
    "register",
    "unpack_imagenet_segmentation",
]
