"""The methods that are registered from the start; the table of Yeo et al. 2025 (arXiv 2505.17425) and its neighbours.

Each is a few lines over `headlens.correct`. Means, draws and whatever is learnt come from the reference split, except
under the names with "(self)", which take the means of the scored images as published tables do: they are transductive.
"""

from __future__ import annotations

import numpy as np
import torch

from headlens.audit.methods import Ingredients, Roles, register
from headlens.correct import (
    Compose,
    Correction,
    EmbeddingErasure,
    ErmProbe,
    HeadErasure,
    JustTrainTwice,
    KnowledgeInjection,
    LastLayerRetraining,
    MeanAblation,
    OrthoCali,
    PrototypeAblation,
    ResampleAblation,
    RoboShot,
    ZeroAblation,
    balanced_rows,
    locate_then_correct,
)

BOTH: Roles = ("spurious", "salient")


@register("ablation")
def _ablation(known: Ingredients) -> Correction:
    return MeanAblation(known.location.spurious)


@register("ablation (self)")
def _ablation_self(known: Ingredients) -> Correction:
    return MeanAblation(known.location.spurious, reference="self")


@register("zero ablation")
def _zero_ablation(known: Ingredients) -> Correction:
    return ZeroAblation(known.location.spurious)


@register("resample ablation")
def _resample_ablation(known: Ingredients) -> Correction:
    return ResampleAblation(known.location.spurious, seed=known.seed)


@register("prototype ablation")
def _prototype_ablation(known: Ingredients) -> Correction:
    """The prototype is the mean over as many images of every (class, value) group as the smallest group has."""
    groups = (known.labels * (int(known.values.max()) + 1) + known.values).cpu().numpy()
    members = torch.zeros(len(groups), dtype=torch.bool)
    members[torch.from_numpy(balanced_rows(groups, np.random.default_rng(known.seed)))] = True
    return PrototypeAblation(known.location.spurious, members)


@register("ablation textspan", locator="textspan")
def _ablation_textspan(known: Ingredients) -> Correction:
    """Mean ablation of the heads whose text descriptions match the attribute."""
    return MeanAblation(known.location.spurious)


@register("ltc without ablation", roles=("salient",))
def _injection(known: Ingredients) -> Correction:
    return KnowledgeInjection(known.location.salient, known.pairs)


@register("ltc", roles=BOTH)
def _ltc(known: Ingredients) -> Correction:
    return locate_then_correct(known.location.spurious, known.location.salient, known.pairs)


@register("ltc (self)", roles=BOTH)
def _ltc_self(known: Ingredients) -> Correction:
    return locate_then_correct(known.location.spurious, known.location.salient, known.pairs, reference="self")


@register("ltc full", roles=BOTH, locator="contrastive-full")
def _ltc_full(known: Ingredients) -> Correction:
    """LTC on heads that were located on the whole reference split, and not on its conflicting groups."""
    return _ltc(known)


@register("ltc inferred", roles=BOTH, locator="contrastive-inferred")
def _ltc_inferred(known: Ingredients) -> Correction:
    """LTC on heads that were located without the data set's labels of the attribute."""
    return _ltc(known)


@register("ltc soft", roles=BOTH, locator="contrastive-soft")
def _ltc_soft(known: Ingredients) -> Correction:
    """LTC on heads that were located by mean scores, and not by how often a head scores highest."""
    return _ltc(known)


@register("roboshot", roles=())
def _roboshot(known: Ingredients) -> Correction:
    return RoboShot(reject=known.spurious_pairs, accept=known.pairs)


@register("roboshot reject", roles=())
def _roboshot_reject(known: Ingredients) -> Correction:
    return RoboShot(reject=known.spurious_pairs)


@register("roboshot accept", roles=())
def _roboshot_accept(known: Ingredients) -> Correction:
    return RoboShot(accept=known.pairs)


@register("ortho-cali", roles=())
def _ortho_cali(known: Ingredients) -> Correction:
    """Without pairs of class × value, those that tell the attribute's values apart stand in for them."""
    return OrthoCali(known.spurious_prompts, known.spurious_pairs if known.cross_pairs is None else known.cross_pairs)


@register("leace", roles=())
def _leace(known: Ingredients) -> Correction:
    return EmbeddingErasure(known.values)


@register("leace heads")
def _leace_heads(known: Ingredients) -> Correction:
    """LEACE on each of the spurious heads, in place of their ablation."""
    return HeadErasure(known.location.spurious, known.values)


@register("erm probe", roles=())
def _erm_probe(known: Ingredients) -> Correction:
    return ErmProbe(known.labels, len(known.classifier))


@register("erm probe + ltc", roles=BOTH)
def _erm_probe_after_ltc(known: Ingredients) -> Correction:
    """The probe, trained on the reference split as LTC leaves it; so with the two below."""
    return Compose([_ltc(known), _erm_probe(known)])


@register("jtt probe", roles=())
def _jtt_probe(known: Ingredients) -> Correction:
    return JustTrainTwice(known.labels, len(known.classifier), known.values, seed=known.seed)


@register("jtt probe + ltc", roles=BOTH)
def _jtt_probe_after_ltc(known: Ingredients) -> Correction:
    return Compose([_ltc(known), _jtt_probe(known)])


@register("last-layer retraining", roles=())
def _last_layer_retraining(known: Ingredients) -> Correction:
    return LastLayerRetraining(known.labels, len(known.classifier), known.values, seed=known.seed)


@register("last-layer retraining + ltc", roles=BOTH)
def _last_layer_retraining_after_ltc(known: Ingredients) -> Correction:
    return Compose([_ltc(known), _last_layer_retraining(known)])
