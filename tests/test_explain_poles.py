"""Poles: a head that distinguishes texts is named by them, a head of random weights is not."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import mannwhitneyu, spearmanr

import headlens as hl
from headlens.explain import ExplainError, LabelRule, explain_heads
from headlens.explain.poles import candidate_texts, correlation, faithful, pooled_p

LAYERS, HEADS, EMBED, IMAGES, TOPICS, EACH = 3, 7, 23, 331, 5, 6


def planted() -> tuple[hl.HeadStore, SimpleNamespace, torch.Tensor]:
    """Heads (0, h) write topic h or its opposite as an image has it, h < 5; the other heads write without relation."""
    g = torch.Generator().manual_seed(3)
    topics = torch.randn(TOPICS, EMBED, generator=g)
    latent = torch.randn(IMAGES, TOPICS, generator=g)
    texts, names, categories = [], [], []
    for topic in range(TOPICS):
        for sign, word in ((1, "more"), (-1, "less")):
            for number in range(EACH):
                texts.append(sign * topics[topic] + 0.4 * torch.randn(EMBED, generator=g))
                names.append(f"{word} {topic} number {number}")
                categories.append(f"{word} {topic}")
    heads = torch.zeros(IMAGES, LAYERS, HEADS, EMBED)
    for layer in range(LAYERS):
        for head in range(HEADS):
            told = layer == 0 and head < TOPICS
            into = topics[head] if told else 4 * torch.randn(EMBED, generator=g)
            mixed = latent[:, head % TOPICS] if told else latent @ torch.randn(TOPICS, generator=g)
            wide = torch.randn(IMAGES, 4, generator=g) @ torch.randn(4, EMBED, generator=g)
            heads[:, layer, head] = mixed[:, None] * into + 0.3 * wide
    rest = latent @ topics + 0.3 * torch.randn(IMAGES, EMBED, generator=g)
    manifest = pd.DataFrame({"path": [f"{i}.png" for i in range(IMAGES)]})
    store = hl.HeadStore.from_arrays(heads / 50, rest, manifest, convention="separate", normalized=False)
    return store, SimpleNamespace(texts=tuple(names), categories=tuple(categories)), torch.stack(texts)


@pytest.fixture(scope="module")
def explained() -> dict:
    store, bank, texts = planted()
    half = np.arange(IMAGES) % 2 == 0
    return explain_heads(
        store.subset(np.flatnonzero(half)), bank, texts, 3, held_out=store.subset(np.flatnonzero(~half)), draws=0
    )


def test_a_head_is_labelled_by_what_was_planted_in_it(explained: dict) -> None:
    for head in range(TOPICS):
        pole = explained[0, head].pole
        assert pole is not None
        assert {text.rsplit(" number", 1)[0] for text in (*pole.high, *pole.low)} == {f"more {head}", f"less {head}"}
        assert {text.split()[0] for text in pole.name} == {"more", "less"}
        assert explained[0, head].label == " ↔ ".join(pole.name)
        assert pole.faithfulness.rank_correlation > 0.6
        assert pole.faithfulness.interval[0] > 0.5
        assert pole.faithfulness.auroc > 0.8
        assert pole.consistency == 1
        assert pole.consistency_p < 0.01


def test_heads_without_relation_to_the_texts_are_not(explained: dict) -> None:
    others = [one for head, one in explained.items() if head[0] > 0 or head[1] >= TOPICS]
    assert len(others) == LAYERS * HEADS - TOPICS
    assert sum(one.pole is not None for one in others) <= 1
    assert all(one.label == "no clear meaning" for one in others if one.pole is None)
    p = [pole.p for one in others for pole in one.poles]
    assert np.mean(np.array(p) <= 0.05) < 0.25


def test_a_label_that_does_not_predict_its_head_is_withdrawn() -> None:
    store, bank, texts = planted()
    against = store.subset(np.arange(100, IMAGES))
    turned = hl.HeadStore.from_arrays(
        torch.stack([-against.heads(0, 0)] * 2, 1)[:, None], against.embedding, against.manifest,
        convention="separate", normalized=False,
    )  # fmt: skip
    own = hl.HeadStore.from_arrays(
        torch.stack([store.heads(0, 0)] * 2, 1)[:, None], store.embedding, store.manifest,
        convention="separate", normalized=False,
    ).subset(np.arange(100))  # fmt: skip
    # The held-out images have the opposite of what the head writes.
    one = explain_heads(own, bank, texts, 3, held_out=turned, draws=0)[0, 0]
    assert one.poles[0].alignment > 0.8
    assert one.poles[0].faithfulness.rank_correlation < -0.5
    assert not one.poles[0].faithfulness.above_chance
    assert one.label == "no clear meaning"


def test_faithfulness_is_spearman_and_mann_whitney() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(41)
    along = scores + rng.standard_normal(41)
    seen = faithful(scores, along, np.linspace(-1, 1, 101))
    assert seen.rank_correlation == pytest.approx(spearmanr(scores, along).statistic)
    above = along > np.median(along)
    area = mannwhitneyu(scores[above], scores[~above]).statistic / (above.sum() * (~above).sum())
    assert seen.auroc == pytest.approx(area)
    assert seen.interval[0] < seen.rank_correlation < seen.interval[1]
    assert seen.random == pytest.approx(0.9)
    still = faithful(np.ones(12), along[:12], np.zeros(0))
    assert (still.rank_correlation, still.auroc) == (0, 0.5)
    assert not still.above_chance
    columns = torch.from_numpy(np.stack([along, -along, np.ones(41)], 1))
    assert correlation(columns, torch.from_numpy(along)[:, None])[0].tolist() == pytest.approx([1, -1, 0])


def test_a_text_that_no_image_resembles_most_is_no_candidate() -> None:
    images = torch.tensor([[1.0, 0.1, 0.0], [0.9, 0.0, 0.2]])
    texts = torch.tensor([[9.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, -1]])
    assert candidate_texts(images, texts, 1).tolist() == [0]
    assert candidate_texts(images, texts, 2).tolist() == [0, 1, 2]
    assert candidate_texts(images, texts, 0).tolist() == [0, 1, 2, 3]


def test_pooled_p_counts_the_draws_of_all() -> None:
    assert pooled_p(np.array([2.5, -9.0, 9.0]), np.arange(4.0)).tolist() == [2 / 5, 1, 1 / 5]


@pytest.mark.parametrize("width", [4, 13])
def test_p_is_uniform_where_nothing_is_planted(width: int) -> None:
    g = torch.Generator().manual_seed(8)
    z = torch.randn(200, 40, width, generator=g)
    written = torch.einsum("ihd,hde->ihe", z, torch.randn(40, width, 17, generator=g))
    store = hl.HeadStore.from_arrays(
        written[:, None], torch.randn(200, 17, generator=g), pd.DataFrame({"path": [f"{i}.png" for i in range(200)]}),
        convention="separate", normalized=False,
    )  # fmt: skip
    texts = torch.randn(50, 17, generator=g)
    bank = SimpleNamespace(texts=tuple(map(str, range(50))), categories=("a", "b") * 25)
    one = explain_heads(
        store.subset(np.arange(100)), bank, texts, 3, held_out=store.subset(np.arange(100, 200)), draws=0,
        rule=LabelRule(minimum_share=0.05),
    )  # fmt: skip
    p = np.array([pole.p for each in one.values() for pole in each.poles])
    assert len(p) > 100
    assert np.mean(p <= 0.05) < 0.12
    assert 0.4 < np.mean(p) < 0.65  # the unit norm sets a head against the rest: the test errs to the safe side
    assert all(each.pole is None for each in one.values())


def test_too_few_images_or_texts() -> None:
    store, bank, texts = planted()
    with pytest.raises(ExplainError, match="5 held-out images cannot show"):
        explain_heads(store, bank, texts, 3, held_out=store.subset(np.arange(5)), draws=0)
    single = SimpleNamespace(texts=bank.texts[:1], categories=bank.categories[:1])
    assert explain_heads(store, single, texts[:1], 1, draws=0)[0, 0].poles == ()
