"""The parts of a fairness audit's report: V before and after, candidates, what they encode, classes, flow, control."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from headlens import plots
from headlens.document.blocks import Section, Tile
from headlens.document.collateral import elsewhere_verdict
from headlens.document.figures import control_figure
from headlens.document.formatting import attribute_name, candidates, few
from headlens.document.harm import harm_sections
from headlens.document.heads import concept_figure, encoded_sections, heads_section
from headlens.metrics import SMALL
from headlens.metrics.harm import transitions_by_fate
from headlens.steps import FairnessResults
from headlens.tables import Column, Kind, Table, change, listed, number, percent, points

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

LIMITS = (
    "Cramér's V shows how strongly an attribute and the predicted class go together, not whether that is wrong: where "
    "the classes themselves go together with the attribute, right predictions do too.",
    "Not shown is not absent: other prompts, another attribute or more images may show it. Diffuse means "
    "that this locator found no small set of heads, not that there is none.",
    "The main ablation is direct: it changes what a head writes into the embedding, and leaves what later layers make "
    "of it as it was. The total effect stands beside it where images were passed again.",
    "Attributes are perceived by annotators, or inferred by the model: they are not what a person would say of "
    "themselves.",
    "Images under 30 a group leave a class's numbers coarse; single classes are many looks at one data set, and some "
    "will stand out by chance.",
)


def fairness_sections(audit: Audited, images: int = 8, maps: int = 4) -> list[Section]:
    """Everything that `audit.fairness()` found, but the cost elsewhere and the control.

    Args:
        audit: with fairness results.
        images: how many images stand at each end of a candidate's gallery; 0 for none.
        maps: how many images to draw per-token maps for; 0 for none.
    """
    found = _found(audit)
    named = bool(found.candidates)
    return [
        _association(audit),
        heads_section(audit),
        *encoded_sections(audit, images),
        *_tokens_section(audit, maps),
        *([_shares(audit)] if named else []),
        _classes(audit),
        *harm_sections(audit, found.predictions["before"], found.predictions["after"], "ablation"),
        *([_flow(audit)] if named else []),
    ]


def fairness_controls(audit: Audited) -> list[Section]:
    """The candidates against random heads, where there are candidates."""
    return [_control(audit)] if _found(audit).candidates else []


def fairness_notes(audit: Audited) -> list[str]:
    """What to know before believing a fairness audit's numbers."""
    found = _found(audit)
    note = few({effect.name: effect.images for effect in found.by_class}, "Classes")
    return [note] if note else []


def fairness_tiles(audit: Audited) -> list[Tile]:
    """The headline numbers of a fairness audit."""
    found = _found(audit)
    measured, removed = found.change, found.removed
    tiles = [
        Tile("Verdict", found.verdict.word, f"bias by {attribute_name(audit)}"),
        Tile("Candidates", listed(found.candidates, 3), f"by {found.locator}"),
    ]
    if found.candidates:
        v = f"{number(measured.before.cramers_v)} → {number(measured.after.cramers_v)}"
        share = "" if removed.share is None else f"; {100 * removed.share:.0f} % of D removed"
        tiles.append(Tile("Cramér's V", v, f"with the candidates ablated{share}"))
        if found.control is not None:
            p = found.control.comparison("cramers_v").p
            tiles.append(Tile("p, random heads", f"{p:.3f}", f"{len(found.control.sets)} sets"))
        lost = measured.difference["accuracy"]
        tiles.append(Tile("Accuracy", f"{points(lost)} points", "with the candidates ablated"))
    return tiles


def fairness_verdict(audit: Audited) -> list[str]:
    """The verdict, the same in plain words, its cost in accuracy, and what stands beside it."""
    found = _found(audit)
    inferred = [f"The values of {found.attribute} are inferred zero-shot."] if found.inferred else []
    return [f"{found.verdict.headline}.", f"{_plain(audit)} {found.verdict.cost}", *found.verdict.remarks, *inferred]


def _plain(audit: Audited) -> str:
    found, n_heads = _found(audit), audit.store.n_layers * audit.store.n_heads
    name, heads = attribute_name(audit), len(found.candidates)
    if found.verdict.word == "not shown":
        return f"In plain words: these images do not show that the model's answers lean on {name}."
    if found.verdict.conditions[0].outcome == "open":
        return f"In plain words: these images are too few to tell whether the model's answers lean on {name}."
    if found.inferred:
        return (
            f"In plain words: the model's answers go together with what it takes for {found.attribute}; only labels "
            "can tell whether that is what it is."
        )
    leans = f"In plain words: the model's answers lean on {name} more than the true classes explain"
    if found.verdict.word == "diffuse":
        return f"{leans}, and no small set of heads was found that brings it about."
    if found.verdict.word == "inconclusive":
        return f"{leans}; whether few heads bring it about, these images and labels cannot decide."
    removed = found.removed.share or 0.0
    most = f"about {100 * removed:.0f} %" if removed < 1 else "all"
    few = "one" if heads == 1 else str(heads)
    return (
        f"{leans}. Replacing what {few} of its {n_heads} attention heads say by their average takes away {most} of "
        f"that. {elsewhere_verdict(audit)}"
    )


def fairness_settings(audit: Audited) -> dict[str, object]:
    """What repeats a fairness audit's numbers."""
    found = _found(audit)
    rule = found.verdict.rule
    control = found.control
    said: dict[str, object] = {
        "bootstrap of V": f"{found.change.n_bootstrap} draws, {100 * found.change.level:.0f} %, "
        f"seed {found.change.seed}",
        "permutations within classes": f"{found.within.n_permutations}, seed {found.within.seed}",
        "fairness rule": f"√D at least {rule.minimum_effect}, p at most {rule.alpha}, at most "
        f"{100 * rule.largest_share:.0f} % of the heads, at least {100 * rule.minimum_removed:.0f} % of D removed, "
        f"accuracy lower by at most {100 * rule.maximum_loss:.0f} points",
    }
    if control is not None:
        drawn = "every possible one" if control.exhaustive else f"drawn with seed {control.seed}"
        said["random sets of heads"] = f"{len(control.sets)}, {drawn}"
    if found.total is not None:
        said["total effect"] = f"{found.total.images} images, replaced at {_tokens(found)}"
    return said


def _found(audit: Audited) -> FairnessResults:
    assert audit.fairness_results is not None
    return audit.fairness_results


def _tokens(found: FairnessResults) -> str:
    assert found.total is not None
    return "the class token" if found.total.tokens == "class" else "all tokens"


def _association(audit: Audited) -> Section:
    found, name = _found(audit), attribute_name(audit)
    within = found.within
    text = (
        f"Cramér's V is 0 where {name} says nothing about the predicted class, and 1 where it settles it. The true "
        f"classes themselves go together with {name} by V = {number(found.labels_v)}. Were the predictions blind to "
        f"it within each true class, V would be {number(within.expected)} on average; it is {number(within.observed)}, "
        f"so that {change(within.excess)} is the model's own (p = {within.p:.3f} over {within.n_permutations:,} "
        f"permutations of the attribute within each class)."
    )
    if found.candidates:
        named = candidates(len(found.candidates))
        text += f"\n\nBefore is zero-shot; after, with {named} replaced by the mean of the reference split."
    else:
        text += "\n\nNo candidate was located, so that there is nothing to ablate: before and after are the same."
    return Section(
        f"Does {name} go together with the predictions?",
        text,
        table=replace(
            found.shown(),
            caption=f"Association of {name} with the predicted class, and accuracy, with "
            f"{100 * found.change.level:.0f} % intervals; those of the differences are paired bootstraps.",
        ),
        brief=(f"Before is zero-shot; after, with {candidates(len(found.candidates))} ablated.",),
        brief_table=True,
    )


def _tokens_section(audit: Audited, maps: int) -> list[Section]:
    figure = concept_figure(audit, maps) if maps else None
    if figure is None:
        return []
    name, values = attribute_name(audit), audit.attribute.value_names
    towards = f"towards {values[1]}, blue towards {values[0]}" if len(values) == 2 else "towards it, blue away from it"
    return [
        Section(
            "Where the candidates read",
            f"Images from both ends of the first candidate. Each map shows, patch by patch, what a head contributes "
            f"along the concept vector of {name}: orange {towards}. A patch that lights up is where the head read, not "
            "always where the thing is.",
            figure,
        )
    ]


_NO_SETS = "No random sets were drawn: what the ablation of the candidates does is not compared with chance."


def _control(audit: Audited) -> Section:
    found, name = _found(audit), attribute_name(audit)
    control = found.control
    if control is None:
        return Section(
            "Random-head control",
            _NO_SETS,
            brief=(_NO_SETS,),
        )
    compared = control.comparison("cramers_v")
    z = f"z = {compared.z:.1f}, " if np.isfinite(compared.z) else ""
    compared_with = (
        f"{control.note} {percent(1 - compared.share_at_least)} % of them lower V by less than the candidates do "
        f"({z}p = {compared.p:.3f})."
    )
    return Section(
        "Random-head control",
        f"The same ablation with other heads. {compared_with} V "
        f"is {number(compared.observed)} with the candidates ablated, and with random heads "
        f"{number(compared.mean)} on average and {number(compared.best)} at best. Accuracy is "
        f"{percent(found.change.after.accuracy)} % with the candidates ablated, and "
        f"{percent(float(control.drawn.average.mean()))} % on average with random heads.",
        control_figure(
            control,
            "cramers_v",
            names=("candidates ablated", "no head ablated"),
            quantity=f"Cramér's V of {name}",
        ),
        caption=f"Cramér's V of {name} and prediction; further to the left is weaker.",
        brief=(compared_with,),
    )


def _shares(audit: Audited) -> Section:
    found, name = _found(audit), attribute_name(audit)
    text = (
        "Each candidate ablated alone. Shares need not add up to 100 %: heads may repeat each other, or matter only "
        "together."
    )
    brief: tuple[str, ...] = ()
    if (total := found.total) is not None:
        direct, whole = (one.difference["cramers_v"] for one in (total.direct, total.total))
        low, high = total.total.interval["cramers_v"]
        brief = (
            f"Replaced inside the forward pass, where later layers react ({_tokens(found)}, {total.images} "
            f"images), the candidates change V by {change(whole)} [{change(low)}, {change(high)}], against "
            f"{change(direct)} directly on the same images; accuracy by "
            f"{points(total.total.difference['accuracy'])} points, against "
            f"{points(total.direct.difference['accuracy'])}.",
        )
        text += f"\n\n{brief[0]}"
    else:
        text += (
            "\n\nThe total effect, in which later layers react, was not measured: it needs the model and the images."
        )
    frame = pd.DataFrame(map(vars, found.shares)).astype({"share": float})
    titles = audit.titles
    frame["encodes"] = [titles.get(head, "not explained") for head in frame["head"]]
    columns: dict[str, Kind | Column] = {
        "head": "head",
        "cramers_v": Column("number", "V, this head ablated"),
        "change": Column("change", "change of V"),
        "share": Column("percent", "share of the effect"),
        "accuracy": "percent",
        "encodes": "text",
    }
    return Section(
        "Effect of each head",
        text,
        plots.shares(found.shares, found.change, found.total),
        caption=f"Change of Cramér's V of {name}, with {100 * found.change.level:.0f} % bootstrap intervals of the "
        "candidates together.",
        table=Table(frame, columns, f"Every candidate, ablated alone, for {name}."),
        brief=brief,
        brief_table=True,
    )


def _classes(audit: Audited) -> Section:
    """Accuracy, V and the gap between the attribute's values of every class, before and after."""
    found, name = _found(audit), attribute_name(audit)
    ranked = sorted(found.by_class, key=lambda one: one.v_after - one.v_before)
    frame = pd.DataFrame(map(vars, ranked))
    frame["name"] = [one.name if one.images >= SMALL else f"{one.name} (few)" for one in ranked]
    measures: dict[str, tuple[str, Kind]] = {
        "v": ("V", "number"), "gap": ("gap", "percent"), "accuracy": ("accuracy", "percent")
    }  # fmt: skip
    columns: dict[str, Kind | Column] = {
        "name": Column("text", "class"),
        "images": "count",
        **{
            f"{name}_{when}": Column(kind, f"{heading} {when}")
            for name, (heading, kind) in measures.items()
            for when in ("before", "after")
        },
        "corrected": "count",
        "newly_wrong": Column("count", "newly wrong"),
    }
    return Section(
        "Class by class",
        f"V here is that of {name} and whether the class is predicted, over all scored images; the gap is the "
        f"largest minus the smallest accuracy on the class over {', '.join(found.values)}.",
        plots.classes(found.by_class),
        caption=f"Classes sorted by the change of V by {name}; squares are classes under 30 images.",
        table=Table(frame, columns, f"Every class, largest fall of V by {name} first; few: under {SMALL} images."),
        brief=(),
        brief_table=True,
    )


def _flow(audit: Audited) -> Section:
    """The largest flows of changed predictions."""
    found, name = _found(audit), attribute_name(audit)
    named = candidates(len(found.candidates))
    scored, changed = len(found.predictions["before"]), int(found.transitions.sum())
    title = "Where the changed predictions went"
    if changed == 0:
        return Section(title, f"None of {scored:,} predictions changed.")
    fates = ", ".join(f"{count} {fate}" for fate, count in found.fate.items())
    before, after = found.predictions["before"], found.predictions["after"]
    parts = transitions_by_fate(audit.data.test_labels, before, after, len(found.classes))
    moved = f"{changed:,} of {scored:,} predictions changed ({percent(changed / scored)} %): {fates}."
    return Section(
        title,
        moved,
        plots.flow(found.classes, found.transitions, found.fate, parts),
        caption=f"Images whose predicted class changed with {named} for {name} ablated, from the class before to the "
        "class after.",
        brief=(moved,),
    )
