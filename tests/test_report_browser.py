"""The report as a reader meets it: one file in a browser without a network, by mouse, by key, in the dark, on paper."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fairness_example
import pytest
from report_page import HOSTILE

import headlens as hl

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium of the system's packages (chromium) is installed")

PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}
MARKS = ".barlayer path, .scatterlayer path, .boxlayer path, .heatmaplayer image, .imagelayer image"
DRAWN = """() => Array.from(document.querySelectorAll(".plot"), (plot) => ({
  name: plot.id,
  words: plot.getAttribute("aria-label"),
  paper: getComputedStyle(plot.querySelector(".main-svg") ?? plot).backgroundColor,
  marks: Array.from(plot.querySelectorAll(MARKS), (mark) => mark.getBBox())
    .filter((box) => box.width + box.height > 0).length,
  empty: plot.querySelectorAll("svg.main-svg").length === 0,
  cut: Array.from(plot.querySelectorAll("text"), (text) => [text.textContent, text.getBoundingClientRect()])
    .filter(([, box]) => box.height && (box.top < plot.getBoundingClientRect().top - 1
      || box.bottom > plot.getBoundingClientRect().bottom + 1))
    .map(([text]) => text),
}))""".replace("MARKS", repr(MARKS))


def asked(folder: Path, world: str, model: str) -> hl.Audit:
    """An audit of a few of the testbed's images."""
    clip, card = hl.load(model), hl.testbed.card(model, world)
    manifest = hl.testbed.images(folder, n=160, world=world)
    return hl.Audit(
        clip,
        hl.extract(clip, manifest, folder / "store.zarr"),
        hl.ZeroShotTask(card["classes"], card["templates"]),
        hl.Attribute(card["attribute"]["name"], card["attribute"]["values"]),
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A correction audit, a fairness audit, and one whose every name tries to be markup."""
    folder = tmp_path_factory.mktemp("reports")
    birds = asked(folder / "birds", "birds", "testbed")
    birds.evaluate(n_random_sets=4, n_bootstrap=20)
    figures = asked(folder / "figures", "figures", "testbed-figures")
    figures.locate("concept+textspan")
    figures.fairness(n_random_sets=4, n_bootstrap=20, n_permutations=20, total=0)
    text = "".join(HOSTILE)
    hostile = fairness_example.audit(
        folder / "hostile", tuple(f"{text}{i}" for i in range(3)), text, (f"a{text}", f"b{text}"), text, "image"
    )
    audits = {"birds": birds, "figures": figures, "hostile": hostile}
    for audit in (birds, figures):
        audit.explain(audit.location.spurious)
        audit.collateral(n_bootstrap=20)
    compared = hl.compare(audits["hostile"], audits["hostile"], names=(text, f"other {text}"))
    return {
        **{name: audit.report(folder / f"{name}.html", images=2) for name, audit in audits.items()},
        "compared": hl.document.write(compared, folder / "compared.html"),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, reports: dict[str, Path]) -> Iterator[Any]:
    """`opened(name)`: a report in a page of its own. Nothing may go wrong, leave the page, or pop up."""
    contexts, wrong = [], []

    def told(kind: str, said: object) -> None:
        wrong.append(f"{kind}: {said}")

    def open_one(name: str, unfolded: bool = True) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: told("console", said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda problem: told("error", problem))
        page.on("dialog", lambda dialog: (told("dialog", dialog.message), dialog.dismiss()))
        page.on("popup", lambda other: told("popup", other.url))
        page.on("request", lambda asked: told("request", asked.url) if not allowed(asked.url) else None)
        page.goto(reports[name].as_uri())
        page.wait_for_function("() => !document.querySelector('.plot:not(.js-plotly-plot)')")
        assert page.locator("details.part[open]").count() == 0
        if unfolded:
            page.locator("details.part").evaluate_all("(folds) => folds.forEach((fold) => (fold.open = true))")
        return page

    def allowed(url: str) -> bool:
        return url in {path.as_uri() for path in reports.values()} or url.startswith(("data:", "blob:"))

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("name", ["birds", "figures"])
def test_every_figure_is_drawn_in_light_in_the_dark_on_a_small_screen_and_on_paper(opened: Any, name: str) -> None:
    page = opened(name)
    sections = page.locator("main h2").all_inner_texts()
    assert sections[0] == "Verdict"
    assert "What it cost elsewhere" in sections
    in_order(page, "light")
    assert page.get_by_role("button", name="Save as picture").count() == page.locator("figure").count()

    page.emulate_media(color_scheme="dark")
    in_order(page, "dark")
    on_paper(page)
    in_order(page, "dark")

    # On a small screen figures and tables scroll sideways, each by itself, and the page does not.
    page.set_viewport_size({"width": 400, "height": 900})
    in_order(page, "dark")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
    region = page.get_by_role("region", name="Figure: What it cost elsewhere")
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(region) => region.scrollLeft > 0", arg=region.element_handle())


def test_tables_sort_and_are_saved_and_commands_are_copied(opened: Any) -> None:
    page = opened("figures")
    table = page.get_by_role("region", name="Table: Every class and value").locator("table")
    column = table.locator("thead th").nth(2)
    column.get_by_role("button").click()
    images = [int(text) for text in table.locator("tbody tr td:nth-of-type(2)").all_inner_texts()]
    assert images == sorted(images, reverse=True)
    assert column.get_attribute("aria-sort") == "descending"
    with page.expect_download() as download:
        page.locator("section", has=table).get_by_role("button", name="Save as CSV").click()
    lines = Path(download.value.path()).read_text("utf-8").splitlines()
    assert download.value.suggested_filename == "who-is-harmed.csv"
    assert lines[0].startswith("class,value,images,")
    assert len(lines) == 1 + len(images)
    page.get_by_role("button", name="Copy the commands in Python").click()
    assert "hl.Audit(" in page.evaluate("() => getSelection().toString()")


def test_a_link_in_the_contents_opens_what_is_folded(opened: Any) -> None:
    page = opened("birds", unfolded=False)
    page.set_viewport_size({"width": 1500, "height": 900})
    fold = page.locator("details.part").first
    page.locator(f"nav a[href='#{fold.get_attribute('id')}']").click()
    playwright.expect(fold.locator("section").first).to_be_visible()
    contents = page.locator("nav")
    assert contents.evaluate("(nav) => getComputedStyle(nav).position") == "fixed"
    playwright.expect(contents.locator("ol")).to_be_visible()

    # On a phone they are a bar that stays in sight, and folds once a place was chosen.
    page.set_viewport_size({"width": 390, "height": 800})
    playwright.expect(contents.locator("ol")).to_be_hidden()
    page.evaluate("() => scrollTo(0, 4000)")
    playwright.expect(contents).to_be_in_viewport()
    contents.locator("summary").click()
    contents.get_by_role("link", name="Settings").click()
    playwright.expect(page.get_by_role("heading", name="Settings")).to_be_in_viewport()
    playwright.expect(contents.locator("ol")).to_be_hidden()
    bar, heading = contents.bounding_box(), page.get_by_role("heading", name="Settings").bounding_box()
    assert bar["y"] + bar["height"] <= heading["y"]


def in_order(page: Any, scheme: str, figures: int = 7) -> None:
    """Every figure is there, has marks and words, fits its place, and stands on the page's own paper."""
    page.wait_for_function(
        "(paper) => getComputedStyle(document.querySelector('.main-svg')).backgroundColor === paper", arg=PAPER[scheme]
    )
    fitting = "() => Array.from(document.querySelectorAll('.plot')).every((p) => p.scrollWidth <= p.clientWidth + 1)"
    page.wait_for_function(fitting)
    drawn = page.evaluate(DRAWN)
    assert len(drawn) == page.locator("script.figure").count() == page.locator("figure").count() >= figures
    for one in drawn:
        assert not one["empty"], one
        assert one["marks"] > 0, one
        assert len(one["words"]) > 20, one
        assert one["cut"] == [], one
        assert one["paper"] == PAPER[scheme], one
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == PAPER[scheme]


def on_paper(page: Any) -> None:
    """Printed, it is light, fits the paper, and says what its words mean; afterwards they are folded again."""
    page.evaluate(
        """() => addEventListener("beforeprint", () => {
          const plots = Array.from(document.querySelectorAll(".plot"));
          window.printed = {
            widths: plots.map((plot) => parseFloat(plot.style.zoom) * plot._fullLayout.width),
            papers: plots.map((plot) => plot._fullLayout.paper_bgcolor),
            words: document.querySelector("details.words").open,
          };
        })"""
    )
    assert page.pdf(format="A4").startswith(b"%PDF")
    printed = page.evaluate("() => window.printed")
    assert max(printed["widths"]) <= 661
    assert set(printed["papers"]) == {"#ffffff"}
    assert printed["words"]
    assert not page.evaluate("() => document.querySelector('details.words').open")


def test_all_of_it_is_reached_by_key_in_the_order_of_the_page(opened: Any) -> None:
    page = opened("birds")
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    playwright.expect(skip).to_be_focused()
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    playwright.expect(page.locator("main")).to_be_focused()
    reached, tops = [], []
    for _ in range(300):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "() => [document.activeElement.tagName, document.activeElement.getBoundingClientRect().top + scrollY]"
        )
        if where[0] == "BODY":
            break
        reached.append(where[0])
        tops.append(round(where[1]))
    assert tops == sorted(tops)
    wanted = page.locator("main").locator("a, summary, button, [tabindex='0']")
    visible = [one for one in wanted.all() if one.is_visible()]
    assert len(reached) == len(visible) > 40

    words = page.locator("details.words")
    assert words.locator("dl").is_hidden()
    words.locator("summary").focus()
    page.keyboard.press("Enter")
    playwright.expect(words.locator("dl")).to_be_visible()
    page.keyboard.press("Space")
    playwright.expect(words.locator("dl")).to_be_hidden()
    page.locator("nav summary").click()
    page.get_by_role("link", name="What it cost elsewhere").focus()
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("heading", name="What it cost elsewhere")).to_be_in_viewport()


@pytest.mark.parametrize(("name", "figures"), [("hostile", 7), ("compared", 1)])
def test_a_manifest_full_of_markup_is_text_and_runs_nothing(opened: Any, name: str, figures: int) -> None:
    page = opened(name)
    shown = " ".join(" ".join(page.locator("main dd").all_inner_texts()).split())
    for text in HOSTILE:
        assert " ".join(text.split()) in shown
    assert page.locator("[onerror], [onmouseover], [src='x'], a[href^='javascript']").count() == 0
    assert page.locator("script:not([type])").count() == 2
    in_order(page, "light", figures)
    page.mouse.move(400, 400)
    labels = page.evaluate("() => Array.from(document.querySelectorAll('.plot text'), (text) => text.textContent)")
    assert any("<img" in label or "<script" in label or "</scri" in label for label in labels)


def test_without_scripts_the_figures_are_told_in_words(browser: Any, reports: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    try:
        page = context.new_page()
        page.goto(reports["birds"].as_uri())
        for fold in page.locator("details.part > summary").all():
            fold.click()
        told = page.locator("noscript p").all()
        assert len(told) == page.locator("figure").count()
        assert all(one.is_visible() for one in told)
        page.get_by_text("This figure in words").first.click()
        playwright.expect(page.locator("figcaption details p").first).to_be_visible()
    finally:
        context.close()
