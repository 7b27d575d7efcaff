"""Draw the diagrams of the docs as SVG, with nothing but text: `python docs/make_diagrams.py docs/images`."""

import sys
from html import escape
from pathlib import Path

INK, QUIET, BLUE, ORANGE, GREY = "#222222", "#666666", "#3b6fb6", "#c8641b", "#d9dde2"


def box(
    x: float, y: float, width: float, height: float, lines: list[str], fill: str = "#f3f5f8", ink: str = INK
) -> str:
    first = y + height / 2 - (len(lines) - 1) * 9 + 5
    texts = [
        label(x + width / 2, first + 18 * i, line, QUIET if i else INK, size=12 if i else 14)
        for i, line in enumerate(lines)
    ]
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{QUIET}"/>'
    return frame + "".join(texts)


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str = QUIET) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="1.5" marker-end="url(#tip)"/>'
    )


def label(x: float, y: float, text: str, colour: str = QUIET, anchor: str = "middle", size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'


def page(width: int, height: int, title: str, parts: list[str]) -> str:
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{QUIET}"/></marker></defs>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif"><title>{escape(title)}</title>{tip}'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def path() -> str:
    steps = [
        ["images", "and a CSV"],
        ["vision tower", "hooked"],
        ["store", "head states"],
        ["located heads", "spurious, salient"],
        ["correction", "fitted on val"],
        ["evaluation", "scored on test"],
        ["verdict", "and report"],
    ]
    parts = []
    for i, lines in enumerate(steps):
        parts.append(box(10 + 134 * i, 40, 116, 56, lines, "#e6eefb" if i in (2,) else "#f3f5f8"))
        if i:
            parts.append(arrow(10 + 134 * i - 17, 68, 10 + 134 * i - 2, 68))
    parts.append(label(202, 24, "the pixels are seen once"))
    parts.append(label(600, 24, "every question is answered from the store"))
    parts.append(f'<path d="M10 30 H394" stroke="{GREY}"/><path d="M416 30 H930" stroke="{GREY}"/>')
    texts = box(278, 126, 116, 40, ["prompts"])
    parts.append(texts + arrow(336, 126, 336, 99))
    return page(944, 180, "From images to a verdict, in one direction", parts)


def decomposition() -> str:
    parts, x0, width = [], 20, 30
    parts.append(label(x0 + 4 * 34 - 2, 24, "every head of every layer"))
    for row in range(3):
        for column in range(8):
            hot = (row, column) == (2, 0)
            fill, stroke = (ORANGE, ORANGE) if hot else ("#e6eefb", QUIET)
            parts.append(
                f'<rect x="{x0 + 34 * column}" y="{36 + 34 * row}" width="{width}" height="{width}" rx="4" '
                f'fill="{fill}" stroke="{stroke}"/>'
            )
    parts.append(label(x0 + 4 * 34 - 2, 160, "layer 0 above, the last layer below"))
    for lines, x in ((["MLPs"], 330), (["stem"], 430), (["constant"], 530)):
        parts.append(box(x, 68, 76, 36, lines))
        parts.append(label(x - 15, 92, "+", INK, size=20))
    parts.append(label(626, 92, "=", INK, size=22))
    parts.append(box(646, 58, 120, 56, ["embedding", "of the image"], "#e6eefb"))
    parts.append(label(784, 92, "·", INK, size=26))
    parts.append(box(800, 58, 124, 56, ["text", "“a photo of a …”"]))
    parts.append(
        label(472, 190, "The sum is exact. So a head's contribution to a class is its own part times the text.", INK)
    )
    return page(944, 206, "An embedding as a sum over heads, MLPs, the stem and a constant", parts)


def votes() -> str:
    parts = [label(150, 24, "waterbird on land, taken for a landbird", INK), label(620, 24, "what each head says", INK)]
    heads = [("3.0", 0.9), ("2.1", 0.25), ("3.5", -0.35), ("2.3", -0.3), ("0.4", 0.05)]
    parts.append(f'<rect x="40" y="44" width="220" height="128" rx="6" fill="#e9e2cf" stroke="{QUIET}"/>')
    parts.append(
        '<ellipse cx="150" cy="112" rx="44" ry="22" fill="#5b7f9e"/><circle cx="192" cy="92" r="13" fill="#5b7f9e"/>'
    )
    parts.append('<path d="M203 92 l16 4 l-16 5 z" fill="#c8641b"/>')
    parts.append(f'<line x1="560" y1="40" x2="560" y2="176" stroke="{QUIET}"/>')
    for i, (name, value) in enumerate(heads):
        y, width = 44 + 26 * i, abs(value) * 220
        x = 560 if value > 0 else 560 - width
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="18" fill="{ORANGE if value > 0 else BLUE}"/>')
        parts.append(label(400, y + 14, f"head {name}", INK, "end"))
    parts.append(label(566, 194, "towards the mistake", ORANGE, "start"))
    parts.append(label(554, 194, "towards the truth", BLUE, "end"))
    parts.append(label(800, 62, "gets this image's vote", ORANGE, "start"))
    return page(
        944, 206, "Each incorrectly classified image votes for the head that pushed most towards the mistake", parts
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, draw in {"path": path, "decomposition": decomposition, "votes": votes}.items():
        (folder / f"{name}.svg").write_text(draw(), encoding="utf-8")
