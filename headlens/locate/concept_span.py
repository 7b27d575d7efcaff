"""Heads whose TextSpan names an attribute: its prompts join the bank and compete for the head's variance.

Steps: put the attribute after the general bank; choose each head's first k texts; flag the head where the attribute is
among them and explains enough. Its place and the share of variance that it explains are the score.

The attribute enters in one of two forms. As its *prompts*, several a value, each for itself: then what the values have
in common competes too, and where a text tower hardly tells them apart a text of the bank that names the same things
wins. Or as its *concept vectors*, in a bank that is centred and brought to unit norm (`contrast_spans`): what is asked
is then the difference of the values alone.
The candidates for an intervention are the heads that this test and the
concept vectors (`headlens.locate.concept`) both flag.

After Yasser et al. 2026 (arXiv 2603.11793); TextSpan: Gandelsman et al. 2024 (arXiv 2310.05916). k, the minimum share
and both forms are our reading.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError, TaskError
from headlens.heads import HeadId, HeadScores
from headlens.locate.concept import ConceptScores, HeadMoments
from headlens.locate.textspan import head_spans


@dataclass(frozen=True, eq=False)
class ConceptSpans:
    """Where an attribute's prompts come among each head's texts.

    Attributes:
        place: of the first prompt among the head's texts, counted from 1; 0 where none was chosen.
        share: the share of the head's variance that the chosen prompts explain together.
        prompt: which prompt came first, as a row of the prompts; −1 where none was chosen.
        first: k, how many texts were chosen a head.
        minimum_share: what the prompts have to explain for a head to be flagged.
        n_bank: how many texts they competed with.
        form: how the attribute entered: as its "prompts", or as its concept "vectors".
        flagged: the heads with a prompt among their first k, largest share first.
    """

    place: Int[Tensor, "layer head"]
    share: Float[Tensor, "layer head"]
    prompt: Int[Tensor, "layer head"]
    first: int
    minimum_share: float | int
    n_bank: int
    flagged: tuple[HeadId, ...]
    form: Literal["prompts", "vectors"] = "prompts"

    def scores(self) -> HeadScores:
        """The share as `HeadScores`, the flagged heads selected."""
        return HeadScores("share of attribute prompts", self.share, float(self.minimum_share), self.flagged)

    def table(self) -> pd.DataFrame:
        """One row for each head with a prompt, largest share first: `head`, `place`, `prompt`, `share`, `flagged`."""
        rows = [
            (str(h), int(self.place[h]), int(self.prompt[h]), share, h in self.flagged)
            for h, share in self.scores()
            if int(self.place[h])
        ]
        frame = pd.DataFrame(rows, columns=["head", "place", "prompt", "share", "flagged"])
        return frame.sort_values("share", ascending=False, kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def concept_spans(
    moments: HeadMoments,
    basis: Any,
    bank: Float[Tensor, "text embed"],
    prompts: Float[Tensor, "prompt embed"],
    first: int = 5,
    minimum_share: float | int = 0.0,
    rank: int | None = None,
) -> ConceptSpans:
    """Let an attribute's prompts compete with a bank for every head's variance.

    Args:
        moments: of the images' heads, `headlens.states.head_moments(store)`.
        basis: `store.basis`.
        bank: the general texts' embeddings, not normalised.
        prompts: the embeddings of all of the attribute's prompts, not normalised either: TextSpan prefers the longer of
            two like texts, so that a mean of several prompts, which is shorter, would compete at a loss.
        first: k.
        minimum_share: what the prompts have to explain together; with 0 being chosen is enough.
        rank: as in `headlens.explain.textspan_heads`.

    Raises:
        TaskError: for prompts of another width than the bank, or none.
        ExplainError: as `textspan_heads` does.

    Limits: a bank that describes the attribute too (a general bank holds 'a photo of a woman') competes with the
    prompts and may win; leave such texts out. A prompt chosen late in a wide head explains little: see `share`.
    """
    if prompts.ndim != 2 or bank.ndim != 2 or len(prompts) == 0 or prompts.shape[1] != bank.shape[1]:
        raise TaskError(
            "prompts embedded as the bank is, one a row",
            f"shapes {list(prompts.shape)} and {list(bank.shape)}",
            "Embed both with clip.encode_text.",
        )
    n_layers, n_heads = moments.mean.shape[:2]
    spans = head_spans(
        basis.B.flatten(0, 1),
        moments.mean.flatten(0, 1),
        moments.scatter.flatten(0, 1) / moments.count,
        torch.cat([bank, prompts.to(bank)]),
        first,
        rank,
    )
    place = torch.zeros(n_layers * n_heads, dtype=torch.long)
    prompt = torch.full_like(place, -1)
    share = torch.zeros(n_layers * n_heads, dtype=torch.float64)
    for head, span in enumerate(spans):
        ours = span.texts >= len(bank)
        share[head] = span.share[ours].sum()
        if bool(ours.any()):
            at = int(ours.nonzero()[0, 0])
            place[head], prompt[head] = at + 1, int(span.texts[at]) - len(bank)
    named = ((place > 0) & (share >= minimum_share)).view(n_layers, n_heads).nonzero().tolist()
    share = share.view(n_layers, n_heads)
    flagged = sorted((HeadId(int(i), int(j)) for i, j in named), key=lambda h: (-float(share[h]), h))
    return ConceptSpans(
        place.view(n_layers, n_heads),
        share,
        prompt.view(n_layers, n_heads),
        first,
        minimum_share,
        len(bank),
        tuple(flagged),
    )


def contrast_spans(
    moments: HeadMoments,
    basis: Any,
    bank: Float[Tensor, "text embed"],
    directions: Float[Tensor, "direction embed"],
    first: int = 5,
    minimum_share: float | int = 0.0,
    rank: int | None = None,
) -> ConceptSpans:
    """The same with the attribute's concept vectors, in a bank without its mean and of unit norm.

    Args:
        moments: of the images' heads.
        basis: `store.basis`.
        bank: the general texts' embeddings.
        directions: `concept_directions(prototypes)`, of unit norm.
        first: k.
        minimum_share: what the concept vectors have to explain together.
        rank: as in `headlens.explain.textspan_heads`.

    Raises:
        TaskError: for vectors of another width than the bank, or none, and for a bank whose texts all coincide.
        ExplainError: as `textspan_heads` does.
    """
    centred = bank - bank.mean(dim=0)
    sizes = centred.norm(dim=1)
    if len(bank) and not bool((sizes > 0).any()):
        raise TaskError("a bank whose texts differ", f"{len(bank)} texts with one embedding", "Use another bank.")
    apart = centred[sizes > 0] / sizes[sizes > 0][:, None]
    return replace(concept_spans(moments, basis, apart, directions, first, minimum_share, rank), form="vectors")


def concept_candidates(scores: ConceptScores, spans: ConceptSpans) -> tuple[HeadId, ...]:
    """The heads that both tests flag, in the order of the concept scores. Both rules stay in the results.

    Raises:
        LocateError: for results of towers of different shapes.
    """
    if scores.share.shape != spans.share.shape:
        raise LocateError(
            "two results about one tower",
            f"{list(scores.share.shape)} and {list(spans.share.shape)} layers and heads",
            "Take both from the same store.",
        )
    return tuple(head for head in scores.flagged if head in spans.flagged)
