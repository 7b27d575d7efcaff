"""What the commands do: load, extract, audit, show."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import typer

from headlens.audit import Audit
from headlens.audit.folder import evaluation_record, identity, refuse_other_audit, write_json
from headlens.audit.methods import method
from headlens.cli import show
from headlens.errors import TaskError
from headlens.manifest import check_manifest, read_manifest
from headlens.models import HookedCLIP, load
from headlens.prompts import Attribute, ZeroShotTask, load_pairs
from headlens.states import extract


@dataclass(frozen=True)
class AuditRequest:
    """What `headlens audit` was asked, as it was typed. The fields are the command's options."""

    model: str
    pretrained: str | None
    data: Path
    classes: list[str]
    attribute: str
    out: Path
    templates: list[str]
    split: str
    pairs: Path | None
    conflicting: list[str] | None
    methods: list[str]
    store: Path | None
    batch_size: int
    on_error: str
    device: str
    precision: str
    draws: int
    bootstrap: int
    seed: int


def run_audit(request: AuditRequest, *, as_json: bool, open_report: bool | None) -> None:
    """Check everything that can be checked without the model, then extract, audit, save and show."""
    manifest = read_manifest(request.data)
    task = ZeroShotTask(request.classes, request.templates)
    attribute = parse_attribute(request.attribute, manifest)
    has_column = attribute.name in manifest.columns
    reference, test = _two(request.split)
    check_manifest(
        manifest,
        classes=task.classes,
        attribute=attribute.name if has_column else None,
        splits=(reference, test) if "split" in manifest.columns else (),
    )
    for name in request.methods:
        method(name)
    pairs = None if request.pairs is None else load_pairs(request.pairs)
    conflicting = None if request.conflicting is None else [_group(text) for text in request.conflicting]

    clip = load(request.model, pretrained=request.pretrained, device=request.device, precision=request.precision)
    if pairs is None and (card := _testbed_card(request.model)) is not None:
        pairs = [tuple(pair) for pair in card["pairs"]]
    _refuse_early(request.out, clip, manifest, task, attribute, (reference, test), request.seed)
    store = extract(
        clip,
        manifest,
        request.store or request.out / "store.zarr",
        batch_size=request.batch_size,
        on_error=request.on_error,
    )
    audit = Audit(clip, store, task, attribute, reference=reference, test=test, pairs=pairs, seed=request.seed)
    audit.locate(conflicting=conflicting)
    audit.evaluate(request.methods, draws=request.draws, bootstrap=request.bootstrap)
    _finish(audit, request.out, as_json=as_json, open_report=open_report)


def run_demo(
    model: str, out: Path, *, draws: int, bootstrap: int, seed: int, as_json: bool, open_report: bool | None
) -> None:
    """Render the testbed's images to files and take the path that real data takes."""
    from headlens import testbed

    card = testbed.card(model)
    clip = load(model)
    task = ZeroShotTask(card["classes"], card["templates"])
    attribute = Attribute(card["attribute"]["name"], card["attribute"]["values"])
    folder = out / "images"
    manifest = testbed.images(folder)
    _refuse_early(out, clip, manifest, task, attribute, ("val", "test"), seed)
    store = extract(clip, manifest, out / "store.zarr")
    audit = Audit(
        clip,
        store,
        task,
        attribute,
        pairs=[tuple(pair) for pair in card["pairs"]],
        spurious_pairs=[tuple(pair) for pair in card["spurious_pairs"]],
        seed=seed,
    )
    audit.locate()
    audit.evaluate(draws=draws, bootstrap=bootstrap)
    planted = [tuple(head) for head in card["planted_heads"]]
    if open_report is None:
        open_report = sys.stdout.isatty() and not as_json and not os.environ.get("CI")
    _finish(audit, out, as_json=as_json, open_report=open_report, planted=planted)


def run_extract(
    model: str,
    pretrained: str | None,
    data: Path,
    out: Path,
    batch_size: int,
    on_error: str,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Fill a store and say what is in it."""
    manifest = read_manifest(data)
    clip = load(model, pretrained=pretrained, device=device, precision=precision)
    store = extract(clip, manifest, out, batch_size=batch_size, on_error=on_error)
    facts = {
        "store": str(out),
        "images": len(store),
        "skipped": len(store.skipped),
        "layers": store.n_layers,
        "heads": store.n_heads,
        "model": store.model_name,
        "fingerprint": store.fingerprint,
    }
    show.facts(facts, as_json=as_json)


def parse_attribute(text: str, manifest: pd.DataFrame) -> Attribute:
    """Read `background`, or `age:young=a photo of a young person,old=…`; several prompts of a value stand between `|`.

    Without prompts the values are those of the manifest's column, and a value's prompt is "a photo of VALUE".
    """
    name, colon, rest = text.partition(":")
    name = name.strip()
    if not colon:
        if name not in manifest.columns:
            check_manifest(manifest, attribute=name)
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


def _refuse_early(
    out: Path,
    clip: HookedCLIP,
    manifest: pd.DataFrame,
    task: ZeroShotTask,
    attribute: Attribute,
    splits: tuple[str, str],
    seed: int,
) -> None:
    # Before the long work, not after it: a folder that holds another audit would otherwise be refused at the very end.
    from headlens.manifest import manifest_digest

    refuse_other_audit(out, identity(clip.fingerprint, manifest_digest(manifest), task, attribute, splits, seed))


def _finish(
    audit: Audit,
    out: Path,
    *,
    as_json: bool,
    open_report: bool | None,
    planted: list[tuple[int, int]] | None = None,
) -> None:
    audit.save(out)
    report = audit.report(out / "report.html")
    record = evaluation_record(audit)
    if planted is not None:
        record["planted"] = [list(head) for head in planted]
        write_json(out / "evaluation.json", record)
    if as_json:
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        show.audit(audit, report, planted)
    if open_report:
        _show(report)


def _show(report: Path) -> None:
    """Open the report in a browser where there is a screen; elsewhere the path that was printed is enough."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if screen:
        webbrowser.open(report.resolve().as_uri())


def _two(split: str) -> tuple[str, str]:
    names = [name.strip() for name in split.split(",")]
    if len(names) != 2 or not all(names):
        raise TaskError("two split names, REFERENCE,TEST", repr(split), "Write for example --split val,test.")
    return names[0], names[1]


def _group(text: str) -> tuple[str, str]:
    label, slash, value = text.partition("/")
    if not slash:
        raise TaskError("a group written class/value", repr(text), "Write for example landbird/water.")
    return label.strip(), value.strip()


def _testbed_card(model: str) -> dict | None:
    if not model.startswith("testbed"):
        return None
    from headlens import testbed

    return testbed.card(model)
