"""Draw what distinguishes the occupations: marks on the outfit, hats, tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headlens.testbed.figures.scenes import Figures
from headlens.testbed.figures.shapes import Canvas
from headlens.testbed.figures.world import OCCUPATIONS

_WHITE, _BLACK, _YELLOW, _RED = (0.97, 0.97, 0.97), (0.06, 0.06, 0.08), (0.98, 0.85, 0.15), (0.85, 0.10, 0.12)
_WOOD, _STEEL, _STRAW = (0.55, 0.36, 0.18), (0.66, 0.69, 0.74), (0.93, 0.80, 0.42)

HAND = (0.27, 0.50)
"""Where the tool is held."""


def _marks_nurse(c: Canvas) -> None:
    c.paint(c.box(0.045, 0.37, 0.035, 0.012), _RED)
    c.paint(c.box(0.045, 0.37, 0.012, 0.035), _RED)


def _marks_teacher(c: Canvas) -> None:
    c.paint(np.maximum(np.abs(c.u) - (0.36 - c.v) * 0.6, np.abs(c.v - 0.31) - 0.05), _WHITE)


def _marks_cook(c: Canvas) -> None:
    for height in (0.36, 0.43, 0.50):
        c.paint(np.minimum(c.ellipse(-0.035, height, 0.014, 0.014), c.ellipse(0.035, height, 0.014, 0.014)), _BLACK)
    c.paint(c.box(0.0, 0.285, 0.06, 0.018), _RED)


def _marks_farmer(c: Canvas) -> None:
    c.paint(c.box(0.0, 0.30, 0.13, 0.035), (0.90, 0.86, 0.74))
    for strap in (-0.06, 0.06):
        c.paint(c.box(strap, 0.31, 0.018, 0.05), OCCUPATIONS[3].colour)


def _marks_painter(c: Canvas) -> None:
    for x, y, colour in ((-0.06, 0.38, _YELLOW), (0.05, 0.45, (0.2, 0.8, 0.3)), (-0.02, 0.53, (0.98, 0.5, 0.7))):
        c.paint(c.ellipse(x, y, 0.026, 0.022), colour)


def _marks_officer(c: Canvas) -> None:
    c.paint(c.ellipse(0.055, 0.36, 0.022, 0.026), _YELLOW)
    c.paint(c.box(0.0, 0.555, 0.12, 0.016), _BLACK)


def _marks_builder(c: Canvas) -> None:
    c.paint(c.box(0.0, 0.46, 0.12, 0.018), _YELLOW)
    for strap in (-0.06, 0.06):
        c.paint(c.box(strap, 0.37, 0.016, 0.09), _YELLOW)


def _marks_firefighter(c: Canvas) -> None:
    for height in (0.42, 0.56):
        c.paint(c.box(0.0, height, 0.125, 0.017), _YELLOW)


def _hat_nurse(c: Canvas) -> None:
    c.paint(c.box(0.0, 0.045, 0.085, 0.04), _WHITE)
    c.paint(np.minimum(c.box(0.0, 0.045, 0.032, 0.011), c.box(0.0, 0.045, 0.011, 0.032)), _RED)


def _hat_teacher(c: Canvas) -> None:
    for x in (-0.03, 0.06):
        c.paint(np.abs(c.ellipse(x, 0.15, 0.034, 0.034)) - 0.008, _BLACK)
    c.paint(c.box(0.015, 0.15, 0.014, 0.008), _BLACK)


def _hat_cook(c: Canvas) -> None:
    c.paint(c.box(0.0, 0.03, 0.08, 0.05), _WHITE)
    c.paint(np.minimum(c.ellipse(-0.05, -0.04, 0.065, 0.05), c.ellipse(0.05, -0.04, 0.065, 0.05)), _WHITE)


def _hat_farmer(c: Canvas) -> None:
    c.paint(c.ellipse(0.0, 0.07, 0.21, 0.032), _STRAW)
    c.paint(c.ellipse(0.0, 0.045, 0.095, 0.06), _STRAW)
    c.paint(c.box(0.0, 0.06, 0.09, 0.012), (0.45, 0.30, 0.12))


def _hat_painter(c: Canvas) -> None:
    c.paint(c.ellipse(-0.035, 0.05, 0.14, 0.045), (0.30, 0.08, 0.45))
    c.paint(c.ellipse(-0.035, 0.0, 0.015, 0.02), (0.30, 0.08, 0.45))


def _hat_officer(c: Canvas) -> None:
    c.paint(c.ellipse(0.0, 0.03, 0.13, 0.04), (0.10, 0.15, 0.48))
    c.paint(c.box(0.03, 0.077, 0.11, 0.014), _BLACK)
    c.paint(c.ellipse(0.0, 0.035, 0.022, 0.022), _YELLOW)


def _hat_builder(c: Canvas) -> None:
    c.paint(np.maximum(c.ellipse(0.0, 0.08, 0.115, 0.095), c.v - 0.08), _YELLOW)
    c.paint(c.box(0.02, 0.085, 0.135, 0.013), _YELLOW)


def _hat_firefighter(c: Canvas) -> None:
    c.paint(np.maximum(c.ellipse(0.0, 0.08, 0.12, 0.10), c.v - 0.08), _RED)
    c.paint(c.ellipse(-0.01, 0.09, 0.165, 0.022), (0.60, 0.06, 0.08))
    c.paint(c.box(0.03, 0.045, 0.025, 0.03), _YELLOW)


def _tool_nurse(c: Canvas) -> None:
    x, y = HAND
    c.paint(c.stroke(x, y - 0.02, x, y - 0.16, 0.026), _WHITE)
    c.paint(c.stroke(x, y - 0.06, x, y - 0.12, 0.015), _RED)
    c.paint(c.stroke(x, y - 0.16, x, y - 0.26, 0.009), _STEEL)


def _tool_teacher(c: Canvas) -> None:
    x, y = HAND
    c.paint(c.box(x, y - 0.06, 0.115, 0.085), (0.15, 0.25, 0.55))
    c.paint(c.box(x, y - 0.07, 0.10, 0.075), _WHITE)
    c.paint(c.box(x, y - 0.07, 0.008, 0.075), _BLACK)


def _tool_cook(c: Canvas) -> None:
    x, y = HAND
    c.paint(c.stroke(x - 0.02, y, x + 0.06, y - 0.05, 0.016), _WOOD)
    c.paint(c.ellipse(x + 0.11, y - 0.11, 0.105, 0.075), _BLACK)
    c.paint(c.ellipse(x + 0.11, y - 0.11, 0.07, 0.045), (0.32, 0.32, 0.34))


def _tool_farmer(c: Canvas) -> None:
    x, y = HAND
    c.paint(c.stroke(x, 0.98, x, y - 0.28, 0.014), _WOOD)
    c.paint(c.stroke(x - 0.07, y - 0.28, x + 0.07, y - 0.28, 0.014), _STEEL)
    for tine in (-0.07, 0.0, 0.07):
        c.paint(c.stroke(x + tine, y - 0.28, x + tine, y - 0.42, 0.012), _STEEL)


def _tool_painter(c: Canvas) -> None:
    x, y = HAND
    c.paint(c.stroke(x, y + 0.03, x + 0.03, y - 0.14, 0.013), _WOOD)
    c.paint(c.stroke(x + 0.03, y - 0.15, x + 0.04, y - 0.21, 0.024), (0.95, 0.25, 0.65))
    c.paint(c.ellipse(x + 0.05, y + 0.08, 0.10, 0.065), (0.80, 0.66, 0.46))
    for dx, dy, colour in ((0.0, 0.06, _RED), (0.06, 0.05, _YELLOW), (0.08, 0.10, (0.15, 0.45, 0.9))):
        c.paint(c.ellipse(x + dx, y + dy, 0.022, 0.018), colour)


def _tool_officer(c: Canvas) -> None:
    x, y = HAND
    c.paint(c.stroke(x - 0.01, y + 0.06, x + 0.10, y - 0.22, 0.026), _BLACK)
    c.paint(c.stroke(x, y + 0.01, x + 0.07, y + 0.03, 0.018), _BLACK)


def _tool_builder(c: Canvas) -> None:
    x, y = HAND
    c.paint(c.stroke(x, y + 0.06, x, y - 0.17, 0.019), _WOOD)
    c.paint(c.box(x + 0.01, y - 0.19, 0.085, 0.036), _STEEL)


def _tool_firefighter(c: Canvas) -> None:
    x, y = HAND
    c.paint(c.stroke(x - 0.06, y + 0.42, x, y, 0.024), (0.85, 0.70, 0.25))
    c.paint(c.stroke(x, y, x + 0.05, y - 0.06, 0.028), _STEEL)
    for reach in (0.10, 0.16, 0.22):
        c.paint(c.stroke(x + 0.06, y - 0.08, x + reach, y - 0.30 + 0.3 * (reach - 0.1), 0.014), (0.35, 0.68, 0.98))


@dataclass(frozen=True)
class Part:
    """One part of the figure in every occupation's own form, and the band of the figure that it lies in."""

    drawings: tuple[Callable[[Canvas], None], ...]
    top: float
    bottom: float


MARKS = Part(
    (
        _marks_nurse,
        _marks_teacher,
        _marks_cook,
        _marks_farmer,
        _marks_painter,
        _marks_officer,
        _marks_builder,
        _marks_firefighter,
    ),
    top=0.24,
    bottom=0.62,
)
HATS = Part(
    (_hat_nurse, _hat_teacher, _hat_cook, _hat_farmer, _hat_painter, _hat_officer, _hat_builder, _hat_firefighter),
    top=-0.12,
    bottom=0.24,
)
TOOLS = Part(
    (
        _tool_nurse,
        _tool_teacher,
        _tool_cook,
        _tool_farmer,
        _tool_painter,
        _tool_officer,
        _tool_builder,
        _tool_firefighter,
    ),
    top=0.05,
    bottom=1.0,
)


def draw_part(canvas: Canvas, figures: Figures, part: Part, where: np.ndarray) -> None:
    """Draw every figure's own mark, hat or tool where `where` is 1."""
    canvas = canvas.band(part.top, part.bottom)
    for number, draw in enumerate(part.drawings):
        rows = np.flatnonzero((figures.label == number) & (where == 1))
        if len(rows):
            some = canvas.rows(rows)
            draw(some)
            canvas.picture[rows] = some.picture
