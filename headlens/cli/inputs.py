"""From what was typed to what an audit is made of. What can be checked without the model is checked first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from headlens.audit import Audit
from headlens.audit.folder import identity, refuse_other_audit
from headlens.datasets import read as read_dataset
from headlens.errors import TaskError
from headlens.extraction import extract
from headlens.loading import load
from headlens.manifest import check_manifest, manifest_digest, read_manifest
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, TextBank, ZeroShotTask, load_bank, load_pairs


@dataclass(frozen=True)
class Inputs:
    """The options that `headlens audit` and `headlens fairness` share, as they were typed."""

    model: str
    pretrained: str | None
    data: Path | None
    dataset: str | None
    root: Path | None
    keep: list[str]
    classes: str | None
    attribute: str
    out: Path
    templates: list[str]
    split: str
    pairs: Path | None
    bank: Path | None
    skip_unlabelled: bool
    store: Path | None
    batch_size: int | None
    on_error: str
    device: str
    precision: str
    seed: int


@dataclass(frozen=True)
class Checked:
    """The same, read and checked; the model has not been touched."""

    typed: Inputs
    manifest: pd.DataFrame
    notes: tuple[str, ...]
    task: ZeroShotTask
    attribute: Attribute
    splits: tuple[str, str]
    pairs: Sequence[Sequence[str]] | None
    bank: TextBank | None


def check(typed: Inputs) -> Checked:
    """Read manifest, task, attribute, pairs and bank.

    Raises:
        HeadlensError: for whatever of these is amiss.
    """
    manifest, known, notes = _images(typed)
    classes = known if typed.classes is None else listed(typed.classes)
    if classes is None:
        raise TaskError("class names", "none", "Write --classes NAME,NAME,… as in the column label.")
    task = ZeroShotTask(classes, typed.templates)
    attribute = parse_attribute(typed.attribute, manifest)
    splits = two_splits(typed.split)
    has_column = attribute.name in manifest.columns
    check_manifest(
        manifest,
        classes=task.classes,
        attribute=attribute.name if has_column and not typed.skip_unlabelled else None,
        splits=splits if "split" in manifest.columns else (),
    )
    return Checked(
        typed,
        manifest,
        notes,
        task,
        attribute,
        splits,
        None if typed.pairs is None else load_pairs(typed.pairs),
        None if typed.bank is None else load_bank(typed.bank),
    )


def open_audit(asked: Checked) -> Audit:
    """Load the model, fill the store, and put the question. The images are passed through the model here, once."""
    typed = asked.typed
    clip = load(typed.model, pretrained=typed.pretrained, device=typed.device, precision=typed.precision)
    pairs = asked.pairs
    if pairs is None and typed.model.startswith("testbed"):
        pairs = testbed_pairs(typed.model, asked.task)
    refuse_early(typed.out, clip, asked.manifest, asked.task, asked.attribute, asked.splits, typed.seed)
    store = extract(
        clip,
        asked.manifest,
        typed.store or typed.out / "store.zarr",
        batch_size=typed.batch_size,
        on_error=typed.on_error,
    )
    return Audit(
        clip,
        store,
        asked.task,
        asked.attribute,
        reference=asked.splits[0],
        test=asked.splits[1],
        pairs=pairs,
        bank=asked.bank,
        seed=typed.seed,
        skip_unlabelled=typed.skip_unlabelled,
    )


def listed(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _images(typed: Inputs) -> tuple[pd.DataFrame, list[str] | None, tuple[str, ...]]:
    if (typed.data is None) == (typed.dataset is None):
        raise TaskError(
            "images by --data FILE.csv, or by --dataset NAME with --root FOLDER",
            "both" if typed.data is not None else "neither",
            "Write one of them; `headlens doctor` lists the data sets that can be read.",
        )
    if typed.data is not None:
        return read_manifest(typed.data), None, ()
    if typed.root is None:
        raise TaskError("the folder of the data set", "--dataset without --root", "Write --root FOLDER.")
    keep = {}
    for text in typed.keep:
        column, equals, values = text.partition("=")
        if not equals or not listed(values):
            raise TaskError("values to keep, as COLUMN=VALUE,VALUE", repr(text), "For example gender=female,male.")
        keep[column.strip()] = listed(values)
    assert typed.dataset is not None
    data = read_dataset(typed.dataset, typed.root, keep=keep)
    return data.manifest, list(data.classes), data.notes


def parse_attribute(text: str, manifest: pd.DataFrame) -> Attribute:
    """Read `background`, or `age:young=a photo of a young person,old=…`; several prompts of a value stand between `|`.

    Without prompts the values are those of the manifest's column, and a value's prompt is "a photo of VALUE".
    """
    name, colon, rest = text.partition(":")
    name = name.strip()
    if not colon:
        if name not in manifest.columns:
            near = get_close_matches(name, map(str, manifest.columns), n=1)
            raise TaskError(
                "a column of the manifest, or an attribute with prompts",
                f"{name!r}, where the columns are {', '.join(map(str, manifest.columns))}",
                (f"Did you mean {near[0]!r}? " if near else "")
                + "What no column holds is inferred from prompts: NAME:value=prompt,value=prompt.",
            )
        values = sorted(manifest[name].dropna().astype(str).unique())
        return Attribute(name, {value: [f"a photo of {value}"] for value in values})
    prompts: dict[str, Sequence[str]] = {}
    for part in rest.split(","):
        value, equals, texts = part.partition("=")
        if not equals or not value.strip() or not texts.strip():
            raise TaskError(
                "an attribute written as name:value=prompt,value=prompt",
                repr(text),
                "A comma separates values and a | separates several prompts of one value; prompts hold neither.",
            )
        prompts[value.strip()] = [t.strip() for t in texts.split("|") if t.strip()]
    return Attribute(name, prompts)


def refuse_early(
    out: Path,
    clip: HookedCLIP,
    manifest: pd.DataFrame,
    task: ZeroShotTask,
    attribute: Attribute,
    splits: tuple[str, str],
    seed: int,
) -> None:
    """Before the long work, not after it: a folder that holds another audit would else be refused at the very end."""
    refuse_other_audit(out, identity(clip.fingerprint, manifest_digest(manifest), task, attribute, splits, seed))


def two_splits(split: str) -> tuple[str, str]:
    """Read REFERENCE,TEST."""
    names = [name.strip() for name in split.split(",")]
    if len(names) != 2 or not all(names):
        raise TaskError("two split names, REFERENCE,TEST", repr(split), "Write for example --split val,test.")
    return names[0], names[1]


def group_of(text: str) -> tuple[str, str]:
    """Read class/value."""
    label, slash, value = text.partition("/")
    if not slash:
        raise TaskError("a group written class/value", repr(text), "Write for example landbird/water.")
    return label.strip(), value.strip()


def testbed_pairs(model: str, task: ZeroShotTask) -> list[tuple[str, ...]] | None:
    """The text pairs of the testbed's world whose classes these are; None where no world has them."""
    from headlens import testbed

    cards = (testbed.card(model, world) for world in testbed.worlds_of(model))
    return next((pairs for card in cards if (pairs := card_pairs(card, task)) is not None), None)


def card_pairs(card: dict, task: ZeroShotTask) -> list[tuple[str, ...]] | None:
    """The card's text pairs, where the classes are those that they tell apart."""
    return [tuple(pair) for pair in card["pairs"]] if list(task.classes) == list(card["classes"]) else None
