"""An audit as a folder.

    audit.json              what was asked and found; `found` refers to arrays by their numbers
    evaluation.json         the scored methods, for people and programs
    fairness.json           the fairness audit, for people and programs
    arrays.safetensors      every array of what was found
    texts.safetensors       the embeddings of every prompt that was used
    corrections/<name>/     each fitted correction

A folder holds one audit. Saving the same audit again replaces it; another audit is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlens._version import __version__
from headlens.audit.collateral_results import CollateralResults
from headlens.audit.fairness_results import FairnessResults
from headlens.audit.results import Results
from headlens.audit.texts import TextEmbeddings
from headlens.correct import load_correction
from headlens.errors import OutputError
from headlens.explain import Explanation
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.images import is_url
from headlens.locate import Candidates, Located, Location, SearchResult
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, TextBank, ZeroShotTask
from headlens.serialization import Arrays, pack, read_arrays, unpack, write_arrays, write_json

if TYPE_CHECKING:
    from headlens.audit.audit import Audit

FORMAT = 2

_FOUND: dict[str, Any] = {
    "location": Location | Candidates | SearchResult | Located | None,
    "results": Results | None,
    "fairness_results": FairnessResults | None,
    "collateral_results": CollateralResults | None,
    "explanations": dict[HeadId, Explanation],
}
"""The attributes of an audit that hold what was found, with their types. A new kind of location joins the union."""
_RECORD = "audit.json"


def identity(
    model: str, manifest: str, task: ZeroShotTask, attribute: Attribute, splits: tuple[str, str], seed: int
) -> str:
    """A digest of what makes an audit the audit that it is: model, images, questions, splits and seed."""
    asked = [model, manifest, task.to_dict(), attribute.to_dict(), list(splits), seed]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def refuse_other_audit(folder: Path, own: str) -> None:
    """Raise `OutputError` where the folder holds an audit of another identity, or is not a folder."""
    if folder.exists() and not folder.is_dir():
        raise OutputError("a folder to write to", f"the file {folder}", "Name another folder.")
    if not (folder / _RECORD).is_file():
        return
    try:
        found = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        other, name = found.get("identity"), f"{found['task']['classes']} by {found['attribute']['name']}"
    except (json.JSONDecodeError, KeyError, AttributeError, OSError):
        other, name = None, "one that cannot be read"
    if other != own:
        raise OutputError(
            f"an empty folder, or one that holds this same audit ({own})",
            f"{folder}, which holds another audit ({other}: {name})",
            "Name another output folder, or remove this one if it is no longer needed. Nothing was changed in it.",
        )


def save(audit: Audit, folder: Path) -> Path:
    """See `Audit.save`."""
    refuse_other_audit(folder, audit.identity)
    folder.mkdir(parents=True, exist_ok=True)
    _ = audit.classifier  # so that the prompts of the task itself are among those remembered
    record: dict[str, Any] = {
        "format": FORMAT,
        "headlens": __version__,
        "identity": audit.identity,
        "model": {"name": audit.store.model_name, "fingerprint": audit.store.fingerprint},
        "store": _relative(audit.store.path, folder),
        "images": len(audit.store),
        "task": audit.task.to_dict(),
        "attribute": audit.attribute.to_dict() | {"inferred": audit.inferred},
        "splits": {"reference": audit.reference_name, "test": audit.test_name, "note": audit.splits.note},
        "seed": audit.seed,
        "pairs": audit.pairs if audit.pairs_given else None,
        "spurious_pairs": [list(pair) for pair in audit.spurious_pairs],
        "crossed_pairs": None if audit.crossed_given is None else [list(pair) for pair in audit.crossed_given],
        "prompts": audit.texts.save(folder / "texts.safetensors"),
        "skip_unlabelled": audit.skip_unlabelled,
        "bank": None if audit.bank_given is None else audit.bank_given.table().to_dict("list"),
        "location_note": audit.location_note,
        "corrections": {},
    }
    arrays: Arrays = {}
    record["found"] = {name: pack(getattr(audit, name), kind, arrays) for name, kind in _FOUND.items()}
    write_arrays(folder / "arrays.safetensors", arrays)
    for number, (name, correction) in enumerate(audit.corrections.items()):
        place = f"corrections/{number}-{_slug(name)}"
        correction.save(folder / place, overwrite=True)
        record["corrections"][name] = place
    if audit.results is not None:
        write_json(folder / "evaluation.json", evaluation_record(audit))
    if audit.fairness_results is not None:
        write_json(folder / "fairness.json", fairness_record(audit))
    write_json(folder / _RECORD, record)
    return folder


def evaluation_record(audit: Audit) -> dict[str, Any]:
    """The content of `evaluation.json`: methods, sizes, controls and verdict. Accuracies are fractions."""
    assert audit.results is not None
    first = next(iter(audit.results.evaluations.values()))
    return {
        "model": audit.store.model_name,
        "attribute": audit.attribute.name,
        "attribute_inferred": audit.inferred,
        "classes": list(audit.task.classes),
        "splits": audit.splits.note,
        "images": int(sum(first.sizes.values())),
        "sizes": first.sizes,
        "methods": audit.results.records(),
        "spurious": [list(head) for head in audit.location.spurious] if audit.location else [],
        "salient": [list(head) for head in audit.location.salient] if audit.location else [],
        "controls": {name: control.to_dict() for name, control in audit.results.controls.items()},
        "verdict": audit.results.verdict.to_dict(),
        "collateral": None if audit.collateral_results is None else audit.collateral_results.to_dict(),
    }


def fairness_record(audit: Audit) -> dict[str, Any]:
    """The content of `fairness.json`."""
    assert audit.fairness_results is not None
    assert audit.location is not None
    return {
        "model": audit.store.model_name,
        "locator": audit.location.method,
        "splits": audit.splits.note,
        "images": len(audit.splits.test),
        **audit.fairness_results.to_dict(),
        "heads": {str(head): one.to_dict() for head, one in audit.explanations.items()},
        "collateral": None if audit.collateral_results is None else audit.collateral_results.to_dict(),
    }


def load(folder: Path, clip: HookedCLIP | None, store: HeadStore | None) -> Audit:
    """See `Audit.load`."""
    from headlens.audit.audit import Audit

    path = folder / _RECORD
    if not path.is_file():
        raise OutputError(f"a folder with {_RECORD}", f"{folder}", "Name a folder that Audit.save wrote.")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("format") != FORMAT:
        raise OutputError(
            f"an audit in format {FORMAT}",
            f"format {record.get('format')}",
            "Save it again with this version.",
        )
    if store is None:
        store = HeadStore.open(kept if is_url(kept := record["store"]) else (folder / kept).resolve(), clip)
    texts = TextEmbeddings(None if clip is None else clip.encode_text)
    texts.remember(folder / "texts.safetensors", record["prompts"])
    pairs, bank = record["pairs"], record["bank"]
    audit = Audit(
        clip,
        store,
        ZeroShotTask(record["task"]["classes"], record["task"]["templates"]),
        Attribute(record["attribute"]["name"], record["attribute"]["values"]),
        reference=record["splits"]["reference"],
        test=record["splits"]["test"],
        pairs=None if pairs is None else [tuple(pair) for pair in pairs],
        spurious_pairs=[tuple(pair) for pair in record["spurious_pairs"]],
        crossed_pairs=record["crossed_pairs"],
        seed=record["seed"],
        texts=texts,
        bank=None if bank is None else TextBank(tuple(bank["text"]), tuple(bank["category"])),
        skip_unlabelled=record["skip_unlabelled"],
    )
    arrays = read_arrays(folder / "arrays.safetensors")
    for name, kind in _FOUND.items():
        if name in record["found"]:  # an audit of an earlier version lacks what was not measured then
            setattr(audit, name, unpack(record["found"][name], kind, arrays))
    audit.location_note = record["location_note"]
    audit.corrections = {name: load_correction(folder / place) for name, place in record["corrections"].items()}
    return audit


def _relative(path: Path | str, folder: Path) -> str:
    if is_url(str(path)):  # a store on object storage keeps its address
        return str(path)
    return os.path.relpath(Path(path).resolve(), folder.resolve())


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())[:40]
