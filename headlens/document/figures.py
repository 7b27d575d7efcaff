"""`audit.plot`: the figures of an audit, as plotly figures that stand alone.

    audit.plot.heatmap()                  # the located heads' scores; or "attribution", "concept", "effect", …
    audit.plot.textspans("L3H1")          # what a head encodes
    audit.plot.images("L3H1")             # the images with the most and the least of it
    audit.plot.tokens(17, ["L3H1"])       # where in image 17 it reads
    audit.plot.groups(); audit.plot.margins(); audit.plot.controls(); audit.plot.collateral()

Heads are named as `L3H1`, `3.1` or `(3, 1)`. A figure of results that are not there yet names the call that makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from headlens import plots
from headlens.correct import Correction
from headlens.errors import HeadlensError, ImageError, ModelError, StoreError
from headlens.explain import Explanation, TopImages, as_seen, token_maps, top_images
from headlens.extraction import HeadStore
from headlens.heads import HeadId, HeadLike, HeadScores, as_heads
from headlens.images import read_image
from headlens.locate import Located
from headlens.manifest import image_files
from headlens.metrics import Evaluation
from headlens.plots.pictures import SIDE
from headlens.steps.controls import RandomHeads
from headlens.steps.data import AuditData
from headlens.steps.evaluate import ZERO_SHOT, Evaluated
from headlens.steps.locate import direction_between, head_scores

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

T = TypeVar("T")

_MOST_MAPS = 6


class Figures:
    """The figures of one audit; made by `Audit.plot`."""

    def __init__(self, audit: Audited):
        self._audit, self._data = audit, audit.data

    def __repr__(self) -> str:
        return f"audit.plot: {', '.join(f'.{name}()' for name in vars(Figures) if not name.startswith('_'))}"

    def heatmap(
        self,
        score: str | HeadScores | None = None,
        selected: Iterable[HeadLike] | None = None,
        title: str | None = None,
        **options: Any,
    ) -> go.Figure:
        """One number a head, centred on zero; selected heads with a full outline, located ones with a dotted one.

        The pointer shows the number and, where `audit.explain` was called, the head's label and first texts.

        Args:
            score: a name of `headlens.steps.SCORES`, or scores; by default those of the located heads.
            selected: heads to outline; by default those that the score selects.
            title: plain text; by default the score's name.
            options: the score's own, such as `between=("landbird", "waterbird")`.

        Raises:
            LocateError: for an unknown score or option, or a head outside the tower.
        """
        if score is None:
            score = self._located().scores()
        scores = head_scores(self._audit.evidence, score, **options) if isinstance(score, str) else score
        chosen = list(scores.selection if selected is None else map(HeadId.of, selected))
        located = () if self._audit.location is None else self._audit.location.spurious
        return plots.heatmap(scores, chosen, title, diverging=True, hover_extra=self._hover(), located=located)

    def textspans(self, head: HeadLike) -> go.Figure:
        """A head's texts with the variance that each explains, beside their categories.

        Raises:
            LocateError: for a head outside the tower.
        """
        return plots.textspan(self._explanation(head))

    def images(self, head: HeadLike, count: int = 6, between: Sequence[str] | None = None) -> go.Figure:
        """The scored images with the most and the least of a head; captions name group, score and row.

        Args:
            head: the head.
            count: images at each end.
            between: two classes, values or texts, to sort by the head's part along their difference; by default by
                the distance from the head's mean.

        Raises:
            LocateError, ExplainError: as `headlens.explain.top_images`.
        """
        ends = ("most", "least") if between is None else (f"most {between[0]}", f"most {between[1]}")
        return gallery(self._data, self.ends_of(head, count, between), ends, rows=True)[0]

    def ends_of(self, head: HeadLike, count: int = 6, between: Sequence[str] | None = None) -> TopImages:
        """The images that `images` shows, as numbers among the scored ones."""
        direction = None if between is None else direction_between(self._audit.evidence, between)[0]
        return top_images(self._data.test, HeadId.of(head), direction, min(count, len(self._data.test)))

    def tokens(
        self, image: int, heads: Iterable[HeadLike] | None = None, between: Sequence[str] | None = None
    ) -> go.Figure:
        """Where in an image heads read, patch by patch; the image goes through the model again.

        Args:
            image: its row in the store.
            heads: the heads; by default the first located ones.
            between: two classes or texts, along whose difference a head's contribution is shown. By default the
                predicted class less the true one where the image is wrong, else the true class less the next best.

        Raises:
            StoreError: for a row that the store does not have; LocateError: for a head outside the tower.
            ModelError, ImageError: where the model or the image file is not at hand.
        """
        if not 0 <= image < len(self._data.store):
            raise StoreError(
                f"There is no image {image} in a store of {len(self._data.store)}.", "Rows are those of store.manifest."
            )
        if heads is None:
            location = self._located()
            heads = [*location.spurious, *location.salient][:_MOST_MAPS]
        chosen = as_heads(heads, self._data.store.n_layers, self._data.store.n_heads)
        if not chosen:
            raise HeadlensError("There is no head to map.", 'Name heads, as ["L3H1", …].')
        likely, other, (said,) = decided(self._data, [image])
        if between is None:
            direction = self._data.classifier[likely] - self._data.classifier[other]
            unit = " − ".join(self._data.question.task.classes[int(one)] for one in (likely, other))
        else:
            one, unit = direction_between(self._audit.evidence, between)
            direction = one[None]
        heads_by_name = {str(head): [head] for head in chosen}
        title = f"Contribution along {unit}"
        return token_figure(self._data, [image], heads_by_name, direction, [f"{image}: {said}"], title)

    def margins(self) -> go.Figure:
        """The margins of the true class on the scored images, by group, before and after every fitted correction."""
        fitted = _needed(self._audit.corrections, "corrected", "audit.correct('ablation')")
        return plots.margins(margins_of(self._data, fitted), self._data.test_groups.tolist())

    def groups(self, evaluations: Sequence[Evaluation] | None = None) -> go.Figure:
        """Accuracy of every group under several methods, with intervals.

        Args:
            evaluations: by default zero-shot and the methods that `audit.evaluate` scored.
        """
        if evaluations is None:
            evaluations = list(self._evaluated().evaluations.values())
        return plots.groups(evaluations, chance=1 / len(self._data.question.task.classes))

    def collateral(self) -> go.Figure:
        """What the corrections cost elsewhere: the change of other tasks' accuracy, with intervals."""
        return plots.collateral(_needed(self._audit.collateral_results, "measured elsewhere", "audit.collateral()"))

    def controls(self, method: str | None = None) -> go.Figure:
        """Located heads against layer-matched random ones: a method's worst-group accuracy; where only the fairness
        audit was made, Cramér's V.

        Args:
            method: an evaluated method; by default the one that the verdict judges.

        Raises:
            HeadlensError: where no random heads were drawn for it.
        """
        found = self._audit.fairness_results
        if self._audit.results is None and found is not None and found.control is not None:
            return self.controls_of(found.control, "candidates ablated", of_v=True)
        controls, judged = self._evaluated().controls, self._evaluated().verdict
        name = method or (next(iter(controls), "") if judged is None else judged.method)
        if name not in controls:
            raise HeadlensError(
                f"No random heads were drawn for {name!r}.",
                f"They were for {', '.join(controls) or 'no method'}: name one of these, or evaluate with controls.",
            )
        return self.controls_of(controls[name], name)

    def controls_of(self, control: RandomHeads, name: str = "heads ablated", of_v: bool = False) -> go.Figure:
        """Heads against random ones, of an evaluation, a fairness audit, or `audit.ablate`.

        Args:
            control: the random sets.
            name: how the line of the heads themselves is called.
            of_v: compare Cramér's V rather than the worst group's accuracy.
        """
        if not of_v:
            return control_figure(control, names=(name, ZERO_SHOT), note=control.note)
        quantity = f"Cramér's V of {self._data.question.attribute.name} and prediction"
        names = (name, "no head ablated")
        return control_figure(control, "cramers_v", names=names, note=control.note, quantity=quantity)

    def _explanation(self, head: HeadLike) -> Explanation:
        (one,) = as_heads([head], self._data.store.n_layers, self._data.store.n_heads)
        return _needed(self._audit.explanations.get(one), f"explained of {one}", "audit.explain()")

    def _located(self) -> Located:
        return _needed(self._audit.location, "located", "audit.locate(), or name heads")

    def _evaluated(self) -> Evaluated:
        return _needed(self._audit.results, "evaluated", "audit.evaluate()")

    def _hover(self) -> list[list[str]] | None:
        explained = self._audit.explanations
        if not explained:
            return None

        def text(head: HeadId) -> str:
            one = explained.get(head)
            return "" if one is None else "; ".join((one.label, *one.texts[:2]))

        shape = range(self._data.store.n_layers), range(self._data.store.n_heads)
        return [[text(HeadId(layer, head)) for head in shape[1]] for layer in shape[0]]


def _needed(found: T | None, what: str, call: str) -> T:
    if not found:
        raise HeadlensError(f"Nothing was {what} yet.", f"Call {call} first.")
    return found


def decided(
    data: AuditData, rows: Sequence[int] | Int[np.ndarray, "image"]
) -> tuple[Int[Tensor, "image"], Int[Tensor, "image"], list[str]]:
    """The predicted class of some rows of the store, the candidate that it is compared with (the true one, or the next
    best where the prediction is correct), and what happened to each image in words."""
    rows = np.asarray(rows)
    predicted, second = data.logits(data.store.subset(rows).embedding, rows).topk(2, dim=1).indices.T
    true = torch.as_tensor(data.labels[rows]).to(predicted.device)
    names = data.question.task.classes
    said = [
        f"{group}, {'correctly classified' if best == label else f'classified as {names[best]}'}"
        for group, best, label in zip(data.groups[rows], predicted.tolist(), true.tolist(), strict=True)
    ]
    return predicted, torch.where(predicted == true, second, true), said


def margins_of(data: AuditData, fitted: Mapping[str, Correction]) -> dict[str, Float[np.ndarray, "image"]]:
    """The margins of the true class on the scored images: of zero-shot, and of each correction by its name."""
    classifier = data.classifier.to(data.test.embedding)
    logits = {ZERO_SHOT: data.logits(data.test.embedding)}
    logits |= {name: one.logits(data.test, classifier) for name, one in fitted.items()}
    return {name: data.margins(scores, data.splits.test) for name, scores in logits.items()}


def control_figure(
    control: RandomHeads, measure: Literal["worst_group", "cramers_v"] = "worst_group", **said: Any
) -> go.Figure:
    """Located heads against random ones by one measure; `said` are the words of `headlens.plots.controls`."""
    drawn, observed, baseline = (getattr(one, measure) for one in (control.drawn, control.observed, control.baseline))
    return plots.controls(drawn, float(observed), float(baseline), measure=measure, **said)


def gallery(data: AuditData, top: TopImages, ends: tuple[str, str], rows: bool = False) -> tuple[go.Figure, int]:
    """The scored images at both ends of a head, and how many of them could not be read again.

    Args:
        data: the question's arrays.
        top: the images, as numbers among the scored ones.
        ends: what both ends are called.
        rows: whether captions name the images' rows in the store, beside group and score.
    """
    pictures, captions = {}, {}
    for end, (places, scores) in zip(ends, top.ends, strict=True):
        pictures[end] = thumbnails(data.test, places)
        captions[end] = [
            f"{data.test_groups[place]} {score:+.3f}" + f" #{data.splits.test[place]}" * rows
            for place, score in zip(places, scores, strict=True)
        ]
    return plots.gallery(pictures, captions), sum(picture is None for row in pictures.values() for picture in row)


def token_figure(
    data: AuditData,
    rows: Sequence[int] | Int[np.ndarray, "image"],
    sets: Mapping[str, Sequence[HeadId]],
    directions: Float[Tensor, "image embed"],
    titles: Sequence[str],
    title: str = "",
) -> go.Figure:
    """Per-token maps of sets of heads, each summed and under its name, on some rows of the store.

    Raises:
        ModelError: where the audit was opened without its model.
        ImageError: for an image that cannot be read again.
    """
    if data.clip is None:
        raise ModelError(
            "Token maps pass an image through the model again, and this audit was opened without it.",
            "Give it as well: Audit.load(folder, clip=hl.load(...)).",
        )
    vision, manifest = data.clip.vision, data.store.subset(np.asarray(rows)).manifest
    pictures = [read_image(path, box) for path, box in image_files(manifest)]
    pixels = torch.stack([data.clip.preprocess(picture) for picture in pictures]).to(vision.device, vision.dtype)
    heads = list(dict.fromkeys(head for own in sets.values() for head in own))
    maps = token_maps(vision, pixels, heads, directions.to(vision.device)).cpu()
    summed = {name: maps[:, [heads.index(head) for head in own]].sum(dim=1) for name, own in sets.items()}
    return plots.tokens([as_seen(data.clip, image) for image in pixels], summed, titles, title)


def thumbnails(store: HeadStore, rows: Sequence[int]) -> list[Image.Image | None]:
    """The pictures of some rows, cut to their boxes and made small; None where a file cannot be read."""
    pictures: list[Image.Image | None] = []
    for path, box in image_files(store.subset(list(rows)).manifest):
        try:
            picture = read_image(path, box)
        except ImageError:
            pictures.append(None)
        else:
            picture.thumbnail((SIDE, SIDE))
            pictures.append(picture)
    return pictures
