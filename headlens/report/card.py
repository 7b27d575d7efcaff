"""An audit as a Markdown section for a model card: the report's words and tables, short, without figures.

Names of classes, values and models, and whatever else a manifest or a prompt holds, are shown letter by letter: every
sign that Markdown, HTML or a card's template could read as markup is escaped, and code stands between fences that its
content cannot close.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from headlens.heads import HeadId
from headlens.report import asked
from headlens.report import from_audit as whole
from headlens.report import from_correction as correction
from headlens.report import from_fairness as fairness
from headlens.report.asked import location_of
from headlens.report.elsewhere import TITLE, elsewhere_sentences
from headlens.report.pieces import setting
from headlens.report.words import change, listed, number, percent, points

if TYPE_CHECKING:
    from headlens.metrics import RandomComparison
    from headlens.steps.audited import Audited

# A backslash is understood before the first kind by every renderer, before the second kind only by some.
_MARKUP = re.compile(r"[\\`*_\[\]{}]")
_REFERENCE = re.compile(r"[<>&|~$]|:(?=//)|(?<=www)\.")
_OPENING = re.compile(r"^(?:[#+=-]+|\d{1,9}[.)])(?=\s|$)")  # what would begin a list, a heading or a line
_KEPT = ("headlens", "model", "model fingerprint", "audit", "splits", "locate", "seed")


def card(audit: Audited, level: int = 2) -> str:
    """The card's text. Steps that were not taken yet are taken first.

    Args:
        audit: with located heads or without; the results of `evaluate`, of `fairness`, or of both are told.
        level: of the section's heading, from 1 to 5; what stands under it is one level lower.
    """
    verdict, notes = [], asked.notes(audit)
    parts: list[str] = []
    settings, limits = asked.settings(audit), list(whole.LIMITS)
    if audit.fairness_results is not None:
        verdict += fairness.fairness_verdict(audit)
        notes += fairness.fairness_notes(audit)
        parts += _fairness(audit, level + 1)
        settings |= fairness.fairness_settings(audit)
        limits += fairness.LIMITS
    if audit.results is not None:
        verdict += correction.correction_verdict(audit)
        notes += correction.correction_notes(audit)
        parts += _correction(audit, level + 1)
        settings |= correction.correction_settings(audit)
        limits += correction.LIMITS
    question = {name: setting(value) for name, value in asked.question(audit).items()}
    repeat = {name: setting(value) for name, value in settings.items() if name in _KEPT}
    blocks = [
        f"{'#' * level} Attention heads and bias: {plain(asked.title(audit))}",
        *(f"**{plain(sentence)}**" for sentence in verdict),
        _table(("what was asked", "of what"), question.items()),
        _list(notes),
        *parts,
        *_elsewhere(audit, level + 1),
        f"{'#' * (level + 1)} Limits",
        _list(limits),
        f"{'#' * (level + 1)} To repeat it",
        _table(("setting", "value"), repeat.items()),
        _code(_without_place(audit, asked.command(audit))),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def plain(text: object) -> str:
    """Text in one line in which nothing is markup: neither Markdown nor HTML, a link, a mention or a template."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    line = _REFERENCE.sub(lambda sign: f"&#{ord(sign[0])};", line)
    line = _MARKUP.sub(lambda sign: f"\\{sign[0]}", line)
    return _OPENING.sub(lambda start: f"{start[0][:-1]}\\{start[0][-1]}", line)


def _correction(audit: Audited, level: int) -> list[str]:
    assert audit.results is not None
    rows = []
    for record in audit.results.records():
        cells = [str(record["method"])]
        for name in ("average", "worst_group", "gap"):
            low, high = record["interval"][name]
            cells.append(f"{percent(record[name])} ({percent(low)} to {percent(high)})")
        rows.append(cells)
    location = location_of(audit)
    heads = "" if location is None or audit.fairness_results is not None else _located(audit, "Spurious heads")
    return [
        f"{'#' * level} What correcting the heads does",
        heads,
        "Accuracy in per cent with 95 % bootstrap intervals over images; for random heads the central 95 % of the "
        "draws. The gap is average minus worst group.",
        _table(("method", "average", "worst group", "gap"), rows),
        _list(
            f"{name}: {control.note} They reach {percent(control.comparison().mean)} % in the worst group on average "
            f"and {percent(control.comparison().best)} % at best, against "
            f"{percent(control.comparison().observed)} % with the located heads ({_chance(control.comparison())})."
            for name, control in audit.results.controls.items()
        ),
    ]


def _fairness(audit: Audited, level: int) -> list[str]:
    found = audit.fairness_results
    assert found is not None
    rows = []
    measures = {
        "corrected": ("Cramér's V, bias-corrected", number, change),
        "cramers_v": ("Cramér's V", number, change),
        "accuracy": ("accuracy, %", percent, points),
    }
    for key, (name, write, write_change) in measures.items():
        ends = [
            f"{write(getattr(one, key))} ({write(one.interval[key][0])} to {write(one.interval[key][1])})"
            for one in (found.change.before, found.change.after)
        ]
        low, high = found.change.interval[key]
        moved = f"{write_change(found.change.difference[key])} ({write_change(low)} to {write_change(high)})"
        rows.append([name, *ends, moved])
    told = []
    if (control := found.control) is not None:
        told.append(
            f"{control.note} {percent(1 - control.comparison('cramers_v').share_at_least)} % of them lower V by less "
            f"than the candidates do ({_chance(control.comparison('cramers_v'))})."
        )
    elif found.candidates:
        told.append("No random heads were drawn: the ablation is not compared with chance.")
    if (total := found.total) is not None:
        direct, inside = (one.difference["cramers_v"] for one in (total.direct, total.total))
        told.append(
            f"Replaced inside the forward pass ({total.images} images, {total.tokens} token), the candidates change V "
            f"by {change(inside)}, against {change(direct)} directly."
        )
    return [
        f"{'#' * level} Does {plain(asked.attribute_name(audit))} go together with the predictions?",
        _located(audit, "Candidates"),
        "Before is zero-shot; after, with the candidates replaced by their mean over the reference split. 95 % "
        "bootstrap intervals; that of the change is paired.",
        _table(("measure", "before", "after", "change"), rows),
        _list(told),
    ]


def _elsewhere(audit: Audited, level: int) -> list[str]:
    found = audit.collateral_results
    if found is None:
        return [
            f"{'#' * level} {TITLE}",
            _list(["Other attributes and tasks were not asked: audit.collateral() does."]),
        ]
    told = [*elsewhere_sentences(found), *found.notes]
    return [f"{'#' * level} {TITLE}", _list(told)] if told else []


def _located(audit: Audited, what: str) -> str:
    location = location_of(audit)
    assert location is not None
    sentence = f"{what} by {location.method}: {_heads(audit, location.spurious)}."
    return plain(f"{sentence} Salient heads: {_heads(audit, location.salient)}." if location.salient else sentence)


def _heads(audit: Audited, heads: Sequence[tuple[int, int]]) -> str:
    """Heads with their labels, where they were explained."""
    named = []
    for head in (HeadId(*head) for head in heads):
        explained = audit.explanations.get(head)
        named.append(str(head) if explained is None else f"{head} ({explained.label})")
    return listed(named, 12)


def _chance(compared: RandomComparison) -> str:
    return f"z = {compared.z:.1f}, p = {compared.p:.3f}" if abs(compared.z) < float("inf") else f"p = {compared.p:.3f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _code(text: str) -> str:
    """A fenced block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{text}\n{fence}"


def _without_place(audit: Audited, command: str) -> str:
    """Where a store lies is nobody's business who reads a published card: its name is enough."""
    path = str(audit.store.path)
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return command.replace(json.dumps(path, ensure_ascii=False), json.dumps(name, ensure_ascii=False))
