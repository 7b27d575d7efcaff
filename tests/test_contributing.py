"""The ways of CONTRIBUTING.md: a locator, a section with a figure, a column, added in one place, appear everywhere."""

import re
from dataclasses import replace
from pathlib import Path

import fairness_example
import pytest
from test_architecture import FLOORS

import headlens as hl
from headlens import document, plots
from headlens.document import audit as audit_page
from headlens.document.audit import audit_document
from headlens.explore.state import ExplorerState
from headlens.steps import LOCATORS
from headlens.steps.evaluate import Evaluated
from headlens.steps.options import KNOWN
from headlens.tables import Column, Table

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    asked = fairness_example.audit(tmp_path_factory.mktemp("contributing") / "plain")
    asked.evaluate(["ablation"], n_random_sets=3, n_bootstrap=19, n_null=0, total=0)
    return asked


def shown_everywhere(audit: hl.Audit, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The audit in all of its forms."""
    capsys.readouterr()
    document.show(audit_document(audit, images=0))
    return {
        "report": document.render(audit_document(audit, images=0)),
        "card": audit.card(),
        "shell": capsys.readouterr().out,
    }


def test_the_layers_are_those_that_are_checked() -> None:
    rows = re.findall(r"^\| (\d) \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    named = {int(number): set(re.findall(r"`(\w+)`", text)) - {"Audit"} for number, text in rows}
    assert named == {number: {room for room in rooms if room[0] != "_"} for number, rooms in FLOORS.items()}


def test_what_the_table_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = text[text.index("## Where to add what") : text.index("`tests/test_contributing.py`")]
    paths = re.findall(r"`(headlens/[a-z_/.]+)`", table)
    assert len(paths) >= 6
    assert all((ROOT / path).exists() for path in paths)


def test_a_registered_locator_can_be_asked_for_everywhere(audit: hl.Audit) -> None:
    assert set(KNOWN["locator"]) == set(LOCATORS)

    @LOCATORS.register("the last head")
    def last(evidence: object, count: int = 1) -> hl.locate.Located:
        return hl.locate.Located("the last head", tuple(hl.HeadId(2, 4 - i) for i in range(count)))

    try:
        other = audit.asking(seed=1)
        assert other.locate("the last head", count=2).spurious == (hl.HeadId(2, 4), hl.HeadId(2, 3))
        state = ExplorerState(audit.asking(seed=1))
        state.ask(locator="the last head")
        assert state.located == (hl.HeadId(2, 4),)
    finally:
        LOCATORS.remove("the last head")


def test_a_section_with_a_brief_is_in_every_form(
    audit: hl.Audit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.results is not None
    figure = plots.groups(list(audit.results.evaluations.values()), title="")
    added = document.Section("A new section", figure=figure, table=audit.results.shown(), brief=("It is new.",))
    before = audit_page.correction_sections

    def with_one_more(*args: object, **options: object) -> list[document.Section]:
        return [*before(*args, **options), replace(added, brief_table=True)]  # type: ignore[arg-type]

    monkeypatch.setattr(audit_page, "correction_sections", with_one_more)
    for form, text in shown_everywhere(audit, capsys).items():
        assert "A new section" in text, form
        assert form == "report" or "It is new." in text


def test_a_column_of_a_result_is_in_every_form(
    audit: hl.Audit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Evaluated.shown

    def with_one_more(self: Evaluated) -> Table:
        shown = before(self)
        frame = shown.frame.assign(half=shown.frame["average"] / 2)
        return replace(shown, frame=frame, columns={**shown.columns, "half": Column("percent", "half of it")})

    monkeypatch.setattr(Evaluated, "shown", with_one_more)
    monkeypatch.setenv("COLUMNS", "120")  # a narrow terminal folds the heading
    assert audit.results is not None
    cell = f"{50 * audit.results.evaluations['zero-shot'].average:.1f}"
    forms = shown_everywhere(audit, capsys) | {"object": repr(audit.results), "notebook": audit.results._repr_html_()}
    for form, text in forms.items():
        assert "half of it" in text, form
        assert cell in text, form
    assert str(audit.results.evaluations["zero-shot"].average / 2) in forms["report"]  # its CSV is not rounded
