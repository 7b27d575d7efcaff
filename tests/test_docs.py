"""The documentation is true: it builds strictly, its links lead somewhere, its commands exist, its examples run."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import headlens as hl
from headlens.cli import app
from headlens.steps.requirements import parse_requirement

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MARK = "<!-- runs -->"
BLOCK = re.compile(r"(?P<mark><!-- runs -->\n)?^```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
IN_ORDER = ("start.md", "shell.md", "ci.md", "extend.md")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, kind: str, marked: bool = False) -> list[str]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [block["code"] for block in found if block["kind"] == kind and (block["mark"] or not marked)]


def commands(text: str) -> list[list[str]]:
    """The `$ …` lines of a console block, with lines that end in a backslash joined."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line[2:], comments=True) for line in joined.splitlines() if line.startswith("$ ")]


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub and mkdocs name them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#{1,6} +(.*)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        notebook = ROOT / "examples" / f"{place.stem}.ipynb"
        if place.parent == ROOT / "docs" / "examples":
            assert notebook.is_file(), target  # a page that the site's build makes of a notebook
            continue
        assert place.exists(), target
        if anchor and "." not in anchor:  # a name with points is one of the reference's, which the build checks
            assert anchor in anchors(place), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_well_formed(page: Path) -> None:
    for code in blocks(page, "python"):
        ast.parse(code)
    for text in blocks(page, "yaml"):
        if "<" not in text:
            yaml.safe_load(text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_and_option_exists(page: Path) -> None:
    known = app.commands
    text = page.read_text(encoding="utf-8")
    written = [command for kind in ("console", "bash") for block in blocks(page, kind) for command in commands(block)]
    written += [
        shlex.split(found)
        for found in re.findall(r"`(headlens [a-z][^`\n]*)`", BLOCK.sub("", text))
        if "…" not in found
    ]
    for block in blocks(page, "yaml"):
        loaded = yaml.safe_load(block) if "jobs:" in block else {}
        steps = [step for job in loaded.get("jobs", {}).values() for step in job["steps"]]
        written += [shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("headlens")]
    for words in written:
        if words[:1] != ["headlens"] or len(words) == 1:
            continue
        if words[1].startswith("-"):
            assert words[1] in ("--help", "--version"), words
            continue
        assert words[1] in known, words
        options = {option for p in known[words[1]].params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
        for word in words[2:]:
            if word.startswith("-"):
                assert word in options, (words[1], word)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run in. What examples register is taken out of the registries again."""
    registries = (hl.steps.LOCATORS, hl.steps.METHODS)
    before, folder = [set(registry) for registry in registries], tmp_path_factory.mktemp("docs")
    here = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(here)
    for registry, kept in zip(registries, before, strict=True):
        for name in set(registry) - kept:
            registry.remove(name)


def test_every_block_that_is_marked_runs(place: Path, without_shape_checks: None) -> None:
    pages = [ROOT / "docs" / name for name in IN_ORDER]
    marked = [page for page in PAGES if MARK in page.read_text(encoding="utf-8")]
    assert sorted(marked) == sorted(pages), "a page with marked blocks is missing in IN_ORDER"
    names: dict[str, object] = {}
    run = 0
    for page in pages:
        for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if not block["mark"]:
                continue
            run += 1
            if block["kind"] == "python":
                exec(compile(block["code"], f"{page.name}", "exec"), names)
                continue
            for command in commands(block["code"]):
                done = CliRunner().invoke(app, command[1:])
                assert done.exit_code == 0, (command, done.output, done.exception)
    assert run >= 9
    audit = names["audit"]
    assert isinstance(audit, hl.Audit)
    assert (place / "report.html").is_file()
    assert (place / "audit" / "card.md").is_file()


def test_a_requirement_that_is_missed_stops_the_workflow_with_its_own_code(place: Path) -> None:
    (asked,) = [c for block in blocks(ROOT / "docs" / "ci.md", "console", marked=True) for c in commands(block)]
    missed = [*asked[1:], "--require", "ltc.worst_group >= 0.999"]
    if not (place / "birds").is_dir():
        hl.testbed.images(place / "birds", n=480)
    assert CliRunner().invoke(app, missed).exit_code == 3
    told = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    assert "**3**" in told
    for found in re.findall(r"(?m)^\| (`[^|]*`)", told):
        for written in re.findall(r"`([^`]+)`", found):
            parse_requirement(written)  # every row of the table is one that is understood


def test_the_site_builds_strictly_and_asks_no_server_for_anything(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install headlens[docs]")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|img|iframe)[^>]*\ssrc="(https?:)?//', html), page
        assert not re.search(r'<link[^>]*rel="(stylesheet|preconnect)"[^>]*href="(https?:)?//', html), page
        assert "arithmatex" not in html, page
        assert "merror" not in html, page
    reference = (tmp_path / "site" / "api" / "audit.html").read_text(encoding="utf-8")
    assert 'id="headlens.Audit.card"' in reference
