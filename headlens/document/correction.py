"""The parts of a correction audit's report: what correcting does, group by group, and against random heads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from headlens import plots
from headlens.document.blocks import Section, Tile
from headlens.document.collateral import elsewhere_verdict
from headlens.document.figures import control_figure
from headlens.document.harm import harm_sections
from headlens.document.heads import encoded_sections, heads_section, mistakes_figure
from headlens.metrics import Evaluation
from headlens.steps import HeadAblation
from headlens.tables import Column, Kind, Table, listed, percent, points

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

LIMITS = (
    "Location and corrections here are direct: they change what a head writes into the embedding, and leave what later "
    "layers make of it as it was.",
    "A correction that helps the worst group usually costs the groups that the bias favoured; compare the groups.",
    "A corrected model is not a fair model: only the named classes and attribute were looked at.",
)


def correction_verdict(audit: Audited) -> list[str]:
    """The verdict, the same in plain words with its cost, and what stands beside it."""
    assert audit.results is not None
    results = audit.results
    before = results.evaluations["zero-shot"]
    if results.verdict is None:
        return [
            f"No verdict: {_unjudged(audit)}.",
            f"In plain words: the model does worst on {_worst(before)}, where {percent(before.worst_group)} % of its "
            f"answers are right. Over all images {percent(before.average)} % are right.",
        ]
    name = results.verdict.method
    after = results.evaluations[name]
    there = "" if _worst(before) == _worst(after) else f"it does worst on {_worst(after)}, where "
    plain = (
        f"In plain words: the model does worst on {_worst(before)}, where {percent(before.worst_group)} % of its "
        f"answers are right. With {name} {there}{percent(after.worst_group)} % are. Over all images "
        f"{percent(before.average)} % are right before and {percent(after.average)} % after."
    )
    return [f"{results.verdict.headline}.", f"{plain} {elsewhere_verdict(audit)}", *results.verdict.remarks]


def correction_tiles(audit: Audited) -> list[Tile]:
    """The headline numbers of the judged method."""
    results = audit.results
    if results is None:
        return []
    before = results.evaluations["zero-shot"]
    if results.verdict is None:
        return [
            Tile("Verdict", "none", _unjudged(audit)),
            Tile("Worst group", f"{percent(before.worst_group)} %", _worst(before)),
            Tile("Average accuracy", f"{percent(before.average)} %", "over all images"),
        ]
    verdict, name = results.verdict, results.verdict.method
    after = results.evaluations[name]
    control = results.controls.get(name)
    tiles = [
        Tile("Verdict", verdict.word, f"of {name}"),
        Tile("Heads", listed(verdict.heads, 4), f"used by {name}"),
        Tile(
            "Worst group",
            f"{percent(before.worst_group)} → {percent(after.worst_group)}\N{NO-BREAK SPACE}%",
            _worst(before),
        ),
        Tile("Average accuracy", f"{points(after.average - before.average)} points", "over all images"),
    ]
    if control is not None:
        tiles.append(Tile("p, random heads", f"{control.comparison().p:.3f}", f"{len(control.sets)} sets"))
    return tiles


def _unjudged(audit: Audited) -> str:
    """Why there is no verdict on a correction."""
    located = audit.location
    nothing = located is not None and not (located.spurious or located.salient)
    return "no heads were located" if nothing else "no correction was judged"


def _worst(evaluation: Evaluation) -> str:
    return min(evaluation.groups, key=lambda group: evaluation.groups[group])


def correction_sections(audit: Audited, images: int, heads: bool = True) -> list[Section]:
    """Everything that `audit.evaluate()` found, but the cost elsewhere.

    Args:
        audit: with results.
        images: how many images to draw per-token maps for; with 0 no picture is drawn at all.
        heads: whether the located heads, and what they encode, have their sections here.
    """
    located = [heads_section(audit), *encoded_sections(audit, 8 if images else 0)] if heads else []
    return [*located, *_maps(audit, images), _methods(audit), _groups(audit), *_harm(audit)]


def _harm(audit: Audited) -> list[Section]:
    results = audit.results
    if results is None or results.verdict is None:
        return []
    name = results.verdict.method
    return harm_sections(audit, results.predictions["zero-shot"], results.predictions[name], name)


def _maps(audit: Audited, images: int) -> list[Section]:
    figure = mistakes_figure(audit, images) if images else None
    if figure is None:
        return []
    return [
        Section(
            "Where the heads read",
            "Images that zero-shot gets wrong. Each map shows, patch by patch, what a head contributes along the "
            "difference between the predicted and the true class: orange pushes towards the mistake, blue against.",
            figure,
        )
    ]


def correction_notes(audit: Audited) -> list[str]:
    """What to know before believing a correction's numbers."""
    if audit.data.testbed_pairs:
        return [
            f"The {len(audit.data.pairs)} text pairs for knowledge injection are the testbed's own for these classes; "
            "with another model they are yours to give (--pairs)."
        ]
    if audit.question.pairs is not None:
        return []
    if not audit.data.too_many_pairs:
        return [
            "No text pairs were given for knowledge injection: the class prompts themselves stand in, which is weak."
        ]
    return [
        f"No text pairs were given for knowledge injection: the {len(audit.data.encoded_pairs)} directions along which "
        "the class prompts differ more than on average stand in, which is weak. All pairs of so many classes would "
        "span more than half of the embedding space."
    ]


def correction_settings(audit: Audited) -> dict[str, object]:
    """What repeats a correction's numbers."""
    assert audit.results is not None
    verdict = audit.results.verdict
    rule: dict[str, object] = (
        {}
        if verdict is None
        else {"verdict rule": f"gain above {100 * verdict.minimum_gain:.0f} points, p at most {verdict.alpha}"}
    )
    if audit.data.too_many_pairs:
        return rule | {"directions for injection": len(audit.data.encoded_pairs)}
    return rule | {"pairs for injection": [list(pair) for pair in audit.data.pairs]}


def _methods(audit: Audited) -> Section:
    assert audit.results is not None
    return Section(
        "What correcting does",
        "Each row is a way to answer: the model as it is (zero-shot), the corrections, and each correction with random "
        "heads instead of the located ones. A correction is worth its name where its worst group gains and random "
        "heads do not do as much.",
        table=replace(
            audit.results.shown(),
            caption="Accuracy with 95 % intervals over images; for random heads the central 95 % of the "
            "draws. The gap is average minus worst group.",
        ),
        brief=("Accuracy in per cent, with 95 % intervals; for random heads the central 95 % of the draws.",),
        brief_table=True,
    )


_MOST_GROUPS = 20
"""Groups that the figure draws; of more, the table is open from the start."""


def _groups(audit: Audited) -> Section:
    assert audit.results is not None
    evaluations = audit.results.evaluations
    first = evaluations["zero-shot"]
    groups = sorted(first.groups, key=lambda name: first.groups[name])
    frame = pd.DataFrame({"group": groups, "images": [first.sizes[name] for name in groups]})
    columns: dict[str, Kind | Column] = {"group": "text", "images": "count"}
    for method, one in evaluations.items():
        numbers = [(one.groups[name], *one.interval[f"groups.{name}"]) for name in groups]
        frame[[method, f"{method}_low", f"{method}_high"]] = numbers
        columns[method] = "percent"
    return Section(
        "Group by group",
        "A group is a class with a value of the attribute. A correction that helps the groups in which the two "
        "conflict often costs those in which they agree.",
        figure=plots.groups(list(audit.results.evaluations.values()), chance=1 / len(audit.task.classes)),
        caption="Accuracy before and after, with 95 % intervals.",
        table=Table(frame, columns, "Every group, the lowest accuracy of zero-shot first."),
        table_folded=len(groups) <= _MOST_GROUPS,
    )


def ablation_section(found: HeadAblation) -> Section:
    """Before and after the ablation of some heads, beside random heads."""
    compared = (
        "No random heads were drawn."
        if found.control is None
        else f"{found.control.note} The column has their mean; p: how often such a set does as well, the selection "
        "included."
    )
    text = (
        f"Ablated heads are replaced by their means over the reference split; measured on the scored split. {compared}"
    )
    title = f"Before and after ablating {listed(found.heads, 12)}"
    return Section(title, text, table=replace(found.shown(), caption=title), brief=(text,), brief_table=True)


def accuracy_section(evaluation: Evaluation) -> Section:
    """Accuracy of every group with nothing ablated."""
    title = "Accuracy by group, no head ablated"
    return Section(title, table=replace(evaluation.shown(), caption=title), brief=(), brief_table=True)


def correction_controls(audit: Audited) -> list[Section]:
    """Every method against random heads."""
    assert audit.results is not None
    sections = []
    for name, control in audit.results.controls.items():
        compared = control.comparison()
        z = f"z = {compared.z:.1f}, " if np.isfinite(compared.z) else ""
        compared_with = (
            f"{control.note} The worst group then reaches {percent(compared.mean)} % on average and "
            f"{percent(compared.best)} % at best, against {percent(compared.observed)} % with the located heads "
            f"({z}p = {compared.p:.3f})."
        )
        sections.append(
            Section(
                f"Random-head control ({name})",
                f"The method {name} repeated with other heads. {compared_with}",
                control_figure(control),
                caption="Worst-group accuracy of each random set; the located heads count where they stand to the "
                "right of nearly all.",
                brief=(f"{name}: {compared_with}",),
            )
        )
    return sections
