"""What a user holds shows itself: short, in words and per cent, in a terminal and in a notebook."""

import html
from collections.abc import Callable
from typing import Any

import pytest

import headlens as hl
from headlens.heads import HeadId

FORMS = ("L3H0", "3.0", (3, 0), HeadId(3, 0))


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    folder = tmp_path_factory.mktemp("objects")
    clip = hl.load("testbed")
    store = hl.extract(clip, hl.testbed.images(folder / "birds", n=160), folder / "store.zarr")
    task = hl.ZeroShotTask(["landbird", "waterbird"])
    attribute = hl.Attribute("background", {"land": "a photo of the land", "water": "a photo of the water"})
    audit = hl.Audit(clip, store, task, attribute)
    audit.locate()
    audit.explain(FORMS[:1], n_bootstrap=2)
    audit.evaluate(["ablation"], n_random_sets=5, n_bootstrap=20, n_null=0)
    audit.ablate(["3.0"], n_random_sets=5, n_bootstrap=20)
    audit.fairness(["3.0"], n_random_sets=5, n_bootstrap=20, n_permutations=20, n_null=0, total=0)
    audit.collateral(n_bootstrap=20)
    return audit


HELD: dict[str, Callable[[hl.Audit], Any]] = {
    "audit": lambda audit: audit,
    "location": lambda audit: audit.location,
    "scores": lambda audit: audit.scores("contrastive"),
    "results": lambda audit: audit.results,
    "evaluation": lambda audit: audit.results.evaluations["ablation"],
    "difference": lambda audit: audit.results.differences["ablation"],
    "control": lambda audit: audit.results.controls["ablation"],
    "verdict": lambda audit: audit.results.verdict,
    "fairness": lambda audit: audit.fairness_results,
    "fairness verdict": lambda audit: audit.fairness_results.verdict,
    "collateral": lambda audit: audit.collateral_results,
    "head ablation": lambda audit: audit.ablation,
    "explanation": lambda audit: audit.explanations["3.0"],
}
"""What shows itself as a table in a notebook; the rest is a line of text there, too."""
LINES: dict[str, Callable[[hl.Audit], Any]] = {
    "plot": lambda audit: audit.plot,
    "splits": lambda audit: audit.splits,
    "correction": lambda audit: audit.corrections["ablation"],
    "store": lambda audit: audit.store,
    "model": lambda audit: audit.clip,
}


@pytest.mark.parametrize("name", [*HELD, *LINES])
def test_everything_held_shows_itself_without_addresses_or_arrays(audit: hl.Audit, name: str) -> None:
    held = (HELD | LINES)[name](audit)
    shown = repr(held)
    assert not any(mark in shown for mark in (" object at 0x", "tensor(", "array(", "HeadId("))
    assert len(shown) < 4000
    if name in HELD:
        assert "<table" in held._repr_html_()


def test_a_table_reads_in_per_cent_and_keeps_its_numbers_on_request(audit: hl.Audit) -> None:
    results = audit.results
    assert results is not None
    assert list(results.table().columns) == ["method", "average, %", "worst group, %", "gap, %"]
    wide = results.table(wide=True).set_index("method")
    read = results.table().set_index("method")["worst group, %"]["ablation"]
    numbers = (wide.loc["ablation", f"worst_group{end}"] for end in ("", "_low", "_high"))
    assert read == "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * number for number in numbers))
    assert read in repr(results) and read in results._repr_html_()
    collateral = audit.collateral_results
    assert collateral is not None
    assert len(collateral.table()) == len(collateral.table(wide=True))
    assert "change, points" in collateral.table()


ENTRIES: dict[str, Callable[[hl.Audit, Any], Any]] = {
    "HeadId.of": lambda audit, head: HeadId.of(head),
    "scores": lambda audit, head: audit.scores("contrastive")[head],
    "explanations": lambda audit, head: audit.explanations[head].head,
    "explain": lambda audit, head: list(audit.explain([head], n_bootstrap=2)),
    "encoding": lambda audit, head: audit.encoding(head).head,
    "ablate": lambda audit, head: audit.ablate([head], n_random_sets=5, n_bootstrap=20).heads,
    "collateral": lambda audit, head: audit.collateral(heads=[head], methods=[], n_bootstrap=20).table(),
    "fairness": lambda audit, head: (
        audit.fairness([head], n_random_sets=5, n_bootstrap=20, n_permutations=20, n_null=0, total=0).candidates
    ),
    "locate": lambda audit, head: audit.asking().locate(spurious=[head], salient=[(2, 3)]).spurious,
    "plot.textspans": lambda audit, head: audit.plot.textspans(head),
    "plot.heatmap": lambda audit, head: audit.plot.heatmap(selected=[head]),
    "plot.images": lambda audit, head: audit.plot.ends_of(head).head,
    "MeanAblation": lambda audit, head: hl.correct.MeanAblation([head]).fit(audit.data.reference).heads,
    "bake": lambda audit, head: hl.bake(audit.clip, [head], audit.store).fingerprint,
    "top_images": lambda audit, head: hl.explain.top_images(audit.data.test, head).head,
    "textspan_heads": lambda audit, head: list(
        hl.explain.textspan_heads(audit.store, audit.evidence.bank_embeddings, 3, heads=[head])
    ),
    "draw_head_sets": lambda audit, head: hl.locate.draw_head_sets([head], 4, 8, 5).sets,
    "HeadEffects": lambda audit, head: audit.evidence.effects.predictions([head]).tolist(),
    "explorer": lambda audit, head: _clicked(audit, head),
}


def _clicked(audit: hl.Audit, head: Any) -> Any:
    from headlens.explore import ExplorerState

    state = ExplorerState(audit.asking(), n_random_sets=2, n_bootstrap=11)
    state.select([head])
    state.click(head)
    return state.head


@pytest.mark.parametrize("name", ENTRIES)
def test_a_head_may_be_written_in_any_form_everywhere(audit: hl.Audit, name: str) -> None:
    found = [str(ENTRIES[name](audit, form)) for form in FORMS]
    assert found == found[:1] * len(FORMS)


def test_heads_are_also_read_as_one_text() -> None:
    assert hl.heads.as_heads("L3H0, 3.1", 4, 8) == ((3, 0), (3, 1))
    found = hl.heads.ByHead({HeadId(3, 0): "here"})
    assert found["L3H0"] == found["3.0"] == found[3, 0] == "here"
    with pytest.raises(KeyError, match="L1H1"):
        found["1.1"]


def test_the_pictures_of_a_plot_are_named(audit: hl.Audit) -> None:
    assert ".heatmap()" in repr(audit.plot) and ".textspans()" in repr(audit.plot)


def test_an_audit_says_where_it_stands(audit: hl.Audit) -> None:
    shown = html.unescape(audit._repr_html_())
    assert "landbird, waterbird" in shown and "background: land, water" in shown
    assert audit.verdict is not None and audit.verdict.sentence[:60] in shown
    assert "none yet" in audit.asking(seed=1)._repr_html_()
