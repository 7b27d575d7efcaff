"""GenderBias-VL: generated pictures of women and of men in 177 occupations, each decided between two occupations.

Steps: read the pairs, give every occupation the counterpart that the other gender holds most, list the pictures of
the occupations that have both folders, draw the occupations of the split val.

Source: Xiao et al. 2024, GenderBias-VL, arXiv 2407.00600. The counterpart and the split follow LTC, arXiv 2505.17425.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from headlens.datasets.dataset import Dataset, register
from headlens.datasets.layout import Layout, listed, pictures, rooted
from headlens.errors import ManifestError

LAYOUT = Layout(
    "GenderBias-VL",
    "<Occupation>/female and <Occupation>/male, in the root or in xl_generate_base, and a table of pairs, "
    "occ_merge_filter_sim.csv or genderbias_occ.csv, with job_male, job_female, job_male_ratio, job_female_ratio",
)
GENDERS = ("female", "male")
_TABLES = ("occ_merge_filter_sim.csv", "similarity/occ_merge_filter_sim.csv", "genderbias_occ.csv")


@register("genderbias-vl")
def read_genderbias_vl(
    root: Path, *, pairs: str | None = None, val: int | Sequence[str] = 25, seed: int = 0
) -> Dataset:
    """GenderBias-VL: the occupation of generated women and men. Each picture is decided between two occupations.

    The counterpart of an occupation in `job_male` (held mostly by men) is the one of its pairs with the highest share
    of women, that of one in `job_female` the one with the lowest; of equal ones the first in the table counts.

    Args:
        root: the folder of the occupations' folders, or the one above it.
        pairs: the table of pairs, absolute or below the root; by default one of the published names.
        val: how many occupations are drawn for the split val, or their names; the others are test.
        seed: of that draw.

    Raises:
        ManifestError: a folder, file or column that is not there, a ratio that is no percentage, an occupation on both
            sides of the pairs, no occupation with pictures of both, or a `val` that leaves none for one split.
    """
    LAYOUT.folder(root)
    path = LAYOUT.file(root, *(_TABLES if pairs is None else (pairs,)))
    table = _pairs(path)
    below = [root / name for name in ("xl_generate_base", "genderbias_xl") if (root / name).is_dir()]
    base = LAYOUT.only(below or [root], root)
    there = {occ: {g: _inside(base / _folder(occ) / g) for g in GENDERS} for occ in table.index}
    used = sorted(occ for occ, files in there.items() if all(files.values()))
    if not used:
        raise LAYOUT.error(
            f"No occupation of {path.name} has pictures in both folders, in {str(base)!r}.",
            "Spaces in a name are underscores in its folder: 'Chief executive' is Chief_executive.",
        )
    chosen = _val(used, val, seed)
    rows = [
        {
            "path": f"{_folder(occ)}/{gender}/{file}",
            "label": occ,
            "split": "val" if occ in chosen else "test",
            "gender_presentation": gender,
            "candidates": json.dumps([occ, table.loc[occ, "counterpart"]], ensure_ascii=False),
            "held_mostly_by": table.loc[occ, "held_mostly_by"],
            "percent_women": f"{table.loc[occ, 'percent_women']:g}",
        }
        for occ in used
        for gender in GENDERS
        for file in there[occ][gender]
    ]
    notes = []
    if isinstance(val, int):
        notes.append(f"{val} of {len(used)} occupations were drawn for the split val (seed {seed}).")
    lacking = sorted(set(table.index) - set(used))
    if lacking:
        notes.append(
            f"{len(lacking)} occupations lack pictures of women or of men and were left out: {listed(lacking)}."
        )
    folders = {_folder(occ) for occ in table.index}
    alone = sorted(f.name for f in base.iterdir() if (f / "female").is_dir() and f.name not in folders)
    if alone:
        notes.append(f"{len(alone)} folders are in no pair and were left out: {listed(alone)}.")
    classes = tuple(sorted({*used, *table.loc[used, "counterpart"]}))
    return Dataset(rooted(pd.DataFrame(rows), base), classes, tuple(notes))


def _pairs(path: Path) -> pd.DataFrame:
    """For every occupation its counterpart, who mostly holds it, and the percentage of women who do."""
    table = LAYOUT.table(path, ("job_male", "job_female", "job_male_ratio", "job_female_ratio"))
    for column in ("job_male_ratio", "job_female_ratio"):
        ratio = pd.to_numeric(table[column], errors="coerce")
        if not ratio.between(0, 100).all():
            row = int(np.flatnonzero(~ratio.between(0, 100))[0])
            raise LAYOUT.error(
                f"The column {column!r} of {str(path)!r} holds {table[column].iloc[row]!r} (row {row}).",
                "The ratios are the percentages of women in the occupation, 0 to 100.",
            )
        table[column] = ratio
    both = sorted(set(table["job_male"]) & set(table["job_female"]))
    if both:
        raise LAYOUT.error(
            f"{both[0]!r} is on both sides of the pairs in {str(path)!r}.", "An occupation has one side."
        )
    men = table.sort_values("job_female_ratio", ascending=False, kind="stable").drop_duplicates("job_male")
    women = table.sort_values("job_male_ratio", kind="stable").drop_duplicates("job_female")
    sides = [
        pd.DataFrame(
            {
                "occupation": side[f"job_{own}"],
                "counterpart": side[f"job_{other}"],
                "held_mostly_by": holders,
                "percent_women": side[f"job_{own}_ratio"],
            }
        )
        for side, own, other, holders in ((men, "male", "female", "men"), (women, "female", "male", "women"))
    ]
    return pd.concat(sides).set_index("occupation").sort_index()


def _val(used: Sequence[str], val: int | Sequence[str], seed: int) -> set[str]:
    if isinstance(val, int):
        if not 0 <= val < len(used):
            raise ManifestError(
                f"val is {val}, of {len(used)} occupations with pictures of both.",
                f"Give 0 to {len(used) - 1}: some have to be left for the split test.",
            )
        return {used[i] for i in np.random.default_rng(seed).permutation(len(used))[:val]}
    unknown = sorted(set(val) - set(used))
    if unknown or isinstance(val, str) or not set(used) - set(val):
        raise ManifestError(
            f"val names {val!r}." if isinstance(val, str) else f"val names {listed(unknown) or 'all occupations'}.",
            f"Name some of those with pictures of both ({listed(used)}), as in the table of pairs; leave some for the "
            "test split.",
        )
    return set(val)


def _folder(occupation: str) -> str:
    return occupation.replace(" ", "_")


def _inside(folder: Path) -> list[str]:
    return pictures(folder) if folder.is_dir() else []
