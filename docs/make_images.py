"""Draw the pictures of the README and the docs from saved demos.

    python docs/make_images.py demo docs/images
    python docs/make_images.py demo docs/images --figures figures-demo

`demo` is what `headlens demo` writes, `figures-demo` what `headlens demo --world figures` writes. Needs the extra
`figures` (kaleido) and a Chrome or Chromium, which is found or named by BROWSER_PATH.
"""

import argparse
import os
import shutil
import subprocess
from pathlib import Path

import plotly.graph_objects as go
from PIL import Image

import headlens as hl

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def birds(folder: Path) -> dict[str, go.Figure]:
    """What a correction audit shows."""
    audit = hl.Audit.load(folder, hl.load("testbed"))
    assert isinstance(audit.location, hl.locate.Location)
    assert audit.results is not None
    wrong = audit.splits.test[audit.results.predictions["zero-shot"] != audit.data.labels[audit.splits.test]]
    explanations = audit.explain(k=5)
    return {
        "location": hl.plots.location(audit.location),
        "groups": audit.plot.groups(),
        "controls": audit.plot.controls("ltc"),
        "margins": audit.plot.margins(),
        "collateral": audit.plot.collateral(),
        "effect": audit.plot.heatmap("effect"),
        "overview": hl.plots.overview(explanations, shape=(audit.store.n_layers, audit.store.n_heads)),
        "textspan": audit.plot.textspans(audit.location.spurious[0]),
        "tokens": audit.plot.tokens(int(wrong[0])),
    }


def figures(folder: Path) -> dict[str, go.Figure]:
    """What a fairness audit shows."""
    audit = hl.Audit.load(folder, hl.load("testbed-figures"))
    found, candidates = audit.fairness_results, audit.location
    assert found is not None
    assert isinstance(candidates, hl.locate.Candidates)
    between = [prompts[0] for prompts in audit.attribute.values.values()]
    return {
        "candidates": hl.plots.candidates(candidates),
        "association": audit.plot.controls(),
        "shares": hl.plots.shares(found.shares, found.change, found.total),
        "classes": hl.plots.classes(found.by_class),
        "flow": hl.plots.flow(found.classes, found.transitions, found.fate),
        "images": audit.plot.images(candidates.spurious[0], 8, between),
    }


def report(page: Path, picture: Path) -> None:
    """The first screen of the report."""
    named = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if named is None:
        raise SystemExit(f"No browser was found: install one of {', '.join(BROWSERS)}, or name it by BROWSER_PATH.")
    options = [
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        "--window-size=1360,860",
        "--virtual-time-budget=9000",
    ]
    subprocess.run([named, *options, f"--screenshot={picture.resolve()}", page.resolve().as_uri()], check=True)
    with Image.open(picture) as drawn:
        small = drawn.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figures", type=Path, help="the folder of the figures' demo")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    report(asked.demo / "report.html", asked.folder / "report.png")
    drawn = birds(asked.demo) | (figures(asked.figures) if asked.figures else {})
    for name, figure in drawn.items():
        width, height = figure.layout.width or 900, figure.layout.height or 420
        path = asked.folder / f"{name}.png"
        figure.write_image(path, width=width, height=height, scale=1.5)
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(path, optimize=True)  # a figure has few colours, and the repository keeps every picture for good


if __name__ == "__main__":
    main()
