"""Explanations: what is planted in a head comes out in words, with honest shares and stabilities."""

import json
from types import SimpleNamespace

import pytest
import torch
from tiny_clip import EMBED, HEADS, LAYERS, tiny_clip, write_images

from headlens.errors import LocateError
from headlens.explain import ExplainError, LabelRule, explain_heads, image_parts, overview, textspan_heads, top_images
from headlens.extraction import HeadStore, extract
from headlens.states import HeadBasis, Moments, head_moments, merge_all

WORDS = {"place": ("water", "forest"), "colour": ("red", "green", "blue"), "animal": ("dog", "cat")}
BANK = SimpleNamespace(
    texts=tuple(text for texts in WORDS.values() for text in texts),
    categories=tuple(name for name, texts in WORDS.items() for _ in texts),
)
AXES = torch.eye(7).double()  # a text an axis
SPREADS = torch.tensor(  # of each head along each text: standard deviations
    [[4, 1, 0, 0, 0, 0, 0], [0, 0, 3, 2.5, 2, 0, 0], [2, 0, 1.9, 0, 0, 1.8, 0], [1, 1, 1, 1, 1, 1, 1]]
).double()


def micro(images: int = 64) -> tuple[Moments, HeadBasis, torch.Tensor]:
    """Four heads of width 7, whose variance along each axis is known: B is the identity and z uncorrelated."""
    signs = torch.linalg.qr(torch.randn(images, 8, generator=torch.Generator().manual_seed(1)).double())[0]
    z = signs[:, :7] - signs[:, :7].mean(0)
    z = torch.linalg.qr(z)[0] * images**0.5  # means 0, variances 1, no correlation
    z = (z[:, None, :] * SPREADS)[:, None]
    basis = HeadBasis.of_weights(AXES.expand(1, 4, 7, 7).clone())
    return Moments.of(z), basis, z


def test_a_head_worked_out_by_hand() -> None:
    moments, basis, _ = micro()
    explanations = explain_heads(moments, BANK, AXES, 3, basis=basis, rule=LabelRule(texts=1))
    place, colour, mixed, even = explanations.values()
    assert (place.texts, place.categories) == (("water", "forest"), ("place", "place"))
    assert place.share == pytest.approx((16 / 17, 1 / 17))
    assert place.explained == pytest.approx(1)
    (pole,) = place.poles  # the second direction holds 1/17 of the variance, less than the rule asks for
    assert (pole.high[0], pole.share) == ("water", pytest.approx(16 / 17))
    torch.testing.assert_close(pole.direction, AXES[0])
    assert pole.high_scores == pytest.approx((6 / 7,))  # e0 less the texts' mean, along e0
    # The head writes along e0 and e1 alone, where all texts but these two coincide.
    assert pole.alignment == pytest.approx(1)
    assert pole.faithfulness is None
    assert [round(one.share * 19.25, 2) for one in colour.poles] == [9, 6.25, 4]
    assert colour.texts == ("red", "green", "blue")
    assert place.by_category == pytest.approx({"place": 1.0})
    assert mixed.by_category == pytest.approx({"place": 4 / 10.85, "colour": 3.61 / 10.85, "animal": 3.24 / 10.85})
    assert list(mixed.by_category) == ["place", "colour", "animal"]
    assert even.explained == pytest.approx(3 / 7)
    # 'water' was chosen by the first, the third and the fourth head; 'forest' by the first and fourth.
    assert place.shared == (3, 2)
    assert place.unique == pytest.approx((1 / 3, 2 / 3))
    assert place.uniqueness == pytest.approx(16 / 17 / 3 + 2 / 51)
    assert colour.shared[1:] == (1, 1)
    assert place.again is None
    assert place.image_stability is None
    assert even.poles == ()  # seven directions with a seventh of the variance each
    assert even.label == "no clear meaning"
    frame = overview(explanations)
    assert frame["head"].tolist() == ["L0H0", "L0H1", "L0H2", "L0H3"]
    assert frame["texts"][0] == "water; forest"


def test_an_explanation_shows_itself() -> None:
    moments, basis, _ = micro()
    bank = SimpleNamespace(texts=("<b>", *BANK.texts[1:]), categories=BANK.categories)
    one = explain_heads(moments, bank, AXES, 3, heads=[(0, 2)], basis=basis)[0, 2]
    table = one.table()
    assert table["text"].tolist() == ["<b>", "red", "dog"]
    assert table["together"].tolist() == pytest.approx([4 / 10.85, 7.61 / 10.85, 1])
    assert table["heads"].tolist() == [1, 1, 1]  # alone among those that were asked for
    assert one.unique == (1, 1, 1)
    assert table["again"].isna().all()
    assert [one.bank[name] for name in one.by_category] == pytest.approx([2 / 7, 3 / 7, 2 / 7])
    assert "&lt;b&gt;" in one._repr_html_()
    assert "<b>0.2" not in one._repr_html_()
    plain = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert plain["label"] == one.label
    assert plain["rule"]["texts"] == 5
    assert [pole["share"] for pole in plain["poles"]] == pytest.approx([4 / 10.85, 3.61 / 10.85, 3.24 / 10.85])
    assert len(plain["chance"]) == 3


def test_a_head_that_does_not_vary_has_no_meaning() -> None:
    _, basis, z = micro()
    still = Moments.of(torch.cat([z[:, :, :3], torch.ones_like(z[:, :, :1])], 2))
    one = explain_heads(still, BANK, AXES, 3, basis=basis)[0, 3]
    assert (one.texts, one.label, one.explained, one.uniqueness) == ((), "no clear meaning", 0.0, None)
    assert len(one.table()) == len(one.by_category) == 0
    assert one.bank_stability is None


def test_stability_tells_a_planted_text_from_chance() -> None:
    _, basis, z = micro(images=512)
    noise = torch.randn(512, 7, generator=torch.Generator().manual_seed(3)).double()
    z = torch.cat([z[:, :, :3], noise[:, None, None]], 2)
    parts = [Moments.of(part) for part in z.split(16)]
    explained = explain_heads(merge_all(parts), BANK, AXES, 2, basis=basis, parts=parts, draws=20)
    planted, chance = explained[0, 0], explained[0, 3]
    assert planted.again == (1.0, 1.0)
    assert planted.image_stability == pytest.approx(1.0)
    assert chance.image_stability is not None
    assert chance.image_stability < 0.9  # seven equal axes: two of them change with the sample
    same = explain_heads(merge_all(parts), BANK, AXES, 2, basis=basis, parts=parts, draws=20)
    assert same[0, 3].again == chance.again
    other = explain_heads(merge_all(parts), BANK, AXES, 2, basis=basis, parts=parts, draws=20, seed=1)
    assert other[0, 3].again != chance.again


def test_stability_over_halves_of_the_bank() -> None:
    # Every text twice: both halves hold the same texts, so that they must agree.
    moments, basis, _ = micro()
    double = SimpleNamespace(texts=BANK.texts + BANK.texts, categories=BANK.texts + BANK.texts)
    explained = explain_heads(moments, double, torch.cat([AXES, AXES]), 3, heads=[(0, 0), (0, 2)], basis=basis)
    assert [one.bank_stability for one in explained.values()] == pytest.approx([1, 1])
    # Every text a category of its own: the halves share none.
    alone = SimpleNamespace(texts=BANK.texts, categories=BANK.texts)
    explained = explain_heads(moments, alone, AXES, 3, heads=[(0, 3)], basis=basis)
    assert explained[0, 3].bank_stability == 0
    single = SimpleNamespace(texts=("water",), categories=("place",))
    assert explain_heads(moments, single, AXES[:1], 1, basis=basis)[0, 0].bank_stability is None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> HeadStore:
    folder = tmp_path_factory.mktemp("explain")
    return extract(tiny_clip(), write_images(folder, 17), folder / "acts.zarr")


def test_a_store_brings_its_images(store: HeadStore) -> None:
    texts = torch.randn(7, EMBED, generator=torch.Generator().manual_seed(1))
    explained = explain_heads(store, BANK, texts, 2, draws=3)
    assert list(explained) == [(i, j) for i in range(LAYERS) for j in range(HEADS)]
    spans = textspan_heads(store, texts, 2)
    for head, one in explained.items():
        assert one.span.texts.tolist() == spans[head].texts.tolist()
        assert one.again is not None
        assert {round(3 * value) / 3 for value in one.again} == set(one.again)
    assert explain_heads(store, BANK, texts, 2, draws=0)[0, 0].again is None
    parts = image_parts(store, 5)
    assert sorted(part.count for part in parts) == [3, 3, 3, 4, 4]
    whole, expected = merge_all(parts), head_moments(store)
    torch.testing.assert_close(whole.scatter, expected.scatter)
    torch.testing.assert_close(whole.mean, expected.mean)


def test_top_images_by_hand(store: HeadStore) -> None:
    rows = store.heads(1, 3).double()
    centred = rows - rows.mean(0)
    top = top_images(store, (1, 3), count=3)
    norms = centred.norm(dim=1)
    assert top.highest == tuple(norms.argsort(descending=True)[:3].tolist())
    assert top.lowest == tuple(norms.argsort()[:3].tolist())
    assert top.highest_scores[0] == pytest.approx(float(norms.max()))
    assert (top.head, top.by) == ((1, 3), "norm")
    t = torch.arange(EMBED, dtype=torch.float32)
    along = top_images(store.subset([4, 9, 2, 11]), (1, 3), t, count=2)
    part = rows[[4, 9, 2, 11]]
    scores = (part - part.mean(0)) @ (t.double() / t.double().norm())
    assert along.highest == tuple(scores.argsort(descending=True)[:2].tolist())
    assert along.lowest == tuple(scores.argsort()[:2].tolist())
    assert along.lowest_scores == pytest.approx(scores.sort().values[:2].tolist())
    assert along.table()["end"].tolist() == ["highest", "highest", "lowest", "lowest"]
    assert along.table()["row"].tolist() == [*along.highest, *along.lowest]
    assert "<table" in along._repr_html_()


@pytest.mark.usefixtures("without_shape_checks")
def test_what_cannot_be_explained(store: HeadStore) -> None:
    moments, basis, _ = micro()
    with pytest.raises(ExplainError, match="7 texts, 7 categories, 6 embeddings"):
        explain_heads(moments, BANK, AXES[:6], 3, basis=basis)
    with pytest.raises(ExplainError, match="8 texts cannot be chosen from a bank of 7"):
        explain_heads(moments, BANK, AXES, 8, basis=basis)
    with pytest.raises(ExplainError, match="0 draws or more, but got -1"):
        explain_heads(moments, BANK, AXES, 3, basis=basis, draws=-1)
    with pytest.raises(LocateError, match=r"head L1H0"):
        explain_heads(moments, BANK, AXES, 3, basis=basis, heads=[(1, 0)])
    with pytest.raises(LocateError, match="head L0H5"):
        top_images(store, (0, 5))
    with pytest.raises(ExplainError, match="the 17 images, but got 18"):
        top_images(store, (0, 0), count=18)
    with pytest.raises(ExplainError, match=r"width, 7, but got shape \[5\]"):
        top_images(store, (0, 0), torch.ones(5))
    with pytest.raises(ExplainError, match="a direction, but got zero"):
        top_images(store, (0, 0), torch.zeros(EMBED))
    with pytest.raises(ExplainError, match="7 of the directions are NaN"):
        top_images(store, (0, 0), torch.full((EMBED,), torch.nan))
