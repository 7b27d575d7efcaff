"""The explorer as a person meets it: a notebook in a browser, typing, clicking, ablating.

In JupyterLab the first example notebook is run from its first cell to its last. In Notebook 7 an explorer that was
saved goes on in another kernel, as after a restart.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import headlens as hl
from headlens.explore import ExplorerState

ROOT = Path(__file__).parents[1]
CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
TOKEN = "explorer-test"
FIRST = "1_first_look.ipynb"

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
pytest.importorskip("anywidget", reason="the extra headlens[notebook] is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium of the system's packages (chromium) is installed")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server shows, with the first notebook in it, on fewer images."""
    folder = tmp_path_factory.mktemp("jupyter") / "work"
    folder.mkdir()
    notebook = json.loads((ROOT / "examples" / FIRST).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            code = "".join(cell["source"])
            cell["source"] = re.sub(r"count = \d+", "count = 240", re.sub(r"draws = \d+", "draws = 10", code))
    (folder / FIRST).write_text(json.dumps(notebook), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(work: Path) -> Iterator[str]:
    """A Jupyter server on a free port; its address. It is ended by its own process group."""
    home = work.parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    environment = os.environ | own | {"PYTHONPATH": str(ROOT), "HEADLENS_PROGRESS": "0", "JUPYTER_PLATFORM_DIRS": "1"}
    # JupyterLab would ask whether it may fetch news; nothing here may look beyond this machine.
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(home / "settings")
    arguments = [
        f"--ServerApp.root_dir={work}", f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.ip=127.0.0.1", "--no-browser", "--allow-root", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    log = (home / "server.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *arguments], env=environment, cwd=work, stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=2).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        assert process.poll() is None, (home / "server.log").read_text()
        yield address
    finally:
        log.close()
        # The kernels are children in the server's own session: ending the server gives it the time to end them.
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def errors() -> list[str]:
    """What the page wrote to its console as an error; it fails the test."""
    return []


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest, errors: list[str]) -> Iterator[object]:
    """A page of the browser."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            permissions = ["clipboard-read", "clipboard-write"]
            context = browser.new_context(viewport={"width": 1400, "height": 3300}, permissions=permissions)
            page = context.new_page()
            page.set_default_timeout(120_000)
            playwright.expect.set_options(timeout=120_000)
            # Files of the front end's own that its server does not give out, such as a font, are not our matter.
            page.on(
                "console",
                lambda said: (
                    errors.append(f"{said.text} {said.location}")
                    if said.type == "error" and "/static/" not in said.location["url"]
                    else None
                ),
            )
            page.on("pageerror", lambda problem: errors.append(str(problem)))
            yield page
            # What is left of a run that failed, and for a person to look at.
            page.screenshot(path=_shots(tmp_path) / f"explorer-{request.node.name}.png")
            assert errors == []
        finally:
            browser.close()


def test_the_first_notebook_is_explored(server: str, work: Path, page, errors, tmp_path) -> None:  # type: ignore[no-untyped-def]
    expect = playwright.expect
    page.goto(f"{server}/lab/tree/{FIRST}?token={TOKEN}&reset")
    explorer = _run_all(page, server, errors)
    expect(explorer).to_contain_text("landbird, waterbird by background")
    # The notebook's own style would push a table's words to the right.
    words = page.locator(".jp-RenderedHTMLCommon .headlens td.text").first
    assert words.evaluate("(cell) => getComputedStyle(cell).textAlign") == "left"
    # The heatmap beside the images of the first located head; its texts and token map in the next tabs.
    plots = explorer.locator(".js-plotly-plot:visible")
    expect(plots).to_have_count(2)
    expect(explorer.get_by_role("img", name="most land: 6 images")).to_be_visible()
    page.screenshot(path=_shots(tmp_path) / "explorer-open.png")
    for name in ("Texts", "Token map"):
        explorer.get_by_role("tab", name=name).click()
        expect(plots).to_have_count(2)
        page.screenshot(path=_shots(tmp_path) / f"explorer-{name.split()[0]}.png")
    explorer.get_by_role("tab", name="Images").click()

    # A picture that is clicked is the one whose map is shown.
    image = explorer.get_by_label("Image", exact=True)
    before = image.input_value()
    picture = explorer.get_by_role("img", name="most land: 6 images")
    picture.click(position={"x": 110 + 3 * 110, "y": 190})
    expect(image).to_be_visible()
    expect(image).not_to_have_value(before)

    attribute = explorer.get_by_role("combobox", name="Attribute")
    attribute.fill("scenery:dry=a photo of dry land,wet=a photo of open water")
    explorer.get_by_role("button", name="Locate heads").click()
    expect(explorer).to_contain_text("scenery (dry, wet, inferred zero-shot")
    explorer.get_by_role("tab", name="Images").click()
    groups = explorer.get_by_role("table", name="Accuracy by group")
    expect(groups).to_contain_text("landbird/wet")
    expect(explorer).to_contain_text("Located by 'contrastive'")

    # A slip is answered in three parts, and neither what was typed nor what was shown is lost.
    attribute.fill("scenery:dry")
    attribute.press("Enter")
    expect(explorer.get_by_role("alert")).to_contain_text("name:value=prompt")
    expect(attribute).to_have_value("scenery:dry")
    expect(groups).to_contain_text("landbird/wet")

    selected = explorer.get_by_label("Selected", exact=True)
    _head(explorer, "2.3").click()
    expect(selected).to_have_value("L2H3")
    expect(explorer.get_by_role("img", name="most dry: 6 images")).to_be_visible()
    expect(explorer.get_by_role("status")).to_contain_text("Looking at head L2H3: ")
    _head(explorer, "3.1").click(modifiers=["Shift"])
    expect(selected).to_have_value("L2H3, L3H1")
    # The same by keyboard: 3.1 out, and its neighbour in.
    page.keyboard.press("Shift+Enter")
    expect(selected).to_have_value("L2H3")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+Enter")
    expect(selected).to_have_value("L2H3, L3H0")
    expect(explorer.get_by_role("button", name="head", pressed=True)).to_have_count(2)

    explorer.get_by_role("button", name="Ablate the selection").click()
    ablated = explorer.get_by_role("table", name="Before and after ablating L2H3, L3H0")
    for measure in ("worst group", "gap", "Cramér's V", "waterbird/dry"):
        expect(ablated).to_contain_text(measure)
    expect(plots).to_have_count(4)  # the heatmap, the groups, and two comparisons with random heads
    page.screenshot(path=_shots(tmp_path) / "explorer-ablated.png")

    # In a dark notebook the figures are dark too, and in a narrow one nothing lies over anything else.
    ground = "getComputedStyle(document.querySelector('.headlens-explorer .main-svg')).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).first.hover()
    page.get_by_role("menuitem", name="JupyterLab Dark", exact=True).click()
    page.wait_for_function(f"{ground} !== '{light}'")
    for width in (1800, 1000, 760):
        page.set_viewport_size({"width": width, "height": 1600})
        explorer.scroll_into_view_if_needed()
        page.wait_for_timeout(600)
        page.screenshot(path=_shots(tmp_path) / f"explorer-dark-{width}.png")
        drawn, below = explorer.locator(".headlens-heads .headlens-box").bounding_box(), selected.bounding_box()
        assert drawn["y"] + drawn["height"] <= below["y"]
        _head(explorer, "1.2").click()
        expect(selected).to_have_value("L1H2")
        _head(explorer, "2.3").click()
        expect(selected).to_have_value("L2H3")
    explorer.get_by_role("button", name="Undo").click()
    expect(selected).to_have_value("L1H2")
    _head(explorer, "2.3").click()
    expect(selected).to_have_value("L2H3")
    _head(explorer, "3.0").click(modifiers=["Shift"])
    expect(selected).to_have_value("L2H3, L3H0")
    explorer.get_by_role("button", name="Ablate the selection").click()
    # The table of the same selection before is still there: the ablation is over once the status line has its time.
    expect(explorer.get_by_role("status")).to_contain_text("Ablating the selection: ")
    expect(ablated).to_contain_text("worst group")

    explorer.get_by_role("tab", name="Steps and code").click()
    page.screenshot(path=_shots(tmp_path) / "explorer-steps.png")
    explorer.get_by_role("button", name="Copy the Python").click()
    expect(explorer.get_by_role("button", name="Copied")).to_be_visible()
    assert 'audit.ablate(["L2H3", "L3H0"]' in page.evaluate("navigator.clipboard.readText()")
    folder = explorer.get_by_label("Folder", exact=True)
    expect(folder).to_have_value("out/first_look/audit")  # where the notebook kept the audit of the first question
    folder.fill("kept")
    folder.press("Enter")
    explorer.get_by_role("button", name="Save the audit").click()
    expect(explorer).to_contain_text("Saved to kept")
    assert (work / "kept" / "explorer.json").is_file()


@pytest.mark.skipif(find_spec("notebook") is None, reason="Notebook 7 is not installed")
def test_a_saved_explorer_goes_on_in_another_kernel(server: str, work: Path, page, errors) -> None:  # type: ignore[no-untyped-def]
    clip = hl.load("testbed")
    store = hl.extract(clip, hl.testbed.images(work / "birds", n=160), work / "acts.zarr")
    task = hl.ZeroShotTask(["landbird", "waterbird"])
    background = hl.Attribute("background", {"land": "a photo of the land", "water": "a photo of the water"})
    state = ExplorerState(hl.Audit(clip, store, task, background), n_random_sets=11, n_bootstrap=53)
    state.click((1, 6))
    state.click((3, 0), add=True)
    state.ablate()
    state.save(work / "before")
    cell = {
        "cell_type": "code", "id": "only", "metadata": {}, "execution_count": None, "outputs": [],
        "source": 'import headlens as hl\nhl.Audit.load("before", clip=hl.load("testbed")).explore()',
    }  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (work / "again.ipynb").write_text(json.dumps(notebook), encoding="utf-8")

    expect = playwright.expect
    page.goto(f"{server}/notebooks/again.ipynb?token={TOKEN}")
    explorer = _run_all(page, server, errors)
    selected = explorer.get_by_label("Selected", exact=True)
    expect(selected).to_have_value("L1H6, L3H0")
    expect(explorer.get_by_role("table", name="Before and after ablating L1H6, L3H0")).to_contain_text("worst group")
    attribute = explorer.get_by_role("combobox", name="Attribute")
    attribute.fill("scenery:dry=a photo of dry land,wet=a photo of open water")
    attribute.press("Enter")
    explorer.get_by_role("tab", name="Images").click()
    expect(explorer.get_by_role("table", name="Accuracy by group")).to_contain_text("waterbird/wet")
    _head(explorer, "2.3").click()
    _head(explorer, "3.1").click(modifiers=["Shift"])
    expect(selected).to_have_value("L2H3, L3H1")
    explorer.get_by_role("button", name="Ablate the selection").click()
    expect(explorer.get_by_role("table", name="Before and after ablating L2H3, L3H1")).to_contain_text("Cramér's V")


def _run_all(page, server: str, errors: list[str]):  # type: ignore[no-untyped-def]
    """Run every cell, and return the explorer that the last one shows, once its heatmap is drawn."""
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    for _ in range(240):  # before its kernel is connected, a notebook would ask for one
        kernels = page.request.get(f"{server}/api/kernels?token={TOKEN}").json()
        if any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels):
            break
        page.wait_for_timeout(250)
    errors.clear()  # what the front end said of itself, before there was anything of ours
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    explorer = page.locator(".headlens-explorer")
    _head(explorer, "3.0").wait_for()
    explorer.scroll_into_view_if_needed()
    return explorer


def _head(explorer, name: str):  # type: ignore[no-untyped-def]
    return explorer.get_by_role("button", name=f"head {name}", exact=True)


def _shots(fallback: Path) -> Path:
    return Path(os.environ.get("HEADLENS_SCREENSHOTS", fallback))
