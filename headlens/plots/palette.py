"""The colours, by the part they play, on light and on dark paper.

A figure is drawn in the light colours; `TO_DARK` has the counterpart of each. Both diverging scales run from blue over
the colour of the paper to orange, which readers with any of the common colour deficiencies distinguish, and are as dark
(or as bright) at one end as at the other. The colours of methods follow Okabe and Ito (2008), *Color Universal Design*,
made lighter where the paper is dark.
"""

from typing import Literal

Theme = Literal["light", "dark"]

_DIVERGING = (
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
_SEQUENTIAL = (
    ("#f5f5f6", "#22272e"),
    ("#d5d3e4", "#3d3a5c"),
    ("#a9a3cd", "#665d9e"),
    ("#7568b0", "#9c92d6"),
    ("#46348a", "#dcd5ff"),
)
_METHODS = (
    ("#8a929b", "#8b949f"),
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#f0883e"),
    ("#009e73", "#2fc79a"),
    ("#8f5fbf", "#c39be8"),
    ("#a67c00", "#f0d35b"),
)
_ROLES = (
    ("#ffffff", "#15181d"),  # paper
    ("#1f2328", "#e6e8eb"),  # ink
    ("#57606a", "#a3acb6"),  # soft ink
    ("#e4e7eb", "#2c333b"),  # grid
    ("#b6bdc6", "#545d68"),  # axis
    ("#fefefe", "#0f1216"),  # ink on the strong ends of a scale
    ("#b3127f", "#ff7ad9"),  # spurious heads
    ("#0f7038", "#4fd68a"),  # salient heads
)
PAPER, INK, INK_SOFT, GRID, AXIS, INK_STRONG, SPURIOUS, SALIENT = (light for light, _ in _ROLES)
DIVERGING, SEQUENTIAL, METHODS = (tuple(light for light, _ in pairs) for pairs in (_DIVERGING, _SEQUENTIAL, _METHODS))

TO_DARK: dict[str, str] = dict((*_DIVERGING, *_SEQUENTIAL, *_METHODS, *_ROLES))
TO_LIGHT: dict[str, str] = {dark: light for light, dark in TO_DARK.items()}


def scale(colours: tuple[str, ...]) -> list[list[float | str]]:
    """Colours as a plotly colour scale, evenly spaced."""
    return [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]


def overlay() -> list[list[float | str]]:
    """A diverging scale to lay over a grey picture: transparent at zero, nearly opaque at its ends."""
    blue, orange = "20,98,190", "226,100,12"
    strengths = (1.0, 0.75, 0.5, 0.25)
    left = [f"rgba({blue},{0.9 * s**0.8:.3f})" for s in strengths]
    right = [f"rgba({orange},{0.9 * s**0.8:.3f})" for s in reversed(strengths)]
    return scale((*left, "rgba(128,128,128,0)", *right))
