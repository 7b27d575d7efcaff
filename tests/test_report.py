"""The report: complete, self-contained, and safe whatever the labels hold."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from report_page import HOSTILE, Page

from headlens import plots
from headlens._version import __version__
from headlens.document import Document, Section, render, write
from headlens.document.html import script_json
from headlens.errors import OutputError
from headlens.metrics import Evaluation
from headlens.tables import Table


def hostile_figure(text):
    groups = {text: 0.5, "b": 0.25}
    one = Evaluation(text, 0.4, 0.25, 0.15, groups, {text: 31, "b": 37}, {})
    return plots.groups([one], title=text)


def content(text="plain"):
    """A page on which `text` stands in every place that takes text."""
    table = pd.DataFrame({text: [text, "b"], "share": [0.12345, np.nan], "images": [3, 5]})
    return Document(
        title=text,
        verdict=[text],
        question={text: text},
        notes=[text],
        sections=[
            Section(text, f"{text}\n\nsecond", hostile_figure(text), text, Table(table, caption=text)),
            Section("heads", figure=plots.heatmap(np.eye(5, 7), [(0, 0)], title=text, unit=text)),
            Section("maps", figure=plots.tokens([np.zeros((13, 13, 3), np.uint8)], {text: np.ones((1, 3, 3))}, [text])),
        ],
        settings={text: text, "nested": {"a": [text]}, "path": Path("a")},
        commands={text: text},
        limits=[text],
    )


@pytest.fixture(scope="module")
def page():
    return Page(render(content()))


@pytest.mark.parametrize("text", [*HOSTILE, " ".join(HOSTILE)])
def test_hostile_text_is_shown_and_changes_nothing(page, text):
    html = render(content(text))
    hostile = Page(html)
    assert not hostile.open
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in page.elements]
    assert [set(attributes) for _, attributes in hostile.elements] == [set(a) for _, a in page.elements]
    shown = "".join(hostile.text)
    assert shown.count(text) >= 12
    own = [script for attributes, script in hostile.scripts if attributes.get("type") is None]
    assert own == [script for attributes, script in page.scripts if attributes.get("type") is None]


def test_hostile_text_in_figures_is_escaped_once(page):
    text = HOSTILE[0]
    scripts = [s for a, s in Page(render(content(text))).scripts if a.get("type") == "application/json"]
    bars, heads, _ = (json.loads(script) for script in scripts)
    escaped = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"
    assert bars["layout"]["title"]["text"] == heads["layout"]["title"]["text"] == escaped
    tick = bars["layout"]["yaxis"]["ticktext"][1]
    assert tick.startswith("&lt;/script&gt;&lt;script&gt;alert")
    assert "<" not in tick.replace("<br>", "")
    assert bars["layout"]["meta"]["alt"].count(text) == 1  # plain, for an attribute that HTML escapes
    assert not any(set(script) & set("<>&") for script in scripts)


def test_json_for_a_script_element_reads_back():
    value = {"a": [*HOSTILE, "\u2028\u2029", "ü", 1.5, None, True]}
    text = script_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set(text) & set("<>&")


def test_only_the_two_scripts_of_the_page_may_run(page):
    (policy,) = (m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    own = [script for attributes, script in page.scripts if attributes.get("type") is None]
    hashes = ["sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in own]
    assert len(own) == 2
    assert "script-src '{}' '{}';".format(*hashes) in policy
    assert policy.startswith("default-src 'none'")


def test_the_page_loads_nothing_from_elsewhere(page):
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    styles = re.search(r"<style>(.*?)</style>", render(content()), re.DOTALL).group(1)
    assert "url(" not in styles
    assert "@import" not in styles


def test_every_figure_has_words_and_every_table_its_headers(page):
    plotted = [d for d in page.all("div") if d.get("class") == "plot"]
    assert len(plotted) == len(page.all("figure")) == 3
    assert len(page.all("details")) == 3 + 1  # and the contents
    assert all(d["role"] == "img" and len(d["aria-label"]) > 20 for d in plotted)
    scripts = [a for a in page.all("script") if a.get("type") == "application/json"]
    assert [a["data-for"] for a in scripts] == [d["id"] for d in plotted]
    assert len(page.all("caption")) == len(page.all("table")) == 1
    assert {cell["scope"] for cell in page.all("th")} == {"col", "row"}


def test_the_page_can_be_read_by_keyboard_and_by_ear(page):
    (html,) = page.all("html")
    assert html["lang"] == "en"
    assert page.all("a")[0] == {"class": "skip", "href": "#main"}
    assert {a["href"][1:] for a in page.all("a")} <= page.ids
    for _, attributes in page.elements:
        assert attributes.get("aria-labelledby", "main") in page.ids
    scrolled = [d for d in page.all("div") if d.get("class") == "scroll"]
    assert scrolled
    assert all(d["tabindex"] == "0" and d["aria-label"] for d in scrolled)
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert set(headings) == {1, 2}


def test_numbers_in_a_table_are_short_and_gaps_are_shown(page):
    text = "".join(page.text)
    assert "0.123" in text
    assert "nan" not in text.lower()
    cells = [cell["class"].split()[0] for cell in page.all("td")]
    assert cells == ["number", "number"] * 2


def test_the_verdict_comes_first_and_the_settings_last(page):
    text = "".join(page.text)
    assert text.index("Contents") < text.index("Verdict")
    text = text[text.index("Verdict") :]
    order = [text.index(word) for word in ("Verdict", "Before you rely", "What was asked", "Limits\n")]
    assert order == sorted(order)
    assert text.index("Settings\n") < text.index(f"Made by headlens {__version__}")
    assert '{"a": ["plain"]}' in text


def test_dark_colours_are_beside_every_figure(page):
    for attributes, script in page.scripts:
        if attributes.get("type") == "application/json":
            figure = json.loads(script)
            for path, colour in figure["dark"]:
                node = figure
                for key in path[:-1]:
                    node = node[key]
                assert node[path[-1]] != colour
            assert ["layout", "template", "layout", "paper_bgcolor"] in [path for path, _ in figure["dark"]]


def test_a_figure_from_elsewhere_is_taken():
    html = render(Document("t", "v", sections=[Section("s", figure=go.Figure(go.Scatter(y=[1, 2])))]))
    assert "A figure without a description." in html


def test_a_page_without_figures_holds_no_script():
    page = Page(render(Document("t", "v")))
    assert not page.scripts
    assert "script-src 'none';" in page.all("meta")[1]["content"]


def test_a_report_is_one_file_of_bounded_size(tmp_path):
    path = write(content(), tmp_path / "new" / "folder" / "report.html")
    assert 4_000_000 < path.stat().st_size < 8_000_000
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert path.read_text("utf-8") == render(content())


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(Document("t", "v"), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_is_not_written_over(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Name a file in it"):
        write(Document("t", "v"), tmp_path)
    with pytest.raises(OutputError, match="leads through a file"):
        write(Document("t", "v"), tmp_path / "file" / "report.html")


def test_a_path_that_is_no_text_can_be_reported(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    section = Section(name, figure=hostile_figure(name))
    page = write(Document(name, name, sections=[section]), tmp_path / "report.html").read_text("utf-8")
    assert r"caf\udce9.png" in page


def test_a_folded_table_waits_to_be_opened_and_keeps_its_name(page):
    table = Table(pd.DataFrame({"a": ["x"], "b": [1]}), caption="All")
    html = render(Document("t", "v", sections=[Section("s", table=table, table_folded=True)]))
    folded = Page(html)
    assert folded.all("details") == [{}, {"class": "fold"}]  # the contents, the table
    assert (
        html.index('<details class="fold"><summary>All</summary>') < html.index("<table>") < html.rindex("</details>")
    )
    assert folded.all("caption") == [{"class": "hidden"}]
    assert {"class": "fold"} not in page.all("details")


def test_the_words_are_explained_where_there_are_any(page):
    content = Document("t", "v", question={"a": "b"}, words={HOSTILE[0]: HOSTILE[1]})
    explained = Page(render(content))
    assert {"class": "fold words"} in explained.all("details")
    assert HOSTILE[0] in "".join(explained.text)
    assert HOSTILE[1] in "".join(explained.text)
    assert "What the words mean" not in "".join(page.text)


def test_a_number_and_its_per_cent_stay_on_one_line():
    html = render(Document("t", "10.2 % of 5 images (p = 0.5)", sections=[Section("s", "from 1 % to 2 %")]))
    assert "(p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.5)" in html
    assert "10.2\N{NO-BREAK SPACE}% of 5 images" in html
    assert "from 1\N{NO-BREAK SPACE}% to 2\N{NO-BREAK SPACE}%" in html
