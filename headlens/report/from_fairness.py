"""The parts of a fairness audit's report: V before and after, candidates, what they encode, classes, flow, control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from headlens import plots
from headlens.metrics import Association
from headlens.report.asked import attribute_name
from headlens.report.by_class import classes_section, flow_section
from headlens.report.content import Section
from headlens.report.elsewhere import elsewhere_verdict
from headlens.report.encoded import encoded_sections
from headlens.report.located import heads_section
from headlens.report.pictures import concept_figure
from headlens.report.words import candidates, change, few, number, percent, points
from headlens.steps import FairnessResults

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

LIMITS = (
    "Cramér's V tells how strongly an attribute and the predicted class go together, not whether that is wrong: where "
    "the classes themselves go together with the attribute, right predictions do too.",
    "Not shown is not absent: other prompts, another attribute or more images may show it. Diffuse says that this "
    "locator found no few heads, not that there are none.",
    "The main ablation is direct: it changes what a head writes into the embedding, and leaves what later layers make "
    "of it as it was. The total effect stands beside it where images were passed again.",
    "Attributes are perceived by annotators, or inferred by the model: they are not what a person would say of "
    "themselves.",
    "Images under 30 a group leave a class's numbers coarse; single classes are many looks at one data set, and some "
    "will stand out by chance.",
)


def fairness_sections(audit: Audited, heads: bool = True, images: int = 8, maps: int = 4) -> list[Section]:
    """Everything that `audit.fairness()` found, but the cost elsewhere and the control.

    Args:
        audit: with fairness results.
        heads: whether the located heads, and what they encode, have their sections here.
        images: how many images stand at each end of a candidate's gallery; 0 for none.
        maps: how many images to draw per-token maps for; 0 for none.
    """
    named = bool(_found(audit).candidates)
    located = [heads_section(audit), *encoded_sections(audit, images), *_tokens_section(audit, maps)]
    return [
        _association(audit),
        *(located if heads else []),
        *([_shares(audit)] if named else []),
        classes_section(audit),
        *([flow_section(audit)] if named else []),
    ]


def control_sections(audit: Audited) -> list[Section]:
    """The candidates against random heads, where there are candidates."""
    return [_control(audit)] if _found(audit).candidates else []


def fairness_notes(audit: Audited) -> list[str]:
    """What to know before believing a fairness audit's numbers."""
    found = _found(audit)
    note = few({effect.name: effect.images for effect in found.by_class}, "Classes")
    return [note] if note else []


def fairness_verdict(audit: Audited) -> list[str]:
    """The verdict by its rule, with its cost in accuracy; then the same in plain words."""
    found = _found(audit)
    inferred = [f"The values of {found.attribute} are inferred zero-shot."] if found.inferred else []
    return [f"{found.verdict.sentence} {found.verdict.cost}", _plain(audit), *inferred]


def _plain(audit: Audited) -> str:
    found, n_heads = _found(audit), audit.store.n_layers * audit.store.n_heads
    name, heads = attribute_name(audit), len(found.candidates)
    if found.verdict.word == "not shown":
        return f"In plain words: these images do not show that the model's answers lean on {name}."
    if found.verdict.conditions[0].outcome == "open":
        return f"In plain words: these images are too few to tell whether the model's answers lean on {name}."
    leans = f"In plain words: the model's answers lean on {name} more than the true classes explain"
    if found.verdict.word == "diffuse":
        return f"{leans}, and no few heads were found that bring it about."
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
        f"so that {change(within.excess)} is the model's own (p = {within.p:.3f} over {within.n_permutations} "
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
        table=_association_table(found),
        table_caption=f"Association of {name} with the predicted class, and accuracy in per cent, with "
        f"{100 * found.change.level:.0f} % bootstrap intervals; that of the change is paired.",
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


def _association_table(found: FairnessResults) -> pd.DataFrame:
    names = {
        "corrected": ("Cramér's V, bias-corrected", number, change),
        "cramers_v": ("Cramér's V", number, change),
        "accuracy": ("accuracy, %", percent, points),
    }
    rows = []
    for key, (name, write, write_change) in names.items():

        def told(one: Association, key: str = key, write=write) -> str:  # type: ignore[no-untyped-def]
            low, high = one.interval[key]
            return f"{write(getattr(one, key))} [{write(low)}, {write(high)}]"

        low, high = found.change.interval[key]
        ends = f"[{write_change(low)}, {write_change(high)}]"
        rows.append(
            {
                "measure": name,
                "before": told(found.change.before),
                "after": told(found.change.after),
                "change": f"{write_change(found.change.difference[key])} {ends}",
            }
        )
    return pd.DataFrame(rows)


def _control(audit: Audited) -> Section:
    found, name = _found(audit), attribute_name(audit)
    control = found.control
    if control is None:
        return Section(
            "Random-head control",
            "No random sets were drawn: what the ablation of the candidates does is not compared with chance.",
        )
    compared = control.comparison("cramers_v")
    z = f"z = {compared.z:.1f}, " if np.isfinite(compared.z) else ""
    return Section(
        "Random-head control",
        f"The same ablation with other heads. {control.note} "
        f"{percent(1 - compared.share_at_least)} % of them lower V by less than the candidates do "
        f"({z}p = {compared.p:.3f}). V "
        f"is {number(compared.observed)} with the candidates ablated, and with random heads "
        f"{number(compared.mean)} on average and {number(compared.best)} at best. Accuracy is "
        f"{percent(found.change.after.accuracy)} % with the candidates ablated, and "
        f"{percent(float(control.drawn.average.mean()))} % on average with random heads.",
        plots.controls(
            control.drawn.cramers_v,
            compared.observed,
            float(control.baseline.cramers_v),
            names=("candidates ablated", "no head ablated"),
            quantity=f"Cramér's V of {name}",
            measure="cramers_v",
        ),
        caption=f"Cramér's V of {name} and prediction; further to the left is weaker.",
    )


def _shares(audit: Audited) -> Section:
    found, name = _found(audit), attribute_name(audit)
    text = (
        "Each candidate ablated alone. Shares need not add up to 100 %: heads may repeat each other, or matter only "
        "together."
    )
    if (total := found.total) is not None:
        direct, whole = (one.difference["cramers_v"] for one in (total.direct, total.total))
        low, high = total.total.interval["cramers_v"]
        text += (
            f"\n\nReplaced inside the forward pass, where later layers react ({_tokens(found)}, {total.images} "
            f"images), the candidates change V by {change(whole)} [{change(low)}, {change(high)}], against "
            f"{change(direct)} directly on the same images; accuracy by "
            f"{points(total.total.difference['accuracy'])} points, against "
            f"{points(total.direct.difference['accuracy'])}."
        )
    else:
        text += (
            "\n\nThe total effect, in which later layers react, was not measured: it needs the model and the images."
        )
    table = pd.DataFrame(
        [
            {
                "head": str(one.head),
                "V, this head ablated": number(one.cramers_v),
                "change of V": change(one.change),
                "share of the effect, %": "–" if one.share is None else percent(one.share),
                "accuracy, %": percent(one.accuracy),
            }
            for one in found.shares
        ]
    )
    return Section(
        "Effect of each head",
        text,
        plots.shares(found.shares, found.change, found.total),
        caption=f"Change of Cramér's V of {name}, with {100 * found.change.level:.0f} % bootstrap intervals of the "
        "candidates together.",
        table=table,
        table_caption=f"Every candidate, ablated alone, for {name}.",
    )
