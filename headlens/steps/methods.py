"""The methods that an audit can fit, score and save, by name.

A method builds an unfitted correction from `Ingredients`, and declares what it is given: the located heads of some
roles, the reference split's labels, the attribute's values. It gets nothing else, so that a table can say truthfully
what each method was given. Adding one, also from a notebook cell, is one decorated function:

    @hl.steps.method("my method", roles=("salient",))
    def mine(known):
        return hl.correct.ZeroAblation(known.salient)

The built-in ones are the table of Yeo et al. 2025 (arXiv 2505.17425) and its neighbours. Means, draws and whatever is
learnt come from the reference split, except under two kinds of names, which are transductive: "(self)" takes the means
of the scored images; "(published)" does so too, and locates and edits contributions under constants="spread", as the
published code does, whose numbers it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

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
from headlens.errors import CorrectionError, check_type
from headlens.heads import HeadId
from headlens.registry import Registry

Role = Literal["spurious", "salient"]
Roles = tuple[Role, ...]
Given = Literal["labels", "attribute"]
ROLES: Roles = ("spurious", "salient")


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What a method may build on.

    Attributes:
        spurious, salient: the located heads.
        pairs: embeddings of text pairs that distinguish the classes by true features, not normalised.
        spurious_pairs: embeddings of text pairs that distinguish the attribute's values, not normalised.
        cross_pairs: embeddings of text pairs that name one class and differ in the attribute's value, not normalised.
        classifier: the class embeddings, unit norm.
        spurious_prompts: embeddings of all prompts of all of the attribute's values, not normalised.
        reference_labels: the true class of every image of the reference split; see `labels`.
        reference_values: the attribute's value of every image of the reference split; see `values`.
        seed: of every draw.
        given: what the method has declared.
    """

    spurious: tuple[HeadId, ...]
    salient: tuple[HeadId, ...]
    pairs: Float[Tensor, "pair 2 embed"]
    spurious_pairs: Float[Tensor, "spurious_pair 2 embed"]
    cross_pairs: Float[Tensor, "cross_pair 2 embed"]
    classifier: Float[Tensor, "class embed"]
    spurious_prompts: Float[Tensor, "prompt embed"]
    reference_labels: Int[Tensor, "image"]
    reference_values: Int[Tensor, "image"]
    seed: int = 0
    given: tuple[Given, ...] = ()

    @property
    def labels(self) -> Int[Tensor, "image"]:
        """The true class of every image of the reference split, as an index, for a method with `given="labels"`."""
        self._check("labels")
        return self.reference_labels

    @property
    def values(self) -> Int[Tensor, "image"]:
        """The attribute's value of every image of the reference split, for a method with `given="attribute"`."""
        self._check("attribute")
        return self.reference_values

    def recast(self, cast: Mapping[str, Sequence[HeadId]]) -> Ingredients:
        """The same with other heads in some roles, as a random control needs."""
        changed: dict[str, Any] = {role: tuple(heads) for role, heads in cast.items()}
        return replace(self, **changed)

    def _check(self, what: Given) -> None:
        if what not in self.given:
            raise CorrectionError(
                f"This method reads {what} of the reference split without having declared it.",
                f"Register it with given=({what!r},), so that tables say so.",
            )


Builder = Callable[[Ingredients], Correction]


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        builder: from ingredients to an unfitted correction.
        roles: the located heads that it rests on; none for methods of the whole embedding or the classifier.
        given: what of the reference split's labels it is fitted on.
        locator: whose heads it takes, where not those of the audit's own locator.
    """

    builder: Builder
    roles: Roles = ("spurious",)
    given: tuple[Given, ...] = ()
    locator: str | None = None

    @property
    def located(self) -> bool:
        """Whether it rests on the heads of the audit's own locator."""
        return bool(self.roles) and self.locator is None

    def build(self, known: Ingredients) -> Correction:
        """The unfitted correction."""
        correction = self.builder(replace(known, given=self.given))
        check_type("What a method's function returned", correction, Correction, "Return a correction.", CorrectionError)
        return correction


METHODS: Registry[Method] = Registry("method")


def method(
    name: str, roles: Roles = ("spurious",), given: tuple[Given, ...] = (), locator: str | None = None
) -> Callable[[Builder], Builder]:
    """Register a method under a name, which then appears in every table.

    Args:
        name: what tables call it; one registered before is replaced.
        roles: the located heads that it uses; its random control draws others.
        given: "labels" and "attribute", where it is fitted on the reference split's.
        locator: a locator's name, for a method that stands for that locator and not for the audit's own.
    """

    def add(builder: Builder) -> Builder:
        METHODS.add(name, Method(builder, roles, given, locator))
        return builder

    return add


def _ablation(known: Ingredients) -> Correction:
    return MeanAblation(known.spurious)


def _ltc(known: Ingredients) -> Correction:
    return locate_then_correct(known.spurious, known.salient, known.pairs)


METHODS.add("ablation", Method(_ablation))


@method("ablation (self)")
def _ablation_self(known: Ingredients) -> Correction:
    return MeanAblation(known.spurious, reference="self")


@method("zero ablation")
def _zero_ablation(known: Ingredients) -> Correction:
    return ZeroAblation(known.spurious)


@method("resample ablation")
def _resample_ablation(known: Ingredients) -> Correction:
    return ResampleAblation(known.spurious, seed=known.seed)


@method("prototype ablation", given=("labels", "attribute"))
def _prototype_ablation(known: Ingredients) -> Correction:
    """The prototype is the mean over as many images of every (class, value) group as the smallest group has."""
    groups = (known.labels * (int(known.values.max()) + 1) + known.values).cpu().numpy()
    members = torch.zeros(len(groups), dtype=torch.bool)
    members[torch.from_numpy(balanced_rows(groups, np.random.default_rng(known.seed)))] = True
    return PrototypeAblation(known.spurious, members)


METHODS.add("ablation textspan", Method(_ablation, locator="textspan"))


@method("ltc without ablation", roles=("salient",))
def _injection(known: Ingredients) -> Correction:
    return KnowledgeInjection(known.salient, known.pairs)


METHODS.add("ltc", Method(_ltc, ROLES))


@method("ltc (self)", roles=ROLES)
def _ltc_self(known: Ingredients) -> Correction:
    return locate_then_correct(known.spurious, known.salient, known.pairs, reference="self")


@method("ltc full (self)", roles=ROLES, locator="contrastive-full")
def _ltc_full_self(known: Ingredients) -> Correction:
    return locate_then_correct(known.spurious, known.salient, known.pairs, reference="self")


def _ltc_published(known: Ingredients) -> Correction:
    return locate_then_correct(known.spurious, known.salient, known.pairs, reference="self", constants="spread")


def _published(builder: Builder) -> Builder:
    """The same on contributions in the published convention."""
    return lambda known: Compose([builder(known)], constants="spread")


_PUBLISHED: dict[str, tuple[Builder, Roles, str]] = {
    "ablation": (_published(_ablation_self), ("spurious",), "contrastive"),
    "zero ablation": (_published(_zero_ablation), ("spurious",), "contrastive"),
    "ltc without ablation": (_published(_injection), ("salient",), "contrastive"),
    "ltc": (_ltc_published, ROLES, "contrastive"),
    "ltc full": (_ltc_published, ROLES, "contrastive-full"),
}
for _name, (_builder, _roles, _locator) in _PUBLISHED.items():
    METHODS.add(f"{_name} (published)", Method(_builder, _roles, locator=f"{_locator} (published)"))

for _name, _locator in {
    "ltc full": "contrastive-full",
    "ltc inferred": "contrastive-inferred",
    "ltc soft": "contrastive-soft",
}.items():
    METHODS.add(_name, Method(_ltc, ROLES, locator=_locator))


@method("roboshot", roles=())
def _roboshot(known: Ingredients) -> Correction:
    return RoboShot(reject=known.spurious_pairs, accept=known.pairs)


@method("roboshot reject", roles=())
def _roboshot_reject(known: Ingredients) -> Correction:
    return RoboShot(reject=known.spurious_pairs)


@method("roboshot accept", roles=())
def _roboshot_accept(known: Ingredients) -> Correction:
    return RoboShot(accept=known.pairs)


@method("ortho-cali", roles=())
def _ortho_cali(known: Ingredients) -> Correction:
    return OrthoCali(known.spurious_prompts, known.cross_pairs)


@method("leace", roles=(), given=("attribute",))
def _leace(known: Ingredients) -> Correction:
    return EmbeddingErasure(known.values)


@method("leace heads", given=("attribute",))
def _leace_heads(known: Ingredients) -> Correction:
    """LEACE on each of the spurious heads, instead of their ablation."""
    return HeadErasure(known.spurious, known.values)


def _erm(known: Ingredients) -> Correction:
    return ErmProbe(known.labels, len(known.classifier))


def _jtt(known: Ingredients) -> Correction:
    return JustTrainTwice(known.labels, len(known.classifier), known.values, seed=known.seed)


def _last_layer(known: Ingredients) -> Correction:
    return LastLayerRetraining(known.labels, len(known.classifier), known.values, seed=known.seed)


def _after_ltc(probe: Builder) -> Builder:
    """The probe, trained on the reference split as LTC leaves it."""
    return lambda known: Compose([_ltc(known), probe(known)])


_PROBES: dict[str, tuple[Builder, tuple[Given, ...]]] = {
    "erm probe": (_erm, ("labels",)),
    "jtt probe": (_jtt, ("labels", "attribute")),
    "last-layer retraining": (_last_layer, ("labels", "attribute")),
}
for _name, (_probe, _given) in _PROBES.items():
    METHODS.add(_name, Method(_probe, (), _given))
    METHODS.add(f"{_name} + ltc", Method(_after_ltc(_probe), ROLES, _given))
