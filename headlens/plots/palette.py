"""The colours, by the part they play, on light and on dark paper.

Both diverging scales run from blue over the colour of the paper to orange, which readers with any of the
common colour deficiencies tell apart, and are as dark (or as bright) at one end as at the other. The colours
of methods follow Okabe and Ito (2008), *Color Universal Design*, made lighter where the paper is dark.
"""

from typing import Literal

Theme = Literal["light", "dark"]

DIVERGING = (
    ("#0b4a8f", "#a6d3ff"),
    ("#3b7fc0", "#62a9ee"),
    ("#8fb8de", "#2f74b8"),
    ("#cfe0f0", "#204a75"),
    ("#f6f6f4", "#23282f"),
    ("#fbdcc0", "#6b4018"),
    ("#eda86c", "#ad6418"),
    ("#c46519", "#ea9440"),
    ("#873a00", "#ffd2a3"),
)
SEQUENTIAL = (
    ("#f5f5f6", "#22272e"),
    ("#d5d3e4", "#3d3a5c"),
    ("#a9a3cd", "#665d9e"),
    ("#7568b0", "#9c92d6"),
    ("#46348a", "#dcd5ff"),
)
METHODS = (
    ("#8a929b", "#8b949f"),
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#f0883e"),
    ("#009e73", "#2fc79a"),
    ("#8f5fbf", "#c39be8"),
    ("#a67c00", "#f0d35b"),
)
PAPER = ("#ffffff", "#15181d")
INK = ("#1f2328", "#e6e8eb")
INK_SOFT = ("#57606a", "#a3acb6")
GRID = ("#e4e7eb", "#2c333b")
AXIS = ("#b6bdc6", "#545d68")
# Text on the strong ends of a scale: light on dark ink, and the other way round on dark paper.
INK_STRONG = ("#fefefe", "#0f1216")
SPURIOUS = ("#b3127f", "#ff7ad9")
SALIENT = ("#0f7038", "#4fd68a")

_PAIRS = (
    *DIVERGING,
    *SEQUENTIAL,
    *METHODS,
    *(PAPER, INK, INK_SOFT, GRID, AXIS, INK_STRONG, SPURIOUS, SALIENT),
)
TO_DARK: dict[str, str] = dict(_PAIRS)
TO_LIGHT: dict[str, str] = {dark: light for light, dark in _PAIRS}


def scale(colours: tuple[tuple[str, str], ...]) -> list[list[float | str]]:
    """The light colours as a plotly colour scale, evenly spaced."""
    return [[i / (len(colours) - 1), light] for i, (light, _) in enumerate(colours)]


def overlay() -> list[list[float | str]]:
    """A diverging scale to lay over a grey picture: transparent at zero, nearly opaque at its ends."""
    ends = ((20, 98, 190), (226, 100, 12))
    stops = (1.0, 0.75, 0.5, 0.25)
    left = [_rgba(ends[0], 0.9 * s**0.8) for s in stops]
    right = [_rgba(ends[1], 0.9 * s**0.8) for s in reversed(stops)]
    colours = [*left, "rgba(128,128,128,0)", *right]
    return [[i / (len(colours) - 1), c] for i, c in enumerate(colours)]


def _rgba(rgb: tuple[int, int, int], alpha: float) -> str:
    return f"rgba({rgb[0]},{rgb[1]},{rgb[2]},{alpha:.3f})"
