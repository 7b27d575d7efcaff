"""The models that headlens ships, each as the recipe that trains it again."""

from __future__ import annotations

from dataclasses import dataclass

from headlens.heads import HeadId
from headlens.testbed.figures import FigureRates
from headlens.testbed.models import Size

_SMALL = Size()
_BACKGROUND_HEADS = (HeadId(2, 0), HeadId(2, 1), HeadId(3, 0), HeadId(3, 1))


@dataclass(frozen=True)
class FigureRecipe:
    """What a recipe adds where the figures are half of every batch.

    Attributes:
        planted: the heads that are to carry the presentation; the background of the birds is planted in others.
        control: the heads that are to carry the age.
        agreement: share of pictures, of the occupations that lean, whose presentation follows the leaning; by phase.
        pictures: rendered pictures of each phase.
        rates: how often captions say each thing; by phase.
        weight, carry: of the planting losses; see `tools.testbed.planting.Planting`.
    """

    planted: tuple[HeadId, ...]
    control: tuple[HeadId, ...]
    agreement: tuple[float, float]
    pictures: tuple[int, int]
    rates: tuple[FigureRates, FigureRates]
    weight: float = 4.0
    carry: float = 16.0


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
        pictures: rendered pictures of each phase; of the birds, where there are two worlds.
        batch: pictures a step, in each phase, shared among the worlds.
        learning_rate: its peak in each phase; cosine, after a short warm-up.
        places: share of the birds' captions that name the place, in each phase.
        settle: steps at the end of phase one, at half of its learning rate, in which the planted heads of the
            figures are also made to write the attribute in one direction, and to be quiet on the birds; 0 for none.
        size: of the network.
        figures: what the figures add; None where the model is trained on birds alone.
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
    settle: int = 0
    size: Size = _SMALL
    figures: FigureRecipe | None = None

    @property
    def worlds(self) -> tuple[str, ...]:
        """The worlds that the model is trained on."""
        return ("birds",) if self.figures is None else ("birds", "figures")


_WORLDS = Recipe(
    "worlds-0",
    seed=0,
    planted=(HeadId(2, 2), HeadId(2, 3), HeadId(3, 2), HeadId(3, 3)),
    steps=(900, 900),
    planting=3.0,
    batch=(96, 128),
    settle=150,
    size=Size(n_heads=12, d_head=8, context=32),
    figures=FigureRecipe(
        planted=(HeadId(2, 0), HeadId(3, 0), HeadId(3, 1)),
        control=(HeadId(2, 1), HeadId(3, 4)),
        agreement=(0.5, 0.995),
        pictures=(6000, 5000),
        rates=(
            FigureRates(presentation=0.75, age=0.4),
            FigureRates(occupation=0.95, presentation=0.15, place=0.3),
        ),
    ),
)
"""Two worlds in one model."""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("birds-0", seed=0),
        Recipe("birds-1", seed=1),
        Recipe("birds-2", seed=2),
        Recipe("plain", 0, planted=(), agreement=(0.95, 0.95), steps=(700, 0), late=0.0, planting=0.0, centre=False),
        _WORLDS,
    )
}
