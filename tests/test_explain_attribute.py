"""What is said first of a head that was selected for an attribute."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import headlens as hl
from headlens.explain import ExplainError, LabelRule, among_selected, attribute_encoding, explain_heads
from headlens.explain.attribute import separation
from headlens.states import head_moments

IMAGES, EMBED = 211, 13


def made(towards: int, far: float) -> tuple:
    """One head that writes along axis `towards` as a value has it, and along axis 2 by chance."""
    g = torch.Generator().manual_seed(2)
    value = torch.arange(IMAGES) % 2
    head = torch.zeros(IMAGES, 1, 2, EMBED)
    head[:, 0, 0, towards] = far * (2 * value - 1) + 0.5 * torch.randn(IMAGES, generator=g)
    head[:, 0, 0, 2] = 0.3 * torch.randn(IMAGES, generator=g)
    head[:, 0, 1] = torch.randn(IMAGES, EMBED, generator=g)
    store = hl.HeadStore.from_arrays(
        head, torch.randn(IMAGES, EMBED, generator=g), pd.DataFrame({"path": [f"{i}.png" for i in range(IMAGES)]}),
        convention="separate", normalized=False,
    )  # fmt: skip
    return store, value.numpy()


def encoding(towards: int, far: float) -> hl.explain.AttributeEncoding:
    store, values = made(towards, far)
    texts = torch.eye(EMBED)
    bank = SimpleNamespace(texts=tuple(map(str, range(EMBED))), categories=("a",) * EMBED)
    one = explain_heads(store, bank, texts, 2, draws=0, rule=LabelRule(nearest=0))[0, 0]
    direction = torch.zeros(1, EMBED)
    direction[0, 4] = 1
    return attribute_encoding(one, store, head_moments(store), direction, values, ("place", ("in", "out")))


def test_a_head_that_writes_along_the_attributes_texts() -> None:
    one = encoding(towards=4, far=2.0)
    assert (one.attribute, one.value, one.rank, one.n_texts) == ("place", "out", 1, EMBED)
    assert one.share > 0.9
    assert one.separation.shown
    assert 6 < one.separation.difference < 8
    assert one.pole == 0
    assert one.sentences[0].startswith("Along the texts of place lies 9")
    assert "its rank among the 13 texts of the bank is 1" in one.sentences[0]
    assert one.table()["direction"].tolist() == ["texts", "pole 1"]


def test_a_head_that_carries_it_where_its_texts_do_not_point() -> None:
    one = encoding(towards=6, far=2.0)
    assert one.share == pytest.approx(0, abs=1e-9)
    assert one.pole == 0
    assert any("whatever words the bank has for it" in said for said in one.sentences)


def test_a_head_that_does_not_carry_it_says_so() -> None:
    one = encoding(towards=6, far=0.0)
    assert one.pole is None
    assert len(one.sentences) == 1  # of a head that nobody selected there is no selection to disagree with
    (chosen,) = among_selected([one])
    assert "selection and explanation disagree" in chosen.sentences[2]


def test_a_selected_head_is_labelled_by_the_attribute_that_it_writes() -> None:
    one = encoding(towards=4, far=2.0)
    assert not one.named
    assert one.title == one.label
    (chosen,) = among_selected([one])
    assert chosen.named
    assert chosen.alignment > 0.99
    assert chosen.q == chosen.p < 0.01
    assert chosen.title.startswith("place (in ↔ out)")
    assert "It writes that difference as the texts mean it" in chosen.sentences[1]


@pytest.mark.parametrize("far", [-2.0, 0.1])
def test_a_head_that_writes_against_its_texts_or_hardly_is_not_labelled_by_them(far: float) -> None:
    (chosen,) = among_selected([encoding(towards=4, far=far)])
    assert (chosen.alignment < -0.99) == (far < 0)
    assert not chosen.named
    assert chosen.title == chosen.label


def test_the_p_of_an_alignment_is_how_often_a_random_direction_reaches_it() -> None:
    one = encoding(towards=4, far=0.2)
    assert 0 < one.alignment < 0.9999
    assert one.p == pytest.approx(np.arccos(one.alignment) / np.pi)  # the head writes in two dimensions


def test_heads_that_were_selected_are_judged_together() -> None:
    one = encoding(towards=4, far=2.0)
    two = [replace(one, p=p) for p in (0.01, 0.03, 0.5)]
    assert [chosen.q for chosen in among_selected(two)] == pytest.approx([0.03, 0.045, 0.5])
    assert among_selected([]) == []


def test_the_separation_by_hand() -> None:
    along = np.array([0.0, 2, 5, 7])
    inside = np.array([False, False, True, True])
    one = separation(along, inside, ~inside)
    assert one.difference == pytest.approx(5 / 2**0.5)  # pooled variance (2 + 2) / 2
    assert one.high - one.difference == pytest.approx(1.959964 * (1 + 12.5 / 8) ** 0.5)
    assert str(one).startswith("+3.54 (+0.40 to ")
    assert separation(np.ones(4), inside, ~inside).difference == 0
    with pytest.raises(ExplainError, match="1 and 3 images cannot be distinguished"):
        separation(along, np.array([True, False, False, False]), np.array([False, True, True, True]))
