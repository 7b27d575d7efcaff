"""The registry of methods that an audit can fit, score and save.

A method is a function from what the audit knows (`Ingredients`) to an unfitted `Correction`. Adding one, also from a
notebook cell, is one decorated function; tables, reports and the shell iterate over what is registered:

    @hl.audit.register("my method")
    def mine(known: hl.audit.Ingredients) -> hl.correct.Correction:
        return hl.correct.MeanAblation(known.location.salient)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from headlens.correct import Compose, Correction, KnowledgeInjection, MeanAblation, RoboShot, ZeroAblation
from headlens.errors import CorrectionError
from headlens.heads import HeadId
from headlens.locate import Location

Role = Literal["spurious", "salient"]
Roles = tuple[Role, ...]
ROLES: Roles = ("spurious", "salient")


@dataclass(frozen=True)
class Ingredients:
    """What a method may build on.

    Attributes:
        location: the located heads.
        pairs: embeddings of text pairs that tell the classes apart by true features, not normalised.
        spurious_pairs: embeddings of text pairs that tell the attribute's values apart, not normalised.
        classifier: the class embeddings, unit norm.
    """

    location: Location
    pairs: Float[Tensor, "pair 2 embed"]
    spurious_pairs: Float[Tensor, "spurious_pair 2 embed"]
    classifier: Float[Tensor, "class embed"]

    def located(self, roles: Roles) -> list[HeadId]:
        """The located heads of these roles."""
        return [HeadId(*head) for role in roles for head in getattr(self.location, role)]

    def recast(self, cast: Mapping[str, Sequence[HeadId]]) -> Ingredients:
        """The same, with other heads in some roles: what a random control needs."""
        changed: dict[str, Any] = {role: list(heads) for role, heads in cast.items()}
        return replace(self, location=replace(self.location, **changed))


Builder = Callable[[Ingredients], Correction]


@dataclass(frozen=True)
class Method:
    """A registered method: how it is built, and which located heads it rests on (none for whole-embedding methods)."""

    build: Builder
    roles: Roles


METHODS: dict[str, Method] = {}


def register(name: str, roles: Roles = ("spurious",)) -> Callable[[Builder], Builder]:
    """Add a method under a name, which then appears in every table. A name registered again is replaced.

    Args:
        name: what tables call it.
        roles: the located heads that it uses; its random control draws others in their place.
    """

    def add(builder: Builder) -> Builder:
        METHODS[name] = Method(builder, roles)
        return builder

    return add


def build(name: str, known: Ingredients) -> Correction:
    """The unfitted correction of that name. Raises `CorrectionError` for an unknown one."""
    return method(name).build(known)


def method(name: str) -> Method:
    """The registered method of that name. Raises `CorrectionError` for an unknown one."""
    if name not in METHODS:
        raise CorrectionError("the name of a registered method", repr(name), f"Choose among: {', '.join(METHODS)}.")
    return METHODS[name]


@register("ablation")
def _ablation(known: Ingredients) -> Correction:
    return MeanAblation(known.location.spurious)


@register("zero ablation")
def _zero_ablation(known: Ingredients) -> Correction:
    return ZeroAblation(known.location.spurious)


@register("injection", roles=("salient",))
def _injection(known: Ingredients) -> Correction:
    return KnowledgeInjection(known.location.salient, known.pairs)


@register("ltc", roles=("spurious", "salient"))
def _locate_then_correct(known: Ingredients) -> Correction:
    return Compose([_ablation(known), _injection(known)])


@register("roboshot", roles=())
def _roboshot(known: Ingredients) -> Correction:
    return RoboShot(reject=known.spurious_pairs, accept=known.pairs)
