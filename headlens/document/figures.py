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
from typing import Any, TypeVar

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from headlens import plots
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
from headlens.steps.evaluate import Evaluated
from headlens.steps.fairness import FairnessResults
from headlens.steps.locate import Evidence, direction_between, head_scores
from headlens.steps.record import Collateral, Evaluate, Explain, Fairness, Locate, Record, corrections, result_of

T = TypeVar("T")

_MOST_MAPS = 6


class Figures:
    """The figures of one audit; made by `Audit.plot`."""

    def __init__(self, data: AuditData, record: Record, evidence: Evidence):
        self._data, self._record, self._evidence = data, record, evidence

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
        scores = head_scores(self._evidence, score, **options) if isinstance(score, str) else score
        chosen = list(scores.selection if selected is None else map(HeadId.of, selected))
        found = result_of(self._record, Locate)
        located = () if found is None else found.located.spurious
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
        top = self.ends_of(head, count, between)
        ends = ("most", "least") if between is None else (f"most {between[0]}", f"most {between[1]}")
        rows = {ends[0]: (top.highest, top.highest_scores), ends[1]: (top.lowest, top.lowest_scores)}
        captions = {
            end: [f"{self._group(place)} {score:+.3f} #{self._row(place)}" for place, score in zip(*found, strict=True)]
            for end, found in rows.items()
        }
        return plots.gallery({end: thumbnails(self._data.test, places) for end, (places, _) in rows.items()}, captions)

    def ends_of(self, head: HeadLike, count: int = 6, between: Sequence[str] | None = None) -> TopImages:
        """The images that `images` shows, as numbers among the scored ones."""
        direction = None if between is None else direction_between(self._evidence, between)[0]
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
        if between is None:
            likely, other, said = self._margin_of(image)
            direction = self._data.classifier[likely] - self._data.classifier[other]
            unit = f"{self._data.question.task.classes[likely]} − {self._data.question.task.classes[other]}"
        else:
            direction, unit = direction_between(self._evidence, between)
            said = self._margin_of(image)[2]
        title = f"Contribution along {unit}"
        return token_figure(self._data, [image], {str(head): head for head in chosen}, direction[None], [said], title)

    def margins(self) -> go.Figure:
        """The margins of the true class on the scored images, by group, before and after every fitted correction."""
        fitted = {name: step.result.correction for name, step in corrections(self._record).items()}
        fitted = _needed(fitted, "corrected", "audit.correct('ablation')")
        rows = self._data.splits.test
        classifier = self._data.classifier.to(self._data.test.embedding)
        logits = {"zero-shot": self._data.logits(self._data.test.embedding)}
        logits |= {name: one.logits(self._data.test, classifier) for name, one in fitted.items()}
        values = {name: self._data.margins(scores, rows) for name, scores in logits.items()}
        return plots.margins(values, self._data.test_groups.tolist())

    def groups(self, evaluations: Sequence[Evaluation] | None = None) -> go.Figure:
        """Accuracy of every group under several methods, with intervals.

        Args:
            evaluations: by default zero-shot and the methods that `audit.evaluate` scored.
        """
        if evaluations is None:
            results = self._evaluated()
            evaluations = list(results.evaluations.values())
        return plots.groups(evaluations, chance=1 / len(self._data.question.task.classes))

    def collateral(self) -> go.Figure:
        """What the corrections cost elsewhere: the change of other tasks' accuracy, with intervals."""
        return plots.collateral(
            _needed(result_of(self._record, Collateral), "measured elsewhere", "audit.collateral()")
        )

    def controls(self, method: str | None = None) -> go.Figure:
        """Located heads against layer-matched random ones: a method's worst-group accuracy; where only the fairness
        audit was made, Cramér's V.

        Args:
            method: an evaluated method; by default the one that the verdict judges.

        Raises:
            HeadlensError: where no random heads were drawn for it.
        """
        found: FairnessResults | None = result_of(self._record, Fairness)
        if result_of(self._record, Evaluate) is None and found is not None and found.control is not None:
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
            observed, baseline = control.comparison().observed, float(control.baseline.worst_group)
            names = (name, "zero-shot")
            return plots.controls(control.drawn.worst_group, observed, baseline, names=names, note=control.note)
        return plots.controls(
            control.drawn.cramers_v,
            control.comparison("cramers_v").observed,
            float(control.baseline.cramers_v),
            names=(name, "no head ablated"),
            note=control.note,
            quantity=f"Cramér's V of {self._data.question.attribute.name} and prediction",
            measure="cramers_v",
        )

    def _explanation(self, head: HeadLike) -> Explanation:
        (one,) = as_heads([head], self._data.store.n_layers, self._data.store.n_heads)
        return _needed((result_of(self._record, Explain) or {}).get(one), f"explained of {one}", "audit.explain()")

    def _located(self) -> Located:
        found = _needed(result_of(self._record, Locate), "located", "audit.locate(), or name heads")
        return found.located

    def _evaluated(self) -> Evaluated:
        return _needed(result_of(self._record, Evaluate), "evaluated", "audit.evaluate()")

    def _hover(self) -> list[list[str]] | None:
        explained = result_of(self._record, Explain)
        if not explained:
            return None

        def text(head: HeadId) -> str:
            one = explained.get(head)
            return "" if one is None else "; ".join((one.label, *one.texts[:2]))

        shape = range(self._data.store.n_layers), range(self._data.store.n_heads)
        return [[text(HeadId(layer, head)) for head in shape[1]] for layer in shape[0]]

    def _row(self, place: int) -> int:
        return int(self._data.splits.test[place])

    def _group(self, place: int) -> str:
        return self._data.groups[self._row(place)]

    def _margin_of(self, image: int) -> tuple[int, int, str]:
        """The more and the less likely of true and best other class of an image, and what happened to it in words."""
        row = np.asarray([image])
        scores = self._data.among(self._data.logits(self._data.store.subset(row).embedding), row)[0]
        true = int(self._data.labels[image])
        best, second = scores.topk(2).indices.tolist()
        if best == true:
            return true, second, f"{image}: {self._data.groups[image]}, correctly classified"
        return (
            best,
            true,
            f"{image}: {self._data.groups[image]}, classified as {self._data.question.task.classes[best]}",
        )


def _needed(found: T | None, what: str, call: str) -> T:
    if not found:
        raise HeadlensError(f"Nothing was {what} yet.", f"Call {call} first.")
    return found


def token_figure(
    data: AuditData,
    rows: Sequence[int],
    heads: Mapping[str, HeadId],
    directions: Float[Tensor, "image embed"],
    titles: Sequence[str],
    title: str = "",
) -> go.Figure:
    """Per-token maps of heads, by the names of their rows, on some rows of the store.

    Raises:
        ModelError: where the audit was opened without its model.
        ImageError: for an image that cannot be read again.
    """
    if data.clip is None:
        raise ModelError(
            "Token maps pass an image through the model again, and this audit was opened without it.",
            "Give it as well: Audit.load(folder, clip=hl.load(...)).",
        )
    manifest = data.store.manifest.iloc[list(rows)]
    manifest.attrs.update(data.store.manifest.attrs)
    pictures = [read_image(path, box) for path, box in image_files(manifest)]
    vision = data.clip.vision
    pixels = torch.stack([data.clip.preprocess(picture) for picture in pictures]).to(vision.device)
    maps = token_maps(vision, pixels, list(heads.values()), directions.to(vision.device)).cpu()
    by_head = {name: maps[:, i] for i, name in enumerate(heads)}
    return plots.tokens([as_seen(data.clip, image) for image in pixels], by_head, titles, title)


def thumbnails(store: HeadStore, rows: Sequence[int]) -> list[Image.Image | None]:
    """The pictures of some rows, cut to their boxes and made small; None where a file cannot be read."""
    manifest = store.manifest.iloc[list(rows)]
    manifest.attrs.update(store.manifest.attrs)
    pictures: list[Image.Image | None] = []
    for path, box in image_files(manifest):
        try:
            picture = read_image(path, box)
        except ImageError:
            pictures.append(None)
        else:
            picture.thumbnail((SIDE, SIDE))
            pictures.append(picture)
    return pictures
