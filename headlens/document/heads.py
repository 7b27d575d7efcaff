"""The heads: which were located, what they encode in texts and images, and where in an image they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int
from torch import Tensor

from headlens import plots
from headlens.document.blocks import Section
from headlens.document.figures import decided, gallery, token_figure
from headlens.document.formatting import attribute_name, location_of
from headlens.errors import ExplainError, ImageError, ModelError
from headlens.explain import Explanation, TopImages, overview, top_images
from headlens.heads import HeadId
from headlens.locate import Candidates, Located, Location
from headlens.tables import Column, Kind, Table, listed, percent

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

MOST_HEADS = 4
"""Heads with sections of their own: each brings its pictures, and the report is one file."""
TITLE = "Which heads"
_MOST_MAPS = 6


def shown_heads(audit: Audited) -> list[HeadId]:
    """The located heads that have sections of their own, spurious ones first."""
    location = location_of(audit)
    located = [] if location is None else [*location.spurious, *location.salient]
    return [HeadId(*head) for head in located[:MOST_HEADS]]


def encoded_sections(audit: Audited, images: int = 8) -> list[Section]:
    """An overview of the explained heads; then, for each of the first located heads, its texts and its images.

    Args:
        audit: with located heads.
        images: how many images stand at each end of a gallery; 0 for none.
    """
    heads = shown_heads(audit)
    sections = []
    if set(audit.explanations) - set(heads):
        sections.append(overview_section(audit))
    titles = audit.titles
    for head in heads:
        part = f"Head {head}: {titles[head]}" if head in titles else f"Head {head}"
        own = []
        if head in audit.explanations:
            own += [poles_section(audit, audit.explanations[head]), texts_section(audit.explanations[head])]
        if images:
            own.append(_gallery(audit, head, images))
        sections += [replace(section, part=part) for section in own]
    return sections


def overview_section(audit: Audited) -> Section:
    """The label of every explained head, as a figure and as a table."""
    shape = (audit.store.n_layers, audit.store.n_heads)
    location = location_of(audit)
    many = location is not None and len(location.spurious) + len(location.salient) > MOST_HEADS
    few = f" The first {MOST_HEADS} located heads follow by themselves." if many else ""
    titles = {str(head): title for head, title in audit.titles.items()}
    frame = overview(audit.explanations)
    return Section(
        "What heads encode",
        "Each cell is a head; its words are texts that lie at the two ends of what it distinguishes. Its colour says "
        "how well these texts predict the head's part of images that did not choose them, as a rank correlation. A "
        f"label is a summary to check against the head's images, not a finding.{few}",
        plots.overview(audit.explanations, shape=shape),
        caption="A dash marks a head without a clear meaning: no text says more of it than chance would. The table "
        "also has the labels by the attribute.",
        table=Table(
            frame.assign(label=[titles[str(head)] for head in frame["head"]]),
            {
                "head": "head",
                "label": "text",
                "share": Column("percent", "variance"),
                "rank_correlation": Column("change", "predicts the head"),
            },
            "Every explained head.",
        ),
        table_folded=True,
        brief_table=True,
    )


def poles_section(audit: Audited, one: Explanation) -> Section:
    """A head's principal directions, the texts at their ends, and its label."""
    caption = (
        "Its principal directions. 'Predicts the head': rank correlation of the texts' score of the embedding without "
        "this head with the head's own part, with interval; 'random labels': the 95 % quantile of random directions' "
        "texts; q: false discoveries among all heads explained together."
    )
    said = (
        "No direction of it is described by texts better than random directions of the same head would be."
        if one.pole is None
        else "It distinguishes images along one direction that holds enough of its variance; the label is that "
        "of its texts, which predict the head on images that chose neither."
        if len(one.poles) == 1
        else f"It distinguishes images along {len(one.poles)} directions that hold enough of its variance; the label "
        "is that of the first whose texts predict the head on images that chose neither."
    )
    try:
        encoding = audit.encoding(one.head)
        first = " ".join(encoding.sentences)
        if encoding.named and isinstance(location_of(audit), Candidates):
            first += f" The locator read the texts of {audit.attribute.name} too, which p and q take no account of."
    except ExplainError as few:  # too few scored images of a value
        first = str(few)
    return Section(
        f"What head {one.head} encodes",
        "\n\n".join((first, f"Label: {one.label}. {said}")),
        table=replace(one.shown_poles(), caption=caption) if one.poles else None,
        brief_table=True,
    )


def texts_section(one: Explanation) -> Section:
    """A head's texts by TextSpan."""
    return Section(
        f"Texts of head {one.head}",
        f"{len(one.texts)} texts of a bank of general ones explain {percent(one.explained)} % of what varies in the "
        f"head over the reference images.{_beside(one)}",
        plots.textspan(one, title=""),
        caption="Each text counts for what is left when its turn comes. The bank can only name what is in it.",
        table=replace(one.shown_texts(), caption=f"The texts of head {one.head}, in the order of choice."),
        table_folded=True,
        brief_table=True,
    )


def all_texts_section(explanations: Mapping[HeadId, Explanation]) -> Section:
    """The texts of every head by TextSpan, one row a head."""
    rows = [(str(head), "; ".join(one.texts)) for head, one in explanations.items()]
    return Section(
        "Texts of every head, in the order of choice",
        table=Table(pd.DataFrame(rows, columns=["head", "texts"]), {"head": "head", "texts": "text"}),
        brief_table=True,
    )


def _beside(one: Explanation) -> str:
    if not one.chance:
        return ""
    count = len(one.chance)
    own, chance = percent(sum(one.share[:count])), percent(one.chance[-1])
    return f" The first {count} explain {own} %; random directions of the bank's mean and covariance {chance} %."


def _gallery(audit: Audited, head: HeadId, images: int) -> Section:
    direction, up, down = concept_vector(audit, head)
    name = attribute_name(audit)
    which = f"that the head pushes hardest along the concept vector of {name}, towards one end and the other"
    if direction is None:
        direction, up, down, which = _class_direction(audit)
    count = min(images, max(1, len(audit.data.test) // 2))
    top = top_images(audit.data.test, head, direction, count)
    figure, gone = gallery(audit.data, top, (up, down))
    note = f" {gone} of them could not be read again." if gone else ""
    return Section(
        f"Images of head {head}",
        f"The scored images {which}.{note}",
        figure,
        caption=f"Below each its class and {name}, and the head's contribution minus its mean.",
        table=_files(audit, top, (up, down)),
        table_folded=True,
    )


def concept_vector(audit: Audited, head: HeadId) -> tuple[Tensor | None, str, str]:
    """The concept vector that a head was flagged by, and the names of its ends; None where no such test was made."""
    location = location_of(audit)
    if not isinstance(location, Candidates) or location.concept is None:
        return None, "most", "least"
    concept, values = location.concept, audit.attribute.value_names
    if len(concept.directions) == 1:
        return concept.directions[0], f"towards {values[1]}", f"towards {values[0]}"
    value = int(concept.value[head])
    return concept.directions[value], f"towards {values[value]}", f"away from {values[value]}"


def _class_direction(audit: Audited) -> tuple[Tensor | None, str, str, str]:
    """Of two classes, from the first to the second, with the names of its ends and of the images; of more, none."""
    classes = audit.task.classes
    if len(classes) != 2:
        return None, "most", "least", "in which the head is furthest from its mean, and nearest to it"
    first, second = audit.data.classifier
    ends = f"towards {classes[1]}", f"towards {classes[0]}"
    return second - first, *ends, f"that the head pushes hardest towards {classes[1]} and towards {classes[0]}"


def _files(audit: Audited, top: TopImages, ends: tuple[str, str]) -> Table:
    paths, groups = audit.data.test.manifest["path"], audit.data.test_groups
    rows = [
        (end, str(paths.iloc[place]), groups[place], score)
        for end, found in zip(ends, top.ends, strict=True)
        for place, score in zip(*found, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["end", "file", "group", "score"])
    columns: dict[str, Kind | Column] = {"end": "text", "file": "text", "group": "text", "score": "change"}
    return Table(frame, columns, f"The files of head {top.head}'s images.")


def heads_section(audit: Audited) -> Section:
    """The located heads, their scores as a figure and as a table, whatever the locator."""
    location = location_of(audit)
    if location is None:
        none = "No heads were located. audit.locate() does that."
        return Section(TITLE, none, brief=(none,), brief_table=True)
    brief = tuple(
        f"{what}: {_labelled(audit, heads)}."
        for what, heads in ((_what(location), location.spurious), ("Salient heads", location.salient))
        if heads or what != "Salient heads"
    )
    if isinstance(location, Location):
        return replace(_decisions(location), brief=brief, brief_table=True)
    if isinstance(location, Candidates) and (location.concept is not None or location.spans is not None):
        return replace(_candidates(location, attribute_name(audit)), brief=brief, brief_table=True)
    if not (location.spurious or location.salient):
        none = audit.location_note or "No heads were located."
        return Section(TITLE, none, brief=(none,), brief_table=True)
    salient = f" Salient heads: {listed(location.salient, 40)}." if location.salient else ""
    how = location.method if location.method == "transferred" else f"by the locator {location.method}"
    return Section(TITLE, f"Heads {how}: {listed(location.spurious, 40)}.{salient}", brief=brief, brief_table=True)


def _what(location: Located) -> str:
    return f"{'Candidates' if isinstance(location, Candidates) else 'Spurious heads'} by {location.method}"


def _labelled(audit: Audited, heads: Sequence[tuple[int, int]]) -> str:
    """Heads with their labels, where they were explained."""
    titles = audit.titles
    named = [HeadId(*head) for head in heads]
    return listed((f"{head} ({titles[head]})" if head in titles else str(head) for head in named), 12)


def _decisions(location: Location) -> Section:
    soft = location.method.endswith("-soft")
    bootstraps = (
        "." if location.stability is None
        else "; and the share of bootstraps of the reference images in which it is named."
    )  # fmt: skip
    apart = (
        f"where the mean scores differ by more than {location.threshold:.4f}"
        if soft
        else f"where the shares differ by more than {percent(location.threshold)} points"
    )
    n_heads = location.difference.numel()
    what = "A head's mean score over" if soft else "The share of images whose decision rests most on each head:"
    return Section(
        TITLE,
        f"Spurious heads: {listed(location.spurious, 40)}. Salient heads: {listed(location.salient, 40)}.\n\nSpurious "
        "heads weigh in more where the answer is wrong than where it is right; salient heads the other way round. "
        f"Compared are {location.n_wrong} incorrectly and {location.n_correct} correctly classified images of the "
        f"reference, from the groups in which class and attribute conflict; a head is named {apart}.",
        plots.location(location),
        caption=f"{what} {'the right images' if soft else 'right ones'} (V_C) and wrong ones (V_W).",
        table=replace(
            location.shown(n_heads),
            caption=f"Every head with a score{'' if soft else ', the share of the images that it decided'}{bootstraps}",
        ),
    )


def _candidates(candidates: Candidates, attribute: str) -> Section:
    tests = []
    n_heads = candidates.scores().values.numel()
    if (concept := candidates.concept) is not None:
        rule = concept.rule
        tests.append(
            f"By concept vectors a head is flagged that distinguishes the groups of {attribute} by "
            f"{rule.minimum_difference} standard deviations and with an AUROC of {rule.minimum_auroc} or more, and "
            f"that makes {percent(rule.minimum_part)} % or more of the distance that heads put between them."
        )
    if (spans := candidates.spans) is not None:
        tests.append(
            f"By TextSpan a head is flagged where {attribute} is among the first {spans.first} texts that span it, "
            f"in competition with {spans.n_bank:,} general texts."
        )
    both = len(tests) == 2
    if both:
        tests.append("Candidates are the heads that both tests flag.")
    return Section(
        TITLE,
        f"Candidates: {listed(candidates.spurious, 40)}. {' '.join(tests)}\n\n"
        f"The scores say what heads encode, not that it matters: that is shown by an intervention.",
        plots.candidates(candidates, title=""),
        caption=f"Every head's {candidates.scores().name}, for {attribute}."
        + (" Heads that one test alone flags are outlined with a broken line." if both else ""),
        table=replace(candidates.shown(n_heads), caption=f"Every head that a test flags for {attribute}."),
    )


def mistakes_figure(audit: Audited, count: int) -> go.Figure | None:
    """Per-token maps of the located heads on a few images that zero-shot gets wrong.

    None where there is nothing to draw: no model at hand, no located head, no mistake, or image files that are gone.
    """
    location, results = location_of(audit), audit.results
    heads = [*location.spurious, *location.salient][:_MOST_MAPS] if location else []
    if results is None or not heads:
        return None
    rows = _examples(audit, count)
    if not len(rows):
        return None
    predicted, true, titles = decided(audit.data, rows)
    spurious = set(location.spurious) if location else set()
    named = {f"{head} {'spurious' if head in spurious else 'salient'}": [head] for head in heads}
    return _maps(audit, rows, named, audit.data.classifier[predicted] - audit.data.classifier[true], titles)


def concept_figure(audit: Audited, count: int) -> go.Figure | None:
    """Per-token maps of the first candidates along the first one's concept vector, on images from both of its ends.

    None where there is nothing to draw: no model at hand, no concept test, or image files that are gone.
    """
    location = location_of(audit)
    heads = [HeadId(*head) for head in location.spurious[:_MOST_MAPS]] if location else []
    direction, up, down = concept_vector(audit, heads[0]) if heads else (None, "", "")
    if direction is None or count < 1:
        return None
    top = top_images(audit.data.test, heads[0], direction, min((count + 1) // 2, len(audit.data.test)))
    places = [*top.highest, *top.lowest][:count]
    ends = [up] * len(top.highest) + [down] * len(top.lowest)
    rows = audit.splits.test[places]
    titles = [f"{audit.data.groups[row]}, {end}" for row, end in zip(rows, ends[:count], strict=True)]
    return _maps(audit, rows, {str(head): [head] for head in heads}, direction.expand(len(rows), -1), titles)


def _maps(
    audit: Audited,
    rows: Int[np.ndarray, "image"],
    heads: dict[str, list[HeadId]],
    directions: Tensor,
    titles: list[str],
) -> go.Figure | None:
    """Maps of heads on some rows of the store; None without the model or an image."""
    with suppress(ModelError, ImageError):
        return token_figure(audit.data, rows, heads, directions, titles)
    return None


def _examples(audit: Audited, count: int) -> np.ndarray:
    """Rows of the store: mistakes of zero-shot that the judged method corrects first, spread over the groups."""
    assert audit.results is not None
    rows, truth, names = audit.splits.test, audit.data.test_labels, audit.data.test_groups.tolist()
    wrong, verdict = audit.data.zero_shot != truth, audit.results.verdict
    fixed = audit.results.predictions["zero-shot" if verdict is None else verdict.method] == truth
    seen: dict[str, int] = {}
    order = []
    for i in np.flatnonzero(wrong):
        rank = seen.get(names[i], 0)
        seen[names[i]] = rank + 1
        order.append((not fixed[i], rank, i))
    return rows[[i for _, _, i in sorted(order)[:count]]]
