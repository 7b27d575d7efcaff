"""What is in each picture of the figures' world, before a pixel of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Int

from headlens.testbed.figures.world import GRAY, OCCUPATIONS, SCENERIES, SKINS

_CUE = 0.9  # how often hair, clothes and bag each follow the presentation
_BEARD = 0.6  # of masculine figures
_GRAY = 0.95  # of old figures
_CANE, _STOOP = 0.75, 0.85
_HAT, _TOOL, _COAT = 0.8, 0.9, 0.2
_GRAINY = 0.15


@dataclass(frozen=True)
class Figures:
    """A table of figures, one entry of every field a picture.

    Attributes:
        label: occupation, index into `OCCUPATIONS`.
        presentation, age: indices into `PRESENTATIONS` and `AGES`.
        place: index into `SCENERIES`.
        long_hair, skirt, beard: 1 where drawn; cues of the presentation, with `bag`: 1 a handbag, 0 a briefcase.
        hair: index into `HAIR_COLOURS`; `cane`, `stoop`: 1 where drawn; cues of the age.
        hat, tool, coat: 1 where the hat is worn, the tool held, and a gray coat hides the outfit.
        skin: index into `SKINS`; `side`: index into `SIDES`; `facing`: 0 left, 1 right: the side of the tool.
        grainy: 1 where the picture is noisy.
    """

    label: Int[np.ndarray, "image"]
    presentation: Int[np.ndarray, "image"]
    age: Int[np.ndarray, "image"]
    place: Int[np.ndarray, "image"]
    long_hair: Int[np.ndarray, "image"]
    skirt: Int[np.ndarray, "image"]
    beard: Int[np.ndarray, "image"]
    bag: Int[np.ndarray, "image"]
    hair: Int[np.ndarray, "image"]
    cane: Int[np.ndarray, "image"]
    stoop: Int[np.ndarray, "image"]
    hat: Int[np.ndarray, "image"]
    tool: Int[np.ndarray, "image"]
    coat: Int[np.ndarray, "image"]
    skin: Int[np.ndarray, "image"]
    side: Int[np.ndarray, "image"]
    facing: Int[np.ndarray, "image"]
    grainy: Int[np.ndarray, "image"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: slice | np.ndarray) -> Figures:
        return Figures(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def flipped(self, where: np.ndarray) -> Figures:
        """The same figures seen in a mirror wherever `where` holds."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["facing"] = np.where(where, 1 - self.facing, self.facing)
        values["side"] = np.where(where, 2 - self.side, self.side)
        return Figures(**values)


def stereotyped(label: Int[np.ndarray, "image"]) -> Int[np.ndarray, "image"]:
    """The presentation that each occupation leans to, −1 where it leans to none."""
    leaning = [-1 if one.leaning is None else one.leaning for one in OCCUPATIONS]
    return np.array(leaning)[label]


def sample_figures(rng: np.random.Generator, count: int, agreement: float) -> Figures:
    """Draw `count` figures, as many of each occupation, in random order.

    In occupations that lean, the presentation agrees with the leaning in the given share, exactly (0.5: independent);
    in the others it is half and half. Age is half and half within each occupation and presentation. Everything else is
    drawn independently, apart from the cues of presentation and age.
    """
    label = np.arange(count) % len(OCCUPATIONS)
    presentation, age = np.empty(count, dtype=int), np.empty(count, dtype=int)
    for number, occupation in enumerate(OCCUPATIONS):
        rows = np.flatnonzero(label == number)
        first = 0 if occupation.leaning is None else occupation.leaning
        agreeing = round(len(rows) * (0.5 if occupation.leaning is None else agreement))
        presentation[rows] = np.where(np.arange(len(rows)) < agreeing, first, 1 - first)
        for value in (0, 1):
            cell = rows[presentation[rows] == value]
            age[cell] = np.arange(len(cell)) % 2
    order = rng.permutation(count)
    label, presentation, age = label[order], presentation[order], age[order]

    def share(of: float) -> np.ndarray:
        return rng.random(count) < of

    feminine, old = presentation == 0, age == 1
    long_hair, skirt = feminine == share(_CUE), feminine == share(_CUE)
    bag, coat = feminine == share(_CUE), share(_COAT)
    values = {
        "place": rng.integers(0, len(SCENERIES), count),
        "long_hair": long_hair,
        # Hair and clothes never both speak against the presentation.
        "skirt": np.where((long_hair != feminine) & (skirt != feminine), feminine, skirt),
        "beard": ~feminine & share(_BEARD),
        "bag": bag,
        "hair": np.where(old & share(_GRAY), GRAY, rng.integers(0, GRAY, count)),
        "cane": old & share(_CANE),
        "stoop": old & share(_STOOP),
        "hat": share(_HAT),
        "tool": share(_TOOL) | coat,  # without outfit and tool nothing would tell the occupation
        "coat": coat,
        "skin": rng.integers(0, len(SKINS), count),
        "side": rng.integers(0, 3, count),
        "facing": rng.integers(0, 2, count),
        "grainy": share(_GRAINY),
    }
    return Figures(label, presentation, age, **{name: np.asarray(value).astype(int) for name, value in values.items()})
