"""What `headlens locate`, `explain`, `correct`, `evaluate` and `report` do: a step of an audit, kept in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headlens.audit import Audit
from headlens.audit.methods import method
from headlens.audit.requirements import parse_requirement
from headlens.cli import show
from headlens.cli.asked import Asked
from headlens.cli.finish import open_in_browser
from headlens.cli.inputs import check, group_of, listed, open_audit
from headlens.cli.run_audit import check_locator, finish_audit
from headlens.errors import LocateError, TaskError
from headlens.explain import Explanation
from headlens.heads import HeadId
from headlens.loading import load
from headlens.models import HookedCLIP

_OF_THE_MODEL = {"model", "pretrained", "device", "precision"}
_RECORD = "audit.json"


def run_locate(asked: Asked, *, locator: str, conflicting: list[str] | None, as_json: bool) -> None:
    """Locate, and forget what rested on the heads before."""
    check_locator(locator)
    groups = None if conflicting is None else [group_of(text) for text in conflicting]
    audit, folder = _open(asked)
    location = audit.locate(locator, conflicting=groups)
    _save(audit, folder)
    found: dict[str, Any] = {
        "audit": str(folder),
        "locator": location.method,
        "spurious": [list(head) for head in location.spurious],
        "salient": [list(head) for head in location.salient],
        "note": audit.location_note,
        "splits": audit.splits.note,
    }
    if not as_json:
        found |= {role: _named(getattr(location, role)) for role in ("spurious", "salient")}
    _say(found, as_json)


def run_explain(asked: Asked, *, heads: list[str], texts: int | None, as_json: bool) -> None:
    """Explain every head, as far as that has not been done, and show some or all."""
    wanted = [HeadId.of(text) for text in heads]
    audit, folder = _open(asked)
    _check_heads(audit, wanted)
    if texts is not None or len(audit.explanations) < audit.store.n_layers * audit.store.n_heads:
        audit.explain(count=min(texts or 10, len(audit.bank)))
        _save(audit, folder)
    shown = {head: audit.explanations[head] for head in wanted or audit.explanations}
    if as_json:
        heads_told = {str(head): one.to_dict() for head, one in shown.items()}
        typer.echo(json.dumps({"audit": str(folder), "heads": heads_told}, indent=2, ensure_ascii=False))
        return
    console = Console()
    if not wanted:
        console.print(_overview(audit))
    for head in wanted:
        console.print(_texts(shown[head]))


def run_correct(asked: Asked, *, methods: str, as_json: bool) -> None:
    """Fit corrections on the reference split and say where they were saved."""
    names = listed(methods)
    for name in names:
        method(name)
    audit, folder = _open(asked)
    for name in names:
        audit.correct(name)
    _save(audit, folder)
    places = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["corrections"]
    location = audit.located()
    found: dict[str, Any] = {
        "audit": str(folder),
        "fitted on": f"{len(audit.reference)} images of the split {audit.reference_name}",
        "spurious": [list(head) for head in location.spurious],
        "salient": [list(head) for head in location.salient],
        "corrections": {name: str(folder / places[name]) for name in names},
    }
    if not as_json:
        found |= {role: _named(getattr(location, role)) for role in ("spurious", "salient")}
        found |= found.pop("corrections")
    _say(found, as_json)


def run_evaluate(
    asked: Asked,
    *,
    methods: str | None,
    draws: int,
    bootstrap: int,
    require: list[str],
    as_json: bool,
    open_report: bool | None,
) -> None:
    """Score corrections as `headlens audit` does; without names those that are fitted, else ablation and LTC."""
    required = [parse_requirement(text) for text in require]
    names = None if methods is None else listed(methods)
    for name in names or ():
        method(name)
    audit, folder = _open(asked)
    if names is None:
        # A correction that was fitted from Python under another name has no random control of its own.
        fitted = [name for name in audit.corrections if _registered(name)]
        names = fitted or ["ablation", "ltc"]
    audit.evaluate(names, draws=draws, bootstrap=bootstrap)
    finish_audit(audit, folder, required, as_json=as_json, open_report=open_report)


def run_report(
    folder: Path,
    *,
    out: Path | None,
    card: Path | None,
    images: int,
    clip: tuple[str | None, str | None, str, str],
    as_json: bool,
    open_report: bool | None,
) -> None:
    """Write a saved audit's report and card again."""
    audit = Audit.load(folder)
    unscored = audit.results is None and audit.fairness_results is None
    if images or unscored:
        audit = Audit.load(folder, _model_of(audit, *clip))
    report = audit.report(out or folder / "report.html", images)
    if unscored:
        _save(audit, folder)
    target = card or folder / "card.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(audit.card(), encoding="utf-8", errors="backslashreplace")
    _say({"audit": str(folder), "report": str(report), "card": str(target)}, as_json)
    if open_report:
        open_in_browser(report)


def _open(asked: Asked) -> tuple[Audit, Path]:
    """The saved audit with its model, or the one that the options make, with what its folder already holds."""
    options = asked.options
    clip = (options["model"], options["pretrained"], options["device"], options["precision"].value)
    if asked.folder is not None:
        if beside := sorted(asked.given - _OF_THE_MODEL):
            typed = ", ".join(f"--{name.replace('_', '-')}" for name in beside)
            raise TaskError(
                "a saved audit's folder, or the options that make an audit",
                f"the folder {asked.folder} and {typed}",
                "Leave these out: the folder knows them. Another question is another audit: name it by options alone.",
            )
        audit = Audit.load(asked.folder)
        return Audit.load(asked.folder, _model_of(audit, *clip)), asked.folder
    if options["model"] is None or options["attribute"] is None:
        raise TaskError(
            "a saved audit's folder, or the options that make an audit",
            "neither" if not asked.given else "no --model" if options["model"] is None else "no --attribute",
            "Write the folder of an audit, or --model, --data, --classes and --attribute as for `headlens audit`.",
        )
    inputs = asked.inputs()
    audit = open_audit(check(inputs))
    return _with_what_was_found(audit, inputs.out), inputs.out


def _with_what_was_found(audit: Audit, folder: Path) -> Audit:
    """The folder's audit where it asks the same with the same pairs and texts: a step goes on from the one before."""
    if not (folder / _RECORD).is_file():
        return audit
    before = Audit.load(folder, audit.clip, audit.store)
    same = [list(p) for p in before.pairs] == [list(p) for p in audit.pairs] and before.bank_given == audit.bank_given
    return before if same and before.skip_unlabelled == audit.skip_unlabelled else audit


def _model_of(audit: Audit, name: str | None, pretrained: str | None, device: str, precision: str) -> HookedCLIP:
    """The model of a saved audit, by the name that it was saved with where none is given."""
    if name is None:
        # A model's label is its name, followed in brackets by its weights where these have a name of their own.
        name, _, weights = audit.store.model_name.removesuffix(")").partition(" (")
        pretrained = pretrained or weights or None
    return load(name, pretrained=pretrained, device=device, precision=precision)


def _save(audit: Audit, folder: Path) -> None:
    """Save, and take away what an earlier step left and no longer holds."""
    audit.save(folder)
    for name, found in (("evaluation.json", audit.results), ("fairness.json", audit.fairness_results)):
        if found is None:
            (folder / name).unlink(missing_ok=True)


def _check_heads(audit: Audit, heads: list[HeadId]) -> None:
    layers, width = audit.store.n_layers, audit.store.n_heads
    for head in heads:
        if not (head.layer < layers and head.head < width):
            raise LocateError(
                f"heads within {layers} layers of {width} heads", f"head {head}", "Layers and heads count from zero."
            )


def _registered(name: str) -> bool:
    from headlens.audit.methods import METHODS

    return name in METHODS


def _named(heads: Sequence[HeadId]) -> str:
    return ", ".join(str(HeadId(*head)) for head in heads) or "none"


def _say(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show.facts({name: value for name, value in found.items() if value != ""}, as_json=False)


def _overview(audit: Audit) -> Table:
    table = Table(title="What heads encode", title_justify="left", box=None, pad_edge=False)
    for name in ("head", "label", "explained, %", "first texts"):
        table.add_column(name, justify="right" if name.startswith("explained") else "left")
    for head, one in audit.explanations.items():
        table.add_row(str(head), Text(one.label), f"{100 * one.explained:.0f}", Text("; ".join(one.texts[:2])))
    return table


def _texts(one: Explanation) -> Table:
    table = Table(title=Text(f"Head {one.head}: {one.label}"), title_justify="left", box=None, pad_edge=False)
    for name in ("text", "category", "variance, %", "heads with it", "chosen again, %"):
        table.add_column(name, justify="left" if name in ("text", "category") else "right")
    again = one.again or [float("nan")] * len(one.texts)
    for text, category, share, heads, often in zip(
        one.texts, one.categories, one.share, one.shared, again, strict=True
    ):
        times = f"{100 * often:.0f}" if often == often else "–"
        table.add_row(Text(text), Text(category), f"{100 * share:.1f}", str(heads), times)
    return table
