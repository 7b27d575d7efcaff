"""What the residual stream would say of texts at each layer, and which components say it directly.

Two readings of the same forward pass:

- **Lens.** The residual stream before block l (and after the last) goes through the tower's own end: final norm with
  the statistics of *that* stream, pooling, projection; s_l(t) = cos(f_l, t). At the last depth it is the model's
  answer. This is the logit lens (nostalgebraist 2020) with texts for a vocabulary.
- **Direct effects.** f = Σ heads + Σ MLPs + stem + constant + pool (`headlens.decompose`, unit norm); a component's
  direct effect on t is its contribution · t. All of them sum to the cosine of the embedding with t, exactly.

Limits: an early stream was not trained to be read by the end of the tower, so that a flat early lens does not show that
nothing is known there; and a direct effect leaves out what later layers make of a component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from headlens.errors import ExplainError
from headlens.heads import HeadId
from headlens.models import HookedCLIP
from headlens.states import decompose


@dataclass(frozen=True)
class LogitLens:
    """Cosines by depth, and direct effects by component.

    Attributes:
        texts: the texts.
        lens: before the first block, and after each: cosines of the stream's reading with the texts.
        effects: of every component on every text; summed over components they are the last depth of `lens`.
        components: their names: stem, L0H0 …, L0 MLP …, pool, constant; a tower without such a part has no such name.
    """

    texts: tuple[str, ...]
    lens: Float[Tensor, "image depth text"]
    effects: Float[Tensor, "image component text"]
    components: tuple[str, ...]

    @property
    def depths(self) -> tuple[str, ...]:
        """The names of the depths: stem, L0, L1, …"""
        return ("stem", *(f"L{i}" for i in range(self.lens.shape[1] - 1)))

    def along(self, text: int = 0, against: int | None = None) -> Float[Tensor, "component"]:
        """The mean over images of each component's direct effect on a text, or on one text less another."""
        mean = self.effects.mean(0)
        return mean[:, text] if against is None else mean[:, text] - mean[:, against]

    def table(self, text: int = 0, against: int | None = None) -> pd.DataFrame:
        """One row a component, the largest effect of either sign first: `component`, `kind`, `effect`, and `share`.

        `effect` is the mean over images; `share` is |effect| of Σ |effect|, so that opposed components do not cancel.
        """
        along = self.along(text, against).double()
        sizes = along.abs()
        frame = pd.DataFrame(
            {
                "component": self.components,
                "kind": [kind_of(name) for name in self.components],
                "effect": along.tolist(),
                "share": (sizes / sizes.sum().clamp_min(1e-30)).tolist(),
            }
        )
        order = sizes.argsort(descending=True, stable=True).tolist()
        return frame.iloc[order].reset_index(drop=True)

    def _repr_html_(self) -> str:
        return self.table().head(20).to_html(index=False, escape=True, float_format="{:.4f}".format)


def kind_of(component: str) -> str:
    """head, MLP, stem, pool or constant, by a component's name."""
    if component.endswith("MLP"):
        return "MLP"
    return component if component in ("stem", "pool", "constant") else "head"


def logit_lens(
    clip: HookedCLIP, images: Float[Tensor, "image channel height width"], texts: Sequence[str]
) -> LogitLens:
    """Read texts off every layer's stream, and off every component.

    Args:
        clip: the model.
        images: preprocessed pixels; they pass through the model together, twice.
        texts: what to ask, as prompts: "a photo of a duck".

    Raises:
        ExplainError: for no image or no text, or a tower without a residual stream (a ResNet's attention pool).
        ModelError: for images of another size, or while hooks are set.
    """
    vision = clip.vision
    if not vision.cfg.residual:
        raise ExplainError("The tower has no residual stream to read by depth.", "Use hl.decompose(vision, images).")
    if not texts or not len(images):
        raise ExplainError(
            "at least one image and one text", f"{len(images)} images, {len(texts)} texts", "Pass prompts."
        )
    images = images.to(vision.device)
    unit = clip.encode_text(list(texts), normalize=True)
    parts = decompose(vision, images, normalize=True)
    with torch.no_grad():
        resid = vision.embed(images)
        readings = [vision.embedding_of(resid)]
        for block in vision.layers:
            resid = block(resid)
            readings.append(vision.embedding_of(resid))
    lens = normalize(torch.stack(readings, 1), dim=-1) @ unit.mT
    n_layers, n_heads = parts.heads.shape[1:3]
    stack = [parts.stem[:, None], parts.heads.flatten(1, 2), parts.mlps, parts.constant[:, None]]
    names = ["stem", *(str(HeadId(i, j)) for i in range(n_layers) for j in range(n_heads))]
    names += [*(f"L{i} MLP" for i in range(n_layers)), "constant"]
    if vision.pool is not None:
        stack.append(parts.pool[:, None])
        names.append("pool")
    along = einsum(torch.cat(stack, 1), unit.to(parts.heads), "image part embed, text embed -> image part text")
    return LogitLens(tuple(texts), lens, along, tuple(names))
