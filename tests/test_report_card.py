"""The card: the verdict first, numbers with intervals, and text that stays text whatever the labels hold."""

import html
import re

import fairness_example
import pytest
from markdown_it import MarkdownIt
from report_page import HOSTILE

import headlens as hl
from headlens.document.markdown import card, plain

NASTY = (
    *HOSTILE,
    "](javascript:alert(1)) [x](http://a.b/c) ![i](http://a.b/i.png)",
    "| a | b |\n|---|---|\n| c | d |",
    "# heading",
    "- item",
    "+ ",
    "---",
    "12. item",
    "**bold** _slanted_ ~~gone~~ `code` ```",
    "www.example.org and https://example.org",
    "trailing \\",
    "<details open>",
    "&amp; &lt;",
)


def rendered(markdown: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    asked = fairness_example.audit(tmp_path_factory.mktemp("card") / "plain")
    asked.evaluate(["ablation"], n_random_sets=5, n_bootstrap=19)
    asked.collateral(n_bootstrap=19)
    return asked


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("form", ["{}", "- {}", "| a |\n| --- |\n| {} |"], ids=["paragraph", "list", "cell"])
def test_text_is_shown_letter_by_letter_and_is_never_markup(text: str, form: str) -> None:
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    made = rendered(form.format(plain(text)))
    assert re.findall(r"<[^>]*>", made) == re.findall(r"<[^>]*>", rendered(form.format("word")))
    assert shown in html.unescape(re.sub(r"<[^>]*>", "", made)).replace("\n", " ")


def test_the_verdicts_come_first_and_every_number_has_its_interval(audit: hl.Audit) -> None:
    text = audit.card()
    assert audit.fairness_results is not None
    assert audit.results is not None
    first, second, plainly = text.split("\n\n")[:3]
    assert first.startswith("## ")
    assert second == f"**{plain(audit.fairness_results.verdict.headline)}.**"
    assert plainly.startswith("In plain words: ") and plainly.endswith(plain(audit.fairness_results.verdict.cost))
    assert f"\n\n{plain(audit.results.verdict.headline)}.\n\n" in text
    for verdict in (audit.fairness_results.verdict, audit.results.verdict):
        assert all(plain(one.text) in text for one in verdict.conditions)
        assert all(plain(remark) in text for remark in verdict.remarks)
    change = audit.fairness_results.change
    low, high = change.interval["cramers_v"]
    assert plain(f"{change.difference['cramers_v']:+.3f} [{low:+.3f}, {high:+.3f}]") in text
    for record in audit.results.records():
        low, high = record["interval"]["worst_group"]
        assert plain(f"{100 * record['worst_group']:.1f} [{100 * low:.1f}, {100 * high:.1f}]") in text
    for heading in ("Limits", "To repeat it", "What correcting does"):
        assert f"### {heading}" in text
    assert audit.store.fingerprint in text
    assert str(audit.store.path) not in text  # a published card does not tell where its author keeps files


def test_each_kind_of_result_stands_alone(audit: hl.Audit) -> None:
    def without(kind: str) -> hl.Audit:
        return hl.Audit.of(audit.data, tuple(step for step in audit.record if type(step.call).__name__ != kind))

    assert "What correcting" not in without("Evaluate").card()
    alone = without("Fairness").card()
    assert "Cramér" not in alone
    assert "Candidates by concept: " in alone
    assert card(audit, level=1).startswith("# ")


def test_hostile_names_leave_the_cards_structure_as_it_is(audit: hl.Audit, tmp_path_factory) -> None:
    def shape(text: str) -> list[str]:
        return [token.type for token in MarkdownIt("commonmark").enable("table").parse(text)]

    plain_shape = shape(audit.card())
    nasty = "</td><script>x</script> | `a` [b](c) # $\\alpha$ **d**"
    hostile = fairness_example.audit(
        tmp_path_factory.mktemp("nasty") / "store",
        classes=(nasty, "``` nurse", "- farmer"),
        attribute="presentation|<b>",
        values=("fem`inine", "+ masculine"),
        text="</code> *text*",
    )
    hostile.evaluate(["ablation"], n_random_sets=5, n_bootstrap=19)
    hostile.collateral()
    text = hostile.card()
    assert shape(text) == plain_shape
    made = rendered(text)
    assert "<script" not in made
    assert "<a " not in made
    assert nasty in html.unescape(re.sub(r"<[^>]*>", "", made))


def test_the_card_says_what_it_cost_elsewhere(audit: hl.Audit) -> None:
    text = audit.card()
    assert audit.collateral_results is not None
    assert list(audit.collateral_results.methods) == ["ablation", "candidates ablated"]
    part = text.partition("### What it cost elsewhere")[2].partition("### Limits")[0]
    assert part.count("- With ") == 2
    for note in audit.collateral_results.notes:
        assert plain(note) in part
    assert "audit.collateral(" in text
