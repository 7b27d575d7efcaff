"""Draw the pictures of the README and the docs from saved demos.

    python docs/make_images.py demo docs/images
    python docs/make_images.py demo docs/images --figures figures-demo
    python docs/make_images.py demo docs/images --explorer

`demo` is what `headlens demo` writes, `figures-demo` what `headlens demo --world figures` writes. Needs the extra
`figures` (kaleido) and a Chrome or Chromium, which is found or named by BROWSER_PATH. With `--explorer` only the
explorer is drawn, as JupyterLab shows it; that needs JupyterLab, the extra `notebook` and playwright.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
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
    options = [
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        "--window-size=1360,860",
        "--virtual-time-budget=9000",
    ]
    subprocess.run([browser(), *options, f"--screenshot={picture.resolve()}", page.resolve().as_uri()], check=True)
    shrink(picture)


def explorer(demo: Path, picture: Path) -> None:
    """The explorer in JupyterLab, as it opens on an audit."""
    from playwright.sync_api import sync_playwright

    source = f"import headlens as hl\nhl.Audit.load({str(demo.resolve())!r}, clip=hl.load('testbed')).explore()"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    with tempfile.TemporaryDirectory() as work, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        Path(work, "explore.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        address = f"http://127.0.0.1:{port}"
        options = [f"--ServerApp.root_dir={work}", f"--ServerApp.port={port}", "--IdentityProvider.token=picture"]
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, "--no-browser", "--allow-root"],
            cwd=work, env=os.environ | {"JUPYTER_RUNTIME_DIR": work, "JUPYTER_CONFIG_DIR": work},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with sync_playwright() as driver:
                page = driver.chromium.launch(executable_path=browser(), args=["--no-sandbox"]).new_page(
                    viewport={"width": 1720, "height": 1500}
                )
                page.set_default_timeout(180_000)
                for _ in range(240):
                    with suppress(Exception):
                        page.goto(f"{address}/lab/tree/explore.ipynb?token=picture&reset")
                        break
                    time.sleep(0.5)
                page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
                for _ in range(240):  # before its kernel is connected, a notebook would ask for one
                    kernels = page.request.get(f"{address}/api/kernels?token=picture").json()
                    if any(one["connections"] and one["execution_state"] == "idle" for one in kernels):
                        break
                    time.sleep(0.5)
                page.get_by_role("menuitem", name="Run", exact=True).click()
                page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
                shown = page.locator(".headlens-explorer")
                shown.get_by_role("img", name="6 images").first.wait_for()
                page.wait_for_timeout(3000)
                shown.screenshot(path=picture)
        finally:
            server.terminate()
            server.wait(30)
    shrink(picture)


def browser() -> str:
    """The browser that pages are drawn with."""
    named = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if named is None:
        raise SystemExit(f"No browser was found: install one of {', '.join(BROWSERS)}, or name it by BROWSER_PATH.")
    return named


def shrink(picture: Path) -> None:
    """A picture in few colours: the repository keeps every one for good."""
    with Image.open(picture) as drawn:
        small = drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figures", type=Path, help="the folder of the figures' demo")
    parser.add_argument("--explorer", action="store_true", help="draw the explorer alone")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.explorer:
        explorer(asked.demo, asked.folder / "explorer.png")
        return
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
