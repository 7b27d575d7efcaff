"""An audit as a folder.

    audit.json                  the question and the record: each call with its result, arrays by their numbers
    arrays-….safetensors        every array of the results
    texts-….safetensors         the embeddings of every prompt that was used
    corrections/…/              each fitted correction, as `headlens.correct.load_correction` reads it
    pairs.yaml, bank.csv, …     the question's texts as the shell's options take them
    manifest.parquet            the table of images, where it is not the one that the store was extracted with
    evaluation.json             the scored methods, for people and programs
    fairness.json               the fairness audit, for people and programs

A folder holds one audit. Saving the same audit again replaces it; another audit is refused unless it may be
overwritten. `audit.json` is moved into place last and names the files that belong to it; what it does not name is
removed after that, so that a run that is killed leaves one whole audit.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from headlens._version import __version__
from headlens.correct import load_correction
from headlens.errors import HeadlensError, NotImportedError, OutputError, StoreError, StoreWarning
from headlens.explain import Explanation
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.images import is_url
from headlens.models import HookedCLIP
from headlens.serialization import (
    Arrays,
    digest,
    pack,
    read_arrays,
    reasons,
    unpack,
    write_arrays,
    write_json,
    write_whole,
)
from headlens.steps.ablate import HeadAblation
from headlens.steps.collateral import CollateralResults
from headlens.steps.controls import Cast
from headlens.steps.data import AuditData, check_inputs
from headlens.steps.evaluate import Evaluated, Fitted
from headlens.steps.fairness import FairnessResults
from headlens.steps.locate import LocatedHeads
from headlens.steps.methods import Given, Roles
from headlens.steps.question import Question
from headlens.steps.record import (
    Ablate,
    Call,
    Collateral,
    Correct,
    Evaluate,
    Explain,
    Fairness,
    Locate,
    Record,
    Step,
    result_of,
)
from headlens.steps.reproduce import ATTRIBUTE, BANK, CLASSES, PAIRS, TABLE
from headlens.steps.texts import TextEmbeddings
from headlens.steps.verdicts import Asked

FORMAT = 5
AUDIT = "audit.json"
_OF_ANOTHER_VERSION = (
    "Nothing was changed in it. Run the audit again from its store, which stays readable, or load it with that version."
)
_EVALUATION, _FAIRNESS = "evaluation.json", "fairness.json"


@dataclass(frozen=True)
class _SavedFit:
    """What of a `Fitted` is not in the correction's own folder."""

    located: Cast
    roles: Roles
    locator: str
    given: tuple[Given, ...]
    folder: str


_RESULTS: dict[type, Any] = {
    Locate: LocatedHeads,
    Correct: _SavedFit,
    Evaluate: Evaluated,
    Fairness: FairnessResults,
    Explain: dict[HeadId, Explanation],
    Collateral: CollateralResults,
    Ablate: HeadAblation,
}
"""What each call results in."""


def refuse_other_audit(folder: Path, question: Question | Mapping[str, Any]) -> None:
    """Raise `OutputError` where the folder holds an audit of another question, or is not a folder.

    Args:
        folder: to write to.
        question: what is asked; or some of its fields, before the model and the images are at hand.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "Name a folder to write to.")
    if not (folder / AUDIT).is_file():
        return
    try:
        other = Question.from_dict(_read(folder)["question"])
        if isinstance(question, Mapping):
            question = replace(other, **question)
        differences = other.differences(question)
        if other.identity == question.identity or not differences:
            return
        what = f"another audit; what differs: {'; '.join(differences)}"
    except (HeadlensError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"an audit that cannot be read ({reasons(error)})"
    raise OutputError(
        f"{folder} holds {what}.",
        "Name another folder, or replace it on purpose with overwrite=True (--overwrite in the shell). Nothing was "
        "changed in it.",
    )


def save(data: AuditData, record: Record, asked: Sequence[Asked], folder: Path, overwrite: bool = False) -> Path:
    """Write a question and its record; see `Audit.save`."""
    if not overwrite:
        refuse_other_audit(folder, data.question)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _saved(data, record, asked, folder)
    except OSError as error:
        raise OutputError(
            f"The audit cannot be written to {folder}: {error.strerror or error}.",
            "Make room or name another folder, and save it again: what was saved there before is still whole.",
        ) from error


def _saved(data: AuditData, record: Record, asked: Sequence[Asked], folder: Path) -> Path:
    _ = data.classifier  # so that the prompts of the task itself are among those remembered
    arrays: Arrays = {}
    steps = [_saved_step(step, folder, arrays) for step in record]
    prompts, embeddings = data.texts.known()
    texts = {"embeddings": embeddings}
    named = {"arrays": f"arrays-{digest(arrays)[:12]}.safetensors", "texts": f"texts-{digest(texts)[:12]}.safetensors"}
    write_arrays(folder / named["arrays"], arrays)
    write_arrays(folder / named["texts"], texts)
    if data.store.edited:
        data.store.manifest.to_parquet(folder / TABLE)
        named["table"] = TABLE
    _write_for_the_shell(data.question, folder)
    evaluated, fairness = result_of(record, Evaluate), result_of(record, Fairness)
    for name, found in (
        (_EVALUATION, None if evaluated is None else evaluation_record(data, record)),
        (_FAIRNESS, None if fairness is None else fairness_record(data, record)),
    ):
        if found is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_json(folder / name, found)
    write_json(
        folder / AUDIT,
        {
            "format": FORMAT,
            "headlens": __version__,
            "identity": data.question.identity,
            "question": data.question.to_dict(),
            "inferred": data.inferred,
            "store": _relative(_store_path(data), folder),
            "images": len(data.store),
            "splits": data.splits.note,
            "findings": _findings(data),
            "prompts": prompts,
            "files": named,
            "asked": [pack(one, Asked, arrays) for one in asked],
            "record": steps,
        },
    )
    if not data.store.edited:
        (folder / TABLE).unlink(missing_ok=True)
    _remove_unnamed(folder, {*named.values()}, {step["folder"] for step in steps if "folder" in step})
    return folder


def load(
    folder: Path, clip: HookedCLIP | None = None, store: HeadStore | None = None
) -> tuple[AuditData, Record, list[Asked]]:
    """Read what `save` wrote; see `Audit.load`.

    Raises:
        OutputError: for a folder without an audit, or one that is damaged or of another version.
        NotImportedError: for one with a correction of a class that no imported code defines.
    """
    check_inputs(clip, store)
    saved = _read(folder)
    try:
        question = Question.from_dict(saved["question"])
        texts = TextEmbeddings(None if clip is None else clip.encode_text)
        texts.remember(saved["prompts"], read_arrays(folder / saved["files"]["texts"])["embeddings"])
        arrays = read_arrays(folder / saved["files"]["arrays"])
        record = tuple(_loaded_step(step, folder, arrays) for step in saved["record"])
        asked: list[Asked] = [unpack(one, Asked, arrays) for one in saved.get("asked", ())]
        kept = saved["store"]
    except NotImportedError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, ExceptionGroup) as error:
        if (version := saved.get("headlens")) != __version__:
            raise OutputError(
                f"The audit in {folder} was saved by headlens {version}, which {__version__} cannot read: "
                f"{reasons(error)}.",
                _OF_ANOTHER_VERSION,
            ) from error
        raise OutputError(
            f"The audit in {folder} is damaged: {reasons(error)}.",
            "Restore the folder from a copy, or run the audit again; the store that it used is not affected.",
        ) from error
    if store is None:
        store = HeadStore.open(kept if is_url(kept) else (folder / kept).resolve())
    if "table" in saved["files"] and not store.edited:
        with warnings.catch_warnings():  # what the table leaves out was said when the audit was made
            warnings.simplefilter("ignore", StoreWarning)
            store = store.with_manifest(folder / saved["files"]["table"])
    if clip is not None:
        store.check_model(clip)
    return AuditData(question, store, clip, texts), record, asked


def _findings(data: AuditData) -> list[dict[str, object]]:
    return [finding.to_dict() for finding in data.findings]


def evaluation_record(data: AuditData, record: Record) -> dict[str, Any]:
    """The content of `evaluation.json`: methods, sizes, controls and verdict. Accuracies are fractions."""
    evaluated: Evaluated = result_of(record, Evaluate)
    located: LocatedHeads | None = result_of(record, Locate)
    collateral: CollateralResults | None = result_of(record, Collateral)
    sizes = next(iter(evaluated.evaluations.values())).sizes
    return {
        "model": data.question.model,
        "attribute": data.question.attribute.name,
        "attribute_inferred": data.inferred,
        "classes": list(data.question.task.classes),
        "splits": data.splits.note,
        "findings": _findings(data),
        "images": int(sum(sizes.values())),
        "sizes": sizes,
        "methods": evaluated.records(),
        **{
            role: [] if located is None else [list(head) for head in getattr(located.located, role)]
            for role in ("spurious", "salient")
        },
        "controls": {name: control.to_dict() for name, control in evaluated.controls.items()},
        "verdict": None if evaluated.verdict is None else evaluated.verdict.to_dict(),
        "total": None if evaluated.total is None else asdict(evaluated.total),
        "total_note": evaluated.total_note,
        "collateral": None if collateral is None else collateral.to_dict(),
    }


def fairness_record(data: AuditData, record: Record) -> dict[str, Any]:
    """The content of `fairness.json`."""
    fairness: FairnessResults = result_of(record, Fairness)
    collateral: CollateralResults | None = result_of(record, Collateral)
    explained: dict[HeadId, Explanation] = result_of(record, Explain) or {}
    return {
        "model": data.question.model,
        "splits": data.splits.note,
        "findings": _findings(data),
        "images": len(data.splits.test),
        **fairness.to_dict(),
        "heads": {str(head): one.to_dict() for head, one in explained.items()},
        "collateral": None if collateral is None else collateral.to_dict(),
    }


def saved_calls(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The calls of the audit in a folder, as they are saved, by type and name; none where no audit is."""
    steps = _read(folder)["record"] if (folder / AUDIT).is_file() else []
    return {(step["call"]["type"], step["call"].get("name", "")): step["call"] for step in steps}


def correction_folders(folder: Path) -> dict[str, Path]:
    """Where a saved audit keeps each fitted correction, by its name."""
    return {step["call"]["name"]: folder / step["folder"] for step in _read(folder)["record"] if "folder" in step}


def _saved_step(step: Step, folder: Path, arrays: Arrays) -> dict[str, Any]:
    call, result = step.call, step.result
    saved = {"call": pack(call, Call, arrays)}
    if isinstance(result, Fitted):
        place = f"corrections/{_slug(call.slot[-1])}-{digest(result.correction)[:8]}"
        result.correction.save(folder / place, overwrite=True)
        result = _SavedFit(result.located, result.roles, result.locator, result.given, place)
        saved["folder"] = place
    return saved | {"result": pack(result, _RESULTS[type(call)], arrays)}


def _loaded_step(saved: dict[str, Any], folder: Path, arrays: Arrays) -> Step:
    call: Call = unpack(saved["call"], Call, arrays)
    result: Any = unpack(saved["result"], _RESULTS[type(call)], arrays)
    if isinstance(result, _SavedFit):
        correction = load_correction(folder / result.folder)
        result = Fitted(correction, result.located, result.roles, result.locator, result.given)
    return Step(call, result)


def _write_for_the_shell(question: Question, folder: Path) -> None:
    """The question's texts as the files that the shell's options take; see `headlens.steps.reproduce`."""
    sets = {"true": question.pairs, "spurious": question.spurious_pairs, "crossed": question.crossed_pairs}
    given = {name: [list(pair) for pair in pairs] for name, pairs in sets.items() if pairs is not None}
    attribute = question.attribute
    texts = {
        PAIRS: yaml.safe_dump(given, allow_unicode=True, sort_keys=False) if given else None,
        BANK: None if question.bank is None else question.bank.table().to_csv(index=False),
        CLASSES: "".join(f"{name}\n" for name in question.task.classes),
        ATTRIBUTE: yaml.safe_dump(attribute.to_dict(), allow_unicode=True, sort_keys=False),
    }
    for name, text in texts.items():
        if text is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_whole(folder / name, text)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / AUDIT
    if not path.is_file():
        raise OutputError(f"There is no {AUDIT} in {folder}.", "Name a folder that Audit.save wrote.")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        version, form = saved.get("headlens"), saved.get("format")
    except (ValueError, AttributeError) as error:
        raise OutputError(f"{path} is damaged: {error}.", "Restore it from a copy, or run the audit again.") from error
    if form != FORMAT:
        raise OutputError(
            f"The audit in {folder} was saved by headlens {version} in format {form}; {__version__} reads {FORMAT}.",
            _OF_ANOTHER_VERSION,
        )
    return dict(saved)


def _remove_unnamed(folder: Path, files: set[str], corrections: set[str]) -> None:
    for path in (*folder.glob("arrays*.safetensors"), *folder.glob("texts*.safetensors")):
        if path.name not in files:
            path.unlink(missing_ok=True)
    for path in (folder / "corrections").glob("*"):
        if f"corrections/{path.name}" not in corrections and (path / "correction.json").is_file():
            shutil.rmtree(path)


def _store_path(data: AuditData) -> Path | str:
    if data.store.path is None:
        raise StoreError(
            "The store of this audit lies in memory alone.",
            "Save it first, store.save('acts.zarr'), and audit what that returns.",
        )
    path: Path | str = data.store.path
    return path


def _relative(path: Path | str, folder: Path) -> str:
    if is_url(str(path)):  # a store on object storage keeps its address
        return str(path)
    return os.path.relpath(Path(path).resolve(), folder.resolve())


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())[:40]
