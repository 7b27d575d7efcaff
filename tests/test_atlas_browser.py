"""The atlas as a reader meets it, from its folder: search, a head's page, comparison, keys; texts that are markup."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from atlas_site import site
from report_page import HOSTILE

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium of the system's packages (chromium) is installed")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with another beside it; every name in both tries to be markup."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)  # a stand-in for a model is no HookedCLIP
    try:
        folder = tmp_path_factory.mktemp("atlas")
        return site(folder, compare=site(folder, seed=1).parent)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[390, 1500])
def page(browser: Any, atlas: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The first page; what it says to the console, asks of a server, or opens as a dialog fails the test."""
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    page, wrong = context.new_page(), []
    # A missing thumbnail is an error of the console's, and meant to be.
    page.on(
        "console", lambda m: wrong.append(m.text) if m.type == "error" and "ERR_FILE_NOT_FOUND" not in m.text else None
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url))
    page.goto(atlas.as_uri())
    page.wait_for_selector("h1")
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert page.locator("main script, main [onmouseover], main [onerror], main iframe").count() == 0
    assert wrong == []
    context.close()


def test_the_map_is_coloured_by_a_chosen_score_and_moved_on_by_keys(page: Any) -> None:
    assert page.locator(".cell").count() == 15
    before = page.locator(".cell").first.evaluate("cell => cell.style.background")
    names = page.locator("#score option").all_inner_texts()
    assert names[0] == "share of variance" and "accuracy lost" in names and "attribute" in names
    shares = [
        share.removesuffix("\u00a0%")
        for share in page.locator("table[aria-label^='Heads by'] td:nth-child(2)").all_inner_texts()
    ]
    assert shares == sorted(shares, key=float, reverse=True) and 0 < float(shares[-1]) < float(shares[0]) < 100
    page.select_option("#score", label="attribute")
    assert page.locator(".cell").first.evaluate("cell => cell.style.background") != before
    page.locator('[data-place="6"]').focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.dataset.place") == "11"
    page.keyboard.press("ArrowRight")
    assert page.locator(".detail b").inner_text() == "L2H2"
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('h1').textContent.startsWith('L2H2')")
    page.keyboard.press("p")
    page.wait_for_function("location.hash === '#L2H1'")


def test_a_word_finds_heads_and_hostile_texts_stay_text(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("alert")
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash.startsWith('#search/')")
    page.wait_for_selector("table[aria-label='Heads found'] a")
    assert any(HOSTILE[1] in text for text in page.locator("td").all_inner_texts())
    page.fill("#query", HOSTILE[1])
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('h1').textContent.includes('onerror')")
    page.fill("#query", "inside")
    page.keyboard.press("Enter")
    page.wait_for_selector("table[aria-label='Heads by attribute']")
    page.fill("#query", "l1h3")
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#L1H3'")
    page.fill("#query", "zzz")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=No text of any head has this word")


def test_a_head_has_an_address_images_and_maps_with_numbers(page: Any, atlas: Path) -> None:
    page.goto(f"{atlas.as_uri()}#L2H3")
    page.reload()
    page.wait_for_selector("canvas")
    assert page.locator("#twins section[aria-label]").count() >= 2  # both models
    figures = page.locator(".gallery img")
    figures.first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.gallery img').naturalWidth > 0")
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    canvas.hover(position={"x": 3, "y": 3})
    detail = canvas.locator("xpath=ancestor::figure").locator("figcaption span")
    assert detail.inner_text().startswith("row 0, column 0:")
    canvas.focus()
    page.keyboard.press("ArrowDown")
    assert detail.inner_text().startswith("row 1, column 0:")


def test_two_models_stand_side_by_side(page: Any) -> None:
    page.click("#to-compare")
    page.wait_for_selector("#sides")
    assert page.locator("#sides .grid").count() == 2
    assert page.locator("table[aria-label='Differences'] tr").count() > 1


def test_an_address_that_is_none_says_so(page: Any, atlas: Path) -> None:
    page.goto(f"{atlas.as_uri()}#%E0%A4%A")
    page.reload()
    page.wait_for_selector("text=There is no such page")


def test_the_dark_is_dark(browser: Any, atlas: Path) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(atlas.as_uri())
    page.wait_for_selector(".cell")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 29)"
    context.close()
