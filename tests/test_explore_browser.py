"""The explorer as a person meets it: JupyterLab in a browser, the example notebook, typing, clicking, ablating."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
TOKEN = "explorer-test"

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
pytest.importorskip("anywidget", reason="the extra headlens[notebook] is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium of the system's packages (chromium) is installed")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """JupyterLab on a free port over a copy of the example; its address. It is ended by its own process group."""
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(ROOT / "examples" / "explore.ipynb", work)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    environment = os.environ | own | {"PYTHONPATH": str(ROOT), "HEADLENS_PROGRESS": "0", "JUPYTER_PLATFORM_DIRS": "1"}
    # JupyterLab would ask whether it may fetch news; nothing here may look beyond this machine.
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(tmp_path / "settings")
    arguments = [
        f"--ServerApp.root_dir={work}", f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.ip=127.0.0.1", "--no-browser", "--allow-root", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    log = (tmp_path / "lab.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *arguments], env=environment, cwd=work, stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if server.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=2).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        assert server.poll() is None, (tmp_path / "lab.log").read_text()
        yield address
    finally:
        log.close()
        # The kernel is a child in the server's own session: ending the server gives it the time to end its kernels.
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def test_the_notebook_is_typed_into_clicked_and_ablated(lab: str, tmp_path: Path) -> None:
    shots = Path(os.environ.get("HEADLENS_SCREENSHOTS", tmp_path))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            context = browser.new_context(
                viewport={"width": 1400, "height": 3300}, permissions=["clipboard-read", "clipboard-write"]
            )
            page = context.new_page()
            page.set_default_timeout(120_000)
            errors: list[str] = []
            page.on(
                "console", lambda said: errors.append(f"{said.text} {said.location}") if said.type == "error" else 0
            )
            page.on("pageerror", lambda problem: errors.append(str(problem)))
            try:
                page.goto(f"{lab}/lab/tree/explore.ipynb?token={TOKEN}&reset")
                _explore(page, shots)
            except BaseException:
                page.screenshot(path=shots / "explorer-failed.png")
                raise
            assert errors == []
        finally:
            browser.close()
    assert (tmp_path / "work" / "kept" / "explorer.json").is_file()


def _explore(page, shots: Path) -> None:  # type: ignore[no-untyped-def]
    expect = playwright.expect
    expect.set_options(timeout=120_000)
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    explorer = page.locator(".headlens-explorer")
    heatmap = explorer.locator(".headlens-pane").first
    heatmap.locator(".main-svg").first.wait_for()
    expect(explorer.locator(".headlens-question")).to_contain_text("landbird, waterbird by background")
    # Heatmap, text spans, pictures and token map of the first located head.
    expect(explorer.locator(".headlens-pane.js-plotly-plot:visible")).to_have_count(4)
    _shot(page, explorer, shots / "explorer-1-open.png")

    attribute = explorer.get_by_placeholder("name:value=prompt")
    attribute.fill("scenery:dry=a photo of dry land,wet=a photo of open water")
    attribute.press("Enter")
    expect(explorer.locator(".headlens-question")).to_contain_text("scenery (dry, wet, inferred zero-shot")
    expect(explorer.locator(".headlens-groups")).to_contain_text("landbird/wet")
    expect(explorer.locator(".headlens-located")).to_contain_text("Located by 'contrastive'")

    # A slip is answered in three parts, and neither what was typed nor what was shown is lost.
    attribute.fill("scenery:dry")
    attribute.press("Enter")
    expect(explorer.get_by_role("alert")).to_contain_text("name:value=prompt")
    expect(attribute).to_have_value("scenery:dry")
    expect(explorer.locator(".headlens-groups")).to_contain_text("landbird/wet")

    selected = explorer.get_by_label("Selected", exact=True)
    _click_cell(page, heatmap, layer=2, head=3)
    expect(selected).to_have_value("2.3")
    expect(explorer.get_by_role("img", name="Head 2.3, ")).to_have_count(1)
    expect(explorer).to_contain_text("Looking at head 2.3: ")
    _click_cell(page, heatmap, layer=3, head=0, modifiers=["Shift"])
    expect(selected).to_have_value("2.3, 3.0")

    explorer.get_by_role("button", name="Ablate the selection").click()
    ablated = explorer.locator(".headlens-ablated")
    for measure in ("worst group", "gap", "Cramér's V", "waterbird/dry"):
        expect(ablated).to_contain_text(measure)
    expect(explorer.locator(".headlens-pane.js-plotly-plot:visible")).to_have_count(7)
    _shot(page, explorer, shots / "explorer-2-ablated.png")

    explorer.get_by_role("button", name="Copy the Python").click()
    expect(explorer.get_by_role("button", name="Copied")).to_be_visible()
    assert "hl.audit.ablate(audit, [(2, 3), (3, 0)]" in page.evaluate("navigator.clipboard.readText()")
    folder = explorer.get_by_label("Folder", exact=True)
    folder.fill("kept")
    folder.press("Enter")
    explorer.get_by_role("button", name="Save the audit").click()
    expect(explorer).to_contain_text("Saved to kept")


def _click_cell(page, heatmap, layer: int, head: int, modifiers: tuple[str, ...] | list[str] = ()) -> None:  # type: ignore[no-untyped-def]
    """Click the middle of a cell of the testbed's 4 layers × 8 heads; the last layer is on top."""
    heatmap.scroll_into_view_if_needed()
    field = heatmap.locator(".nsewdrag")
    box = field.bounding_box()
    place = {"x": (head + 0.5) / 8 * box["width"], "y": (3.5 - layer) / 4 * box["height"]}
    field.hover(position=place)
    field.click(position=place, modifiers=list(modifiers))


def _shot(page, explorer, path: Path) -> None:  # type: ignore[no-untyped-def]
    """For a person to look at, and what is left of a run that fails."""
    explorer.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    page.screenshot(path=path)
