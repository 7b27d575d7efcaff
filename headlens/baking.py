"""Mean ablation written into a tower's weights, so that the result is a plain checkpoint of the same architecture.

Attention rows sum to one: with W_V[l, h] = 0 and b_V[l, h] = z̄ a head's z is z̄ at every token of every image, whatever
norms follow. In a layer whose values have no bias, W_O[l, h] = 0 and b_O[l] + z̄ W_O[l, h] do the same, except under a
norm between values and output, which mixes the heads. z̄ is the class token's mean in the last layer of a tower that
reads the class token, and the mean over images and tokens elsewhere. This is the *total* ablation: later layers see it,
and react. In the last layer of a tower that reads the class token it is the direct edit, up to the final norm's σ;
elsewhere it is not, and `BakingDistance` says by how much.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from headlens.correct.head_ablation import MeanAblation
from headlens.correct.total import mean_z
from headlens.errors import HeadlensError, ModelError
from headlens.extraction import HeadStore
from headlens.heads import HeadId, HeadLike, as_heads
from headlens.metrics import worst_group
from headlens.models import HookedCLIP, HookedVisionTransformer
from headlens.steps.total import pixels


@dataclass(frozen=True)
class BakingDistance:
    """How far baked weights are from the direct edit, over the images of a store.

    Attributes:
        images: how many.
        error: ‖baked − direct‖ / ‖direct − plain‖ over all unit embeddings: 0 where both edits are one.
        cosine: the mean cosine of baked and direct embeddings.
        lowest_cosine: its lowest value.
        agreement: the share of images of which both predict one class; None without a classifier.
        worst_group: worst-group accuracy of the plain, the directly edited and the baked model; None without groups.
    """

    images: int
    error: float
    cosine: float
    lowest_cosine: float
    agreement: float | None = None
    worst_group: tuple[float, float, float] | None = None

    def facts(self) -> dict[str, str]:
        """Everything as name and text."""
        facts = {
            "images compared": str(self.images),
            "distance from the direct edit, as a share of the edit": f"{self.error:.3f}",
            "cosine with the direct edit": f"{self.cosine:.4f} on average, {self.lowest_cosine:.4f} at the lowest",
        }
        if self.agreement is not None:
            facts["same prediction as the direct edit"] = f"{self.agreement:.1%}"
        if self.worst_group is not None:
            plain, direct, baked = self.worst_group
            facts["worst-group accuracy"] = f"{plain:.1%} plain, {direct:.1%} direct edit, {baked:.1%} baked"
        return facts

    def card(self, heads: Iterable[HeadLike]) -> str:
        """A section for a model card, in Markdown."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in self.facts().items())
        named = ", ".join(map(str, as_heads(list(heads), 1 << 30, 1 << 30)))
        return (
            f"## Ablated heads\n\nThe heads {named} give their mean value for every image: W_V is zero there and b_V "
            "the mean; in a layer without b_V, W_O is zero there and b_O has the mean. Later layers react to it.\n\n"
            f"| what | value |\n| --- | --- |\n{rows}\n"
        )


@torch.no_grad()
def write_means(vision: HookedVisionTransformer, means: Mapping[HeadId, Float[Tensor, "d_head"]]) -> None:
    """Replace heads of a tower, in its weights, by one value of z each; see the module.

    Args:
        vision: the tower, which is changed.
        means: z̄ of each head.

    Raises:
        ModelError: for a layer with a norm between values and output whose values have no bias.
    """
    for head, mean in means.items():
        attn = vision.layers[head.layer].attn
        if attn.b_V.any():
            attn.W_V[head.head] = 0
            attn.b_V[head.head] = mean.to(attn.b_V)
        elif attn.ln_z is None:
            attn.b_O.add_(mean.to(attn.b_O) @ attn.W_O[head.head])
            attn.W_O[head.head] = 0
        else:
            raise ModelError(
                f"Layer {head.layer} has a norm between its values and its output, and its values have no bias that "
                "could hold a mean.",
                "Use the correction in a forward pass: clip.corrected(correction).",
            )


def bake(clip: HookedCLIP, heads: Iterable[HeadLike], store: HeadStore) -> HookedCLIP:
    """A copy of a model with the mean ablation of some heads written into its weights.

    Args:
        clip: the model.
        heads: the heads.
        store: of this model; the means are taken over its images, whose files are read again.

    Raises:
        ModelError: for no heads, image files that are not at hand, and as `write_means`.
        LocateError: for a head outside the tower.
        StoreError: for a store of another model.
    """
    store.check_model(clip)
    cfg = clip.vision.cfg
    wanted = as_heads(list(heads), cfg.n_layers, cfg.n_heads)
    if not wanted:
        raise ModelError("No head is named.", "Name at least one: hl.bake(clip, ['L10H3'], store).")
    try:
        means = mean_z(clip.vision, pixels(clip, store, "Means for baking"), wanted, "all")
    except (HeadlensError, KeyError) as error:
        reason = error.problem if isinstance(error, HeadlensError) else str(error)
        raise ModelError(
            f"Baking reads the store's image files, and cannot: {reason}", "Put the files where the manifest says."
        ) from error
    baked = copy.deepcopy(clip)
    write_means(baked.vision, means)
    note = f"The heads {', '.join(map(str, wanted))} were replaced by their mean over {len(store)} images."
    baked.description = replace(
        clip.description, name=f"{clip.description.name}, baked", notes=(*clip.description.notes, note), call=""
    )
    return baked


@torch.no_grad()
def baking_distance(
    clip: HookedCLIP,
    baked: HookedCLIP,
    heads: Iterable[HeadLike],
    store: HeadStore,
    classifier: Float[Tensor, "class embed"] | None = None,
    classes: Iterable[str] = (),
    attribute: str | None = None,
) -> BakingDistance:
    """Compare baked weights with the direct edit, `MeanAblation` fitted on the same store, over the store's images.

    Args:
        clip: the model before.
        baked: the model after.
        heads: the heads that were ablated.
        store: of the model before.
        classifier: unit class embeddings, for predictions.
        classes: their names, as in the manifest's column label.
        attribute: the column that makes groups with the label.
    """
    plain = F.normalize(store.embedding, dim=-1)
    direct = MeanAblation(list(heads)).fit(store).apply(store).embedding.to(plain)
    found = torch.cat([baked.encode_image(batch, normalize=True).cpu() for batch in pixels(baked, store, "Comparing")])
    found = found.to(plain)
    unit = F.normalize(direct, dim=-1)
    cosines = (found * unit).sum(-1)
    agreement = worst = None
    if classifier is not None:
        rows = classifier.to(plain)
        predicted = [(x @ rows.T).argmax(1) for x in (plain, unit, found)]
        agreement = float((predicted[1] == predicted[2]).double().mean())
        if attribute is not None:
            names = list(classes)
            truth = store.manifest["label"].astype(str).map(names.index).to_numpy()
            groups = (store.manifest["label"].astype(str) + ", " + store.manifest[attribute].astype(str)).to_numpy()
            a, b, c = (float(worst_group(truth, one.numpy(), groups=groups)) for one in predicted)
            worst = (a, b, c)
    edit = (unit - plain).norm().clamp_min(torch.finfo(plain.dtype).tiny)
    return BakingDistance(
        len(store), float((found - unit).norm() / edit), float(cosines.mean()), float(cosines.min()), agreement, worst
    )
