"""What an audit asks: the frozen question, its identity, and how two questions differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from headlens.errors import TaskError, check_type
from headlens.prompts import Attribute, TextBank, ZeroShotTask

Pairs = tuple[tuple[str, str], ...]
PAIRS = ("pairs", "spurious_pairs", "crossed_pairs")
"""Text pairs, each two texts that differ in what is to be distinguished."""


def as_pairs(pairs: Sequence[Sequence[str]] | None) -> Pairs | None:
    """Text pairs in their frozen form."""
    return None if pairs is None else tuple((str(first), str(second)) for first, second in pairs)


@dataclass(frozen=True)
class Question:
    """A task and an attribute, asked of one model on one data set.

    Attributes:
        model: the model's name.
        fingerprint: the digest of the model's weights and settings.
        manifest: the digest of the table of images.
        task: the classes; the manifest's `label` column holds their names.
        attribute: the attribute; the manifest's column of that name holds its values. Without such a column they are
            inferred zero-shot.
        reference: the split on which heads are located and corrections are fitted.
        test: the split that is scored.
        pairs: text pairs that distinguish the classes by true features, for knowledge injection. None: class prompts
            themselves, pair by pair (of many classes, the directions along which they differ most): a weak stand-in.
        spurious_pairs: text pairs that distinguish the attribute's values. None: the values' first prompts.
        crossed_pairs: text pairs that name one class and differ in the attribute's value, for classifier calibration.
            None: each class prompt joined with two values' prompts.
        bank: the general texts that heads are explained by. None: headlens' own, in words that the model knows.
        seed: of every random draw.
        skip_unlabelled: leave out images whose value of the attribute is missing or not among its values.
    """

    model: str
    fingerprint: str
    manifest: str
    task: ZeroShotTask
    attribute: Attribute
    reference: str = "val"
    test: str = "test"
    pairs: Pairs | None = None
    spurious_pairs: Pairs | None = None
    crossed_pairs: Pairs | None = None
    bank: TextBank | None = None
    seed: int = 0
    skip_unlabelled: bool = False

    def __post_init__(self) -> None:
        check_type("The task", self.task, ZeroShotTask, "Write hl.ZeroShotTask(['landbird', 'waterbird']).", TaskError)
        check_type(
            "The attribute",
            self.attribute,
            Attribute,
            "Name its column and give each value its prompts: hl.Attribute('background', {'land': 'a photo of the "
            "land', 'water': 'a photo of the water'}).",
            TaskError,
        )

    @property
    def identity(self) -> str:
        """A digest of every field but the model's name, which says nothing that the fingerprint does not."""
        asked = {name: value for name, value in self.to_dict().items() if name != "model"}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return plain | {
            "task": self.task.to_dict(),
            "attribute": self.attribute.to_dict(),
            "bank": None if self.bank is None else [self.bank.texts, self.bank.categories],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Question:
        """The inverse of `to_dict`."""
        bank = plain["bank"]
        asked = dict(plain) | {
            "task": ZeroShotTask(**plain["task"]),
            "attribute": Attribute(**plain["attribute"]),
            "bank": None if bank is None else TextBank(tuple(bank[0]), tuple(bank[1])),
        }
        return cls(**asked | {name: as_pairs(plain[name]) for name in PAIRS})

    def differences(self, other: Question) -> list[str]:
        """The fields in which another question differs, in words: "seed 0 → 1"."""
        found = []
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if mine != theirs and not (one.name == "model" and self.fingerprint == other.fingerprint):
                was, now = _short(mine), _short(theirs)
                found.append(f"{one.name.replace('_', ' ')} {was} → {now if now != was else 'the same in other texts'}")
        return found


def _short(value: object) -> str:
    if isinstance(value, ZeroShotTask):
        return f"{list(value.classes)} in {list(value.templates)}"
    if isinstance(value, Attribute):
        return f"{value.name}: {list(value.value_names)}"
    if isinstance(value, tuple):
        return f"{len(value)} pairs"
    return "the default" if value is None else str(value)
