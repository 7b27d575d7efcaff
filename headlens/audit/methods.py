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

from jaxtyping import Float, Int
from torch import Tensor

from headlens.correct import Correction
from headlens.errors import CorrectionError
from headlens.heads import HeadId
from headlens.locate import Located

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
        spurious_prompts: embeddings of all prompts of all of the attribute's values, not normalised.
        labels: the true class of every image of the reference split, as an index.
        values: the attribute's value of every image of the reference split, as an index.
        seed: of every draw.
        cross_pairs: embeddings of text pairs that name one class and differ in the attribute's value, not normalised.
    """

    location: Located
    pairs: Float[Tensor, "pair 2 embed"]
    spurious_pairs: Float[Tensor, "spurious_pair 2 embed"]
    classifier: Float[Tensor, "class embed"]
    spurious_prompts: Float[Tensor, "prompt embed"]
    labels: Int[Tensor, "image"]
    values: Int[Tensor, "image"]
    seed: int = 0
    cross_pairs: Float[Tensor, "cross_pair 2 embed"] | None = None

    def located(self, roles: Roles) -> list[HeadId]:
        """The located heads of these roles."""
        return [HeadId(*head) for role in roles for head in getattr(self.location, role)]

    def recast(self, cast: Mapping[str, Sequence[HeadId]]) -> Ingredients:
        """The same, with other heads in some roles: what a random control needs."""
        changed: dict[str, Any] = {role: tuple(heads) for role, heads in cast.items()}
        return replace(self, location=replace(self.location, **changed))


Builder = Callable[[Ingredients], Correction]


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        build: from ingredients to an unfitted correction.
        roles: the located heads that it rests on; none for whole-embedding methods.
        locator: whose heads it takes, where not those of the audit's own locator.
    """

    build: Builder
    roles: Roles
    locator: str | None = None


METHODS: dict[str, Method] = {}


def register(name: str, roles: Roles = ("spurious",), locator: str | None = None) -> Callable[[Builder], Builder]:
    """Add a method under a name, which then appears in every table. A name registered again is replaced.

    Args:
        name: what tables call it.
        roles: the located heads that it uses; its random control draws others in their place.
        locator: a locator's name, where the method stands for that locator and not for the audit's own.
    """

    def add(builder: Builder) -> Builder:
        METHODS[name] = Method(builder, roles, locator)
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
