"""Readers of data sets: each is a function from a root folder to a manifest and class names, in one registry.

A data set of one's own needs no reader: write a CSV file in the manifest's columns (see `headlens.manifest`).
"""

from headlens.datasets.registry import Dataset, available, read, register
from headlens.datasets.table import read_table

__all__ = ["Dataset", "available", "read", "read_table", "register"]
