"""From what was typed to what an audit is made of. What can be checked without the model is checked before torch is
imported; this module imports it nowhere at the top."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from headlens.cli.options import DATA, Typed, listed
from headlens.errors import HeadlensWarning, ManifestError, OutputError, StoreError, TaskError

if TYPE_CHECKING:
    import pandas as pd

    from headlens.audit import Audit
    from headlens.models import HookedCLIP


@dataclass(frozen=True)
class Checked:
    """The options that make an audit, read and checked; the model has not been touched.

    Attributes:
        typed: the options.
        manifest: the table of images; None for a store's own.
        notes: what to know about the data set, a sentence each.
        classes: the class names.
        attribute: the attribute's name, and the prompts of each value.
        splits: the names of the reference and the test split.
    """

    typed: Typed
    manifest: pd.DataFrame | None
    notes: tuple[str, ...]
    classes: Sequence[str]
    attribute: tuple[str, Mapping[str, Sequence[str]]]
    splits: tuple[str, str]

    @property
    def out(self) -> Path:
        """The folder to write to."""
        return Path(self.typed["out"])


def check(typed: Typed) -> Checked:
    """Read manifest, classes and attribute.

    Raises:
        HeadlensError: for whatever of these cannot be used.
    """
    from headlens.cells import cell_text
    from headlens.manifest import check_manifest, named_groups, parse_attribute, value_indices

    for name in ("model", "attribute"):
        if typed[name] is None:
            raise TaskError(
                f"There is no --{name}.",
                "Name --model, --data, --classes and --attribute; for one step of an audit, its folder is enough.",
            )
    manifest, known, notes = _images(typed)
    table = manifest_of(typed["store"]) if manifest is None else manifest
    classes = known if typed["classes"] is None else class_names(typed["classes"])
    if classes is None:
        raise TaskError("There are no class names.", "Write --classes NAME,NAME,… as in the column label.")
    attribute = parse_attribute(typed["attribute"], table)
    splits = two_splits(typed["split"])
    labelled = attribute[0] in table.columns and not typed["skip_unlabelled"]
    check_manifest(
        table,
        classes=classes,
        attribute=attribute[0] if labelled else None,
        splits=splits if "split" in table.columns else (),
        files=False,
    )
    values = [cell_text(value) or "" for value in attribute[1]]
    named_groups(typed.get("of_conflicting", ()), classes, values)
    if labelled:
        value_indices(table[attribute[0]], values)
    if manifest is not None:
        manifest = _with_images(manifest, Path(typed["store"] or typed["out"] / "store.zarr"), typed["on_error"])
    return Checked(typed, manifest, notes, classes, attribute, splits)


def new_audit(checked: Checked) -> Audit:
    """Load the model, fill the store, and put the question. The images are passed through the model here, once."""
    from headlens.audit import Audit
    from headlens.extraction import HeadStore, extract
    from headlens.prompts import Attribute, ZeroShotTask, load_bank
    from headlens.steps.saved import refuse_other_audit

    typed = checked.typed
    task = ZeroShotTask(checked.classes, typed["template"] or ["a photo of a {}"])
    attribute = Attribute(checked.attribute[0], dict(checked.attribute[1]))
    if not typed["overwrite"]:  # as far as it can be seen without the model
        (reference, test), seed, skip = checked.splits, typed["seed"], typed["skip_unlabelled"]
        asked = {"reference": reference, "test": test, "seed": seed, "skip_unlabelled": skip}
        refuse_other_audit(checked.out, {"task": task, "attribute": attribute, **asked})
    clip = load_model(typed)
    options: dict[str, Any] = {
        "reference": checked.splits[0],
        "test": checked.splits[1],
        **pair_options(typed["pairs"], typed["model"], task),
        "bank": None if typed["bank"] is None else load_bank(typed["bank"]),
        "seed": typed["seed"],
        "skip_unlabelled": typed["skip_unlabelled"],
    }
    place = typed["store"] or checked.out / "store.zarr"
    if checked.manifest is None:
        store = HeadStore.open(place, clip)
    else:
        store = extract(clip, checked.manifest, place, batch_size=typed["batch_size"], on_error=typed["on_error"])
    audit = Audit(clip, store, task, attribute, **options)
    if not typed["overwrite"]:
        refuse_other_audit(checked.out, audit.question)
    return audit


def open_audit(typed: Typed) -> tuple[Audit, Path]:
    """The saved audit with its model, or the one that the options make, with what its folder already holds."""
    folder: Path | None = typed["folder"]
    if folder is not None:
        beside = sorted(typed.given & {one.name for one in DATA} | typed.given & {"out"})
        if beside:
            written = ", ".join(f"--{name.replace('_', '-')}" for name in beside)
            raise TaskError(
                f"Both the folder {folder} and {written} were named.",
                "Leave these out: the folder knows them. Another question is another audit: name it by options alone.",
            )
        return saved_audit(typed, folder), folder
    from headlens.audit import Audit
    from headlens.steps.saved import AUDIT

    checked = check(typed)
    audit = new_audit(checked)
    if (checked.out / AUDIT).is_file():
        before = Audit.load(checked.out, audit.clip, audit.store)
        if before.identity == audit.identity:
            return before, checked.out
    return audit, checked.out


def saved_audit(typed: Typed, folder: Path) -> Audit:
    """The audit that was saved in a folder, with its model, or the one that was named."""
    check_folder(folder)
    from headlens.audit import Audit
    from headlens.manifest import named_groups

    saved = Audit.load(folder)
    named_groups(typed.get("of_conflicting", ()), saved.task.classes, saved.attribute.value_names)
    return Audit.load(folder, load_model(typed, saved.question.model), saved.store)


def check_folder(folder: Path) -> None:
    """Raise `OutputError` for a folder without an audit, before anything heavy is imported."""
    if not (folder / "audit.json").is_file():
        raise OutputError(
            f"There is no saved audit in {folder}.",
            "Name the --out folder of an earlier command, or begin an audit: headlens new --help.",
        )


def load_model(typed: Typed, label: str = "") -> HookedCLIP:
    """The model that was named; else that of a saved audit, by its label."""
    from headlens.loading import load
    from headlens.steps.reproduce import ModelName

    name, pretrained = typed["model"], typed["pretrained"]
    if name is None:
        if not label:
            raise TaskError("There is no --model.", "Name an open_clip model, a checkpoint, or testbed.")
        known = ModelName.of(label)
        name, pretrained = known.name, pretrained or known.pretrained
    return load(
        name,
        pretrained=pretrained,
        device=typed["device"],
        precision=typed["precision"],
        pretrained_tag=typed["pretrained_tag"],
    )


def class_names(text: str) -> list[str]:
    """Names separated by commas; or those of a file, one a line."""
    from headlens.cells import read_text

    path = Path(text)
    if path.suffix != ".txt":
        if path.is_file():
            raise TaskError(f"The file of classes {text!r} is no .txt file.", "Write them one a line into a .txt file.")
        return listed(text)
    try:
        lines = read_text(path.read_bytes(), repr(text)).splitlines()
    except OSError as error:
        raise TaskError(
            f"The class names in {text!r} cannot be read: {error.strerror or error}.", "Check the path."
        ) from error
    return [line.strip() for line in lines if line.strip()]


def two_splits(split: str) -> tuple[str, str]:
    """Read REFERENCE,TEST."""
    names = listed(split)
    if len(names) != 2:
        raise TaskError(f"{split!r} is not two split names, REFERENCE,TEST.", "Write for example --split val,test.")
    if names[0] == names[1]:
        raise TaskError(
            f"The split {names[0]!r} is named both as reference and as test.",
            "Name one split to fit on and another to score.",
        )
    return names[0], names[1]


def pair_options(typed: str | None, model: str, task: Any) -> dict[str, Any]:
    """The text pairs of an audit: those of a file, which may hold three sets; else those that the testbed knows."""
    from headlens import testbed
    from headlens.prompts import load_pairs

    if typed is None:
        return {"pairs": testbed.pairs_for(model, task.classes)}
    name, colon, key = typed.rpartition(":")
    if colon and len(name) > 1 and not Path(typed).exists():
        return {"pairs": load_pairs(name, key)}
    found = {}
    if Path(typed).is_file():
        for kind, argument in {"true": "pairs", "spurious": "spurious_pairs", "crossed": "crossed_pairs"}.items():
            with suppress(TaskError):  # a file without this set, or with one list alone
                found[argument] = load_pairs(typed, kind)
    return found or {"pairs": load_pairs(typed)}


def _images(typed: Typed) -> tuple[pd.DataFrame | None, list[str] | None, tuple[str, ...]]:
    from headlens.datasets import read as read_dataset
    from headlens.manifest import read_manifest

    data, dataset, store = typed["data"], typed["dataset"], typed["store"]
    if data is None and dataset is None and store is not None and Path(store).exists():
        return None, None, ()
    if (data is None) == (dataset is None):
        raise TaskError(
            "Images were named both by --data and by --dataset." if data is not None else "No images were named.",
            "Write --data FILE.csv, or --dataset NAME with --root FOLDER, or a --store that is filled already; "
            "`headlens doctor` lists the data sets that can be read.",
        )
    if data is not None:
        return read_manifest(data, typed["root"]), _classes_beside(Path(data)), ()
    if typed["root"] is None:
        raise TaskError("--dataset was named without its folder.", "Write --root FOLDER.")
    keep = {}
    for text in typed["keep"]:
        column, equals, values = text.partition("=")
        if not equals or not listed(values):
            raise TaskError(f"{text!r} is not written as COLUMN=VALUE,VALUE.", "For example gender=female,male.")
        keep[column.strip()] = listed(values)
    found = read_dataset(dataset, typed["root"], keep=keep)
    return found.manifest, list(found.classes), found.notes


def _with_images(manifest: pd.DataFrame, store: Path, on_error: str) -> pd.DataFrame:
    """The table, whose image files are there; or, for a store that is filled, need not be: its images are known.

    A table that lies apart from the images then gets the store's folder for its relative paths.
    """
    from headlens.manifest import check_files, manifest_root

    if not store.exists():
        if on_error == "raise":
            check_files(manifest)
        return manifest
    from headlens.extraction import HeadStore

    with suppress(StoreError):  # one that is not filled yet, or not one: extract goes on, or says so
        kept = HeadStore.open(store)
        with suppress(ManifestError):
            check_files(manifest)
            return manifest
        manifest.attrs["root"] = manifest_root(kept.manifest)
    return manifest


def manifest_of(store: Path | str) -> pd.DataFrame:
    """The table that a store was filled with; which one that is, and whether its file changed since, is said."""
    from headlens.extraction import HeadStore
    from headlens.manifest import origin

    manifest = HeadStore.open(store).manifest
    where, differs = origin(manifest)
    click.echo(f"Labels are those saved with the store{where and f': {where}'}. --data FILE takes others.", err=True)
    if differs:
        warnings.warn(
            f"{manifest.attrs['table']['path']} has changed since the store was filled, and the store's labels are "
            "used. Name the file with --data for those in it; no image is read again.",
            HeadlensWarning,
            stacklevel=2,
        )
    return manifest


def _classes_beside(data: Path) -> list[str] | None:
    """The class names of a classes.txt beside the CSV, as `Dataset.write` leaves them."""
    beside = data.parent / "classes.txt"
    return class_names(str(beside)) if beside.is_file() else None
