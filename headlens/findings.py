"""What is doubtful in a data set: findings that shell, JSON and report show beside its numbers.

Nothing here is an error: an image that is in both parts, a group without an image and a value that looks misspelt leave
an audit possible, and change what its numbers mean.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Int

from headlens.cells import as_text, is_code, misspelt, near_equal
from headlens.images import is_url
from headlens.manifest import image_files

Rows = Int[np.ndarray, "row"]

_SHOWN = 5
_EDGE = 4096  # bytes at either end of a file that are compared before all of it is

FindingKind = Literal[
    "image in both parts",
    "image twice",
    "cluster in both parts",
    "empty group",
    "class without images",
    "one class",
    "rare spelling",
    "code as prompt",
    "names alike",
]


@dataclass(frozen=True)
class Finding:
    """Something about a data set that changes what the numbers on it mean.

    Attributes:
        kind: which of the known kinds.
        sentence: what was found, for people.
        names: the groups, classes, values or images that it is about; of images the first few.
        count: how many there are.
    """

    kind: FindingKind
    sentence: str
    names: tuple[str, ...]
    count: int

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self) | {"names": list(self.names)}


def check_splits(
    manifest: pd.DataFrame,
    parts: Mapping[str, Rows],
    labels: Int[np.ndarray, "image"],
    values: Int[np.ndarray, "image"],
    classes: Sequence[str],
    value_names: Sequence[str],
) -> tuple[Finding, ...]:
    """What is doubtful in the parts of a data set, such as an image that is in both.

    Args:
        manifest: the table.
        parts: row numbers by the part's name: the images to fit on, the images that are scored.
        labels: the class of every row, as an index.
        values: the attribute's value of every row, as an index; −1 for none.
        classes: the classes' names.
        value_names: the values' names.

    Images are compared by their files' bytes (and box), whatever the files are called. Limits: the same picture in
    another format or size is another image, and images at addresses are compared by address.
    """
    findings = [*_repeated(manifest, parts), *_parted_clusters(manifest, parts)]
    for part, rows in parts.items():
        there = set(zip(labels[rows].tolist(), values[rows].tolist(), strict=True))
        present = {label for label, _ in there}
        absent = tuple(name for label, name in enumerate(classes) if label not in present)
        empty = tuple(
            f"{classes[label]}/{name}"
            for label in sorted(present)
            for value, name in enumerate(value_names)
            if (label, value) not in there
        )
        if len(present) == 1:
            sentence = f"All {len(rows)} images of the {part} part are of one class, {classes[min(present)]!r}."
            findings.append(Finding("one class", sentence, (classes[min(present)],), 1))
        if absent:
            sentence = f"{len(absent)} of {len(classes)} classes have no image in the {part} part: {_shown(absent)}."
            findings.append(Finding("class without images", sentence, absent, len(absent)))
        if empty:
            others = len(present) * len(value_names) - len(empty)
            sentence = (
                f"No image of the {part} part is in {_shown(empty)}: there, worst group and gap are over the other "
                f"{others} groups."
            )
            findings.append(Finding("empty group", sentence, empty, len(empty)))
    return tuple(findings)


def check_values(column: pd.Series) -> tuple[Finding, ...]:
    """Rare values of a column that look like a frequent one, perhaps by a typing error: 'watre' beside 'water'."""
    counts = {str(value): int(count) for value, count in as_text(column).value_counts().items()}
    return tuple(
        Finding(
            "rare spelling",
            f"{column.name!r} is {value!r} for {_images(counts[value])}, which looks like {near!r} and is another "
            "value.",
            (value, near),
            counts[value],
        )
        for value, near in misspelt(counts)
    )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def check_prompts(what: str, prompts: Mapping[str, Sequence[str]]) -> tuple[Finding, ...]:
    """Names that are codes and stand in their own prompts, such as 'a photo of a 0', and names that differ in their
    spelling alone, such as 'crane' and 'Crane'.

    Args:
        what: what has these names: "classes", or an attribute.
        prompts: the prompts of each name.
    """
    codes = {}
    for name in filter(is_code, prompts):
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")  # 'm' is not in 'a photo of a man'
        if text := next(filter(word.search, prompts[name]), None):
            codes[name] = text
    findings = []
    if codes:
        first = next(iter(codes.values()))
        sentence = f"The prompts of {what} hold codes instead of words: {_shown(list(codes))} (as in {first!r})."
        findings.append(Finding("code as prompt", sentence, tuple(codes)[:_SHOWN], len(codes)))
    if alike := [" = ".join(map(ascii, names)) for names in near_equal(prompts)]:
        sentence = f"Names of {what} differ in their spelling alone, and count as different: {_shown(alike)}."
        findings.append(Finding("names alike", sentence, tuple(alike)[:_SHOWN], len(alike)))
    return tuple(findings)


def _repeated(manifest: pd.DataFrame, parts: Mapping[str, Rows]) -> list[Finding]:
    part_of = {int(row): part for part, rows in parts.items() for row in rows}
    chosen = manifest.iloc[list(part_of)]
    files = list(image_files(chosen))
    contents = _contents(tuple(os.path.normpath(place) if isinstance(place, Path) else place for place, _ in files))
    where: defaultdict[tuple, list[int]] = defaultdict(list)
    for number, (content, (_, box)) in enumerate(zip(contents, files, strict=True)):
        where[content, box].append(number)
    part_at, paths = list(part_of.values()), [str(path) for path in chosen["path"]]
    repeated = [same for same in where.values() if len(same) > 1]
    both = [same for same in repeated if len({part_at[number] for number in same}) > 1]
    twice = [same for same in repeated if len({part_at[number] for number in same}) == 1]
    findings = []
    kinds: list[tuple[FindingKind, list[list[int]], str]] = [
        (
            "image in both parts",
            both,
            f"in both parts, {' and '.join(parts)}: corrections are fitted on images that are scored",
        ),
        ("image twice", twice, "in a part more than once, and counted as often"),
    ]
    for kind, groups, what in kinds:
        if groups:
            names = tuple(" = ".join(dict.fromkeys(paths[number] for number in same)) for same in groups)
            many = "1 image is" if len(groups) == 1 else f"{len(groups)} images are"
            sentence = f"{many} {what} ({_shown(names)})."
            findings.append(Finding(kind, sentence, names[:_SHOWN], len(names)))
    return findings


def _parted_clusters(manifest: pd.DataFrame, parts: Mapping[str, Rows]) -> list[Finding]:
    if "cluster" not in manifest.columns:
        return []
    column = as_text(manifest["cluster"])
    both = set.intersection(*(set(column.iloc[list(rows)].dropna()) for rows in parts.values()))
    if not both:
        return []
    names = tuple(sorted(map(str, both)))
    sentence = (
        f"{len(names)} clusters have images in the {' and in the '.join(parts)} part ({_shown(names)}): corrections "
        "are fitted on the people or scenes that are scored."
    )
    return [Finding("cluster in both parts", sentence, names[:_SHOWN], len(names))]


@lru_cache(maxsize=4)
def _contents(places: tuple[str, ...]) -> tuple[tuple, ...]:
    """For every file a key that is equal where, and only where, the files' bytes are equal.

    Few files are read in full: one whose size no other file has differs from all others, and of the rest most differ
    in their first or last bytes. What is not a file of this machine is compared by its name.
    """
    keys: list[tuple] = [(place,) if (size := _size(place)) is None else (size,) for place in places]
    for read in (_ends, _whole):
        sharing: defaultdict[tuple, set[str]] = defaultdict(set)
        for place, key in zip(places, keys, strict=True):
            sharing[key].add(place)
        keys = [(*key, read(place)) if len(sharing[key]) > 1 else key for place, key in zip(places, keys, strict=True)]
    return tuple(keys)


def _size(place: str) -> int | None:
    try:
        return None if is_url(place) else Path(place).stat().st_size
    except (OSError, ValueError):
        return None


def _ends(place: str) -> bytes:
    with Path(place).open("rb") as file:
        first = file.read(_EDGE)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _EDGE))
        return hashlib.sha256(first + file.read()).digest()


def _whole(place: str) -> bytes:
    with Path(place).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
