"""The models that headlens ships, each as the recipe that trains it again."""

from __future__ import annotations

from dataclasses import dataclass

from headlens.errors import ModelError
from headlens.heads import HeadId

_BACKGROUND_HEADS = (HeadId(2, 0), HeadId(2, 1), HeadId(3, 0), HeadId(3, 1))


@dataclass(frozen=True)
class Recipe:
    """Everything that a model's weights follow from.

    Training has two phases. In the first, class and background are independent: the vision tower learns to see both,
    and the planting losses put them into different heads. In the second the vision tower is frozen, class and
    background agree in nearly all pictures, and the text tower learns to say "waterbird" for water: the bias sits in
    the text directions, and reaches the predictions through the planted heads.

    Attributes:
        name: the model's name, after "testbed-".
        seed: of pictures, captions and weights.
        planted: the heads that are to carry the background; none for plain contrastive training.
        agreement: share of pictures whose background agrees with the class, in each phase.
        steps: optimiser steps of each phase; no second phase where 0.
        late, planting: weights of the planting losses.
        centre: whether the heads' mean outputs are moved into their layer's bias after the first phase.
        pictures: rendered pictures of each phase.
        batch: pictures a step, in each phase.
        learning_rate: its peak in each phase; cosine, after a short warm-up.
        places: share of captions that name the place, in each phase.
    """

    name: str
    seed: int
    planted: tuple[HeadId, ...] = _BACKGROUND_HEADS
    agreement: tuple[float, float] = (0.5, 0.995)
    steps: tuple[int, int] = (600, 600)
    late: float = 1.0
    planting: float = 0.3
    centre: bool = True
    pictures: tuple[int, int] = (8000, 6000)
    batch: tuple[int, int] = (64, 64)
    learning_rate: tuple[float, float] = (1e-3, 2e-3)
    places: tuple[float, float] = (0.6, 0.0)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("birds-0", seed=0),
        Recipe("birds-1", seed=1),
        Recipe("birds-2", seed=2),
        Recipe("plain", 0, planted=(), agreement=(0.95, 0.95), steps=(700, 0), late=0.0, planting=0.0, centre=False),
    )
}


def recipe_name(model: str) -> str:
    """The recipe behind a model's name: "testbed" is "testbed-birds-0". Raises `ModelError` where there is none."""
    short = model.removeprefix("testbed").removeprefix("-") or "birds-0"
    if short not in RECIPES:
        names = ", ".join(f"testbed-{name}" for name in RECIPES)
        raise ModelError("the name of a testbed model", repr(model), f"There are testbed (birds-0), {names}.")
    return short
