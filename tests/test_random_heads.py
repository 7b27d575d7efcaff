"""Random heads: which sets a located one is compared with, and how."""

from collections import Counter
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.errors import LocateError, MetricError
from headlens.heads import HeadId
from headlens.locate import draw_head_sets
from headlens.metrics import against_random
from headlens.steps.controls import Draw, ScoredImages, random_head_control


def layers(heads):
    return Counter(head.layer for head in heads)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 10)), min_size=2, max_size=5), st.integers(1, 40))
def test_sets_have_the_located_layers_and_are_never_the_located_set(heads, count):
    located = [HeadId(*head) for head in heads]
    found = draw_head_sets(located, 3, 11, n_random_sets=count)
    possible = int(np.prod([comb(11, k) for k in layers(located).values()])) - 1
    assert found.n_possible == possible and len(found) == min(count, possible)
    assert found.exhaustive == (count >= possible) and not found.pooled and not found.own
    assert len({one["spurious"] for one in found.sets}) == len(found)
    for one in found.sets:
        assert layers(one["spurious"]) == layers(located) and set(one["spurious"]) != set(located)
        assert list(one["spurious"]) == sorted(set(one["spurious"]))


@pytest.mark.parametrize("count", [26, 27, 28, 400])
def test_exhaustive_where_as_many_exist_as_are_wanted(count):
    found = draw_head_sets([(1, 0), (1, 1)], 2, 8, n_random_sets=count)
    assert found.n_possible == 27 and len(found) == min(count, 27) and found.exhaustive == (count >= 27)
    assert ("all of 27" in found.note) == found.exhaustive
    assert any({(1, 0), (1, 2)} == set(one["spurious"]) for one in found.sets) or not found.exhaustive  # overlap


def test_draws_are_even_and_follow_the_seed():
    seen = Counter(
        head
        for seed in range(200)
        for one in draw_head_sets([(0, 0), (0, 1)], 1, 9, 3, seed).sets
        for head in one["spurious"]
    )
    assert set(seen) == {(0, j) for j in range(9)} and max(seen.values()) < 1.6 * min(seen.values())
    one, same, other = (draw_head_sets([(0, 1), (1, 3)], 2, 97, seed=seed) for seed in (5, 5, 6))
    assert one == same != other


def test_one_role_is_drawn_while_the_other_stands():
    located = {"spurious": [(1, 0)], "salient": [(1, 3), (0, 2)]}
    both = draw_head_sets(located, 2, 7, n_random_sets=10_000)
    assert both.n_possible == 7 * comb(7, 1) * 6 - 1 and both.varied == ("spurious", "salient")
    for one in both.sets:
        assert not set(one["spurious"]) & set(one["salient"])
        assert (layers(one["spurious"]), layers(one["salient"])) == ({1: 1}, {1: 1, 0: 1})
    salient = draw_head_sets(located, 2, 7, vary=["salient"], n_random_sets=10_000)
    assert salient.n_possible == 7 * 6 - 1 and {one["spurious"] for one in salient.sets} == {((1, 0),)}
    assert not any((1, 0) in one["salient"] for one in salient.sets)
    assert "salient heads drawn and spurious heads as located" in salient.note


def test_neighbouring_layers_join_where_a_layer_has_too_few_sets():
    found = draw_head_sets([(3, 2)], 6, 8)
    assert found.pooled == ((2, 3, 4),) and found.n_possible == 23 and found.enough
    assert [one["spurious"] for one in found.own] == [((3, j),) for j in range(8) if j != 2]
    assert "layers 2 to 4" in found.note and "p ≤ 0.05" in found.note
    edge = draw_head_sets([(5, 2)], 6, 8)
    assert edge.pooled == ((3, 4, 5),) and edge.n_possible == 23
    # Two layers that meet are one pool, and a tower that is too small stays too small.
    assert draw_head_sets([(1, 0), (2, 0)], 3, 3).pooled == ((0, 1, 2),)
    tiny = draw_head_sets([(0, 0)], 2, 3)
    assert not tiny.enough and tiny.smallest_p == 1 / 6
    assert draw_head_sets([(0, 0)], 1, 1).note.startswith("Random heads: there is no other set")
    # All heads of a layer: no other set of that layer, but of it and its neighbours.
    whole = draw_head_sets([(1, j) for j in range(4)], 3, 4)
    assert whole.n_possible == comb(12, 4) - 1 and whole.own == ()


def test_nothing_located_has_no_control():
    for located in ([], {"spurious": [], "salient": []}):
        found = draw_head_sets(located, 3, 5)
        assert len(found) == 0 and not found.enough
    assert draw_head_sets({"spurious": [], "salient": [(1, 2)]}, 3, 5).varied == ("salient",)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"located": [(2, 0)], "n_layers": 2, "n_heads": 3}, "no head L2H0"),
        ({"located": {"spurious": [(0, 0)], "salient": [(0, 0)]}, "n_layers": 2, "n_heads": 3}, "named twice"),
        ({"located": [(0, 0)], "n_layers": 2, "n_heads": 3, "n_random_sets": 0}, "0 random sets"),
        ({"located": [(0, 0)], "n_layers": 2, "n_heads": 3, "vary": ["salient"]}, "role 'salient'"),
    ],
)
def test_refusals(arguments, match):
    with pytest.raises(LocateError, match=match):
        draw_head_sets(**arguments)


# ---- the comparison -------------------------------------------------------------------------------------------------


def control(located, effect, shape=(2, 11), n_random_sets=100):
    """Of a method that classifies as many images correctly as the sum of its heads' effects, of one group."""
    images = np.arange(400)
    scored = ScoredImages(np.ones(400, int), images % 2, np.full(400, "all"))

    def predict(heads):
        return (images < sum(effect[head] for head in heads["spurious"])).astype(int)

    cast = {"spurious": tuple(map(HeadId.of, located))}
    draw = Draw(*shape, n_random_sets, 0)
    return random_head_control("any", cast, predict, scored, draw, before=np.zeros(400, int), after=predict(cast))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_p_is_the_rank_among_all_sets(seed):
    effect = np.random.default_rng(seed).integers(0, 5, (2, 11))  # many ties
    located = [HeadId(1, 3), HeadId(1, 8)]
    found = control(located, effect, n_random_sets=1000).comparison("worst_group")
    every = [effect[1, i] + effect[1, j] for i in range(11) for j in range(i)]
    observed = effect[1, 3] + effect[1, 8]
    assert found.p == pytest.approx(sum(value >= observed for value in every) / len(every))
    assert found.n == len(every) - 1 and found.observed == pytest.approx(observed / 400)
    assert found.effect == pytest.approx(found.observed - found.mean)


def test_random_located_sets_are_rarely_better():
    """The control's own error: over located sets drawn at random from heavy-tailed heads, p ≤ .05 in at most 5 %."""
    generator = np.random.default_rng(0)
    effect = np.minimum(np.abs(generator.standard_cauchy((3, 8))) * 20, 190).astype(int)
    for pattern in ((2,), (1, 1)):
        p = []
        for _ in range(60):
            located = [
                HeadId(layer, int(j))
                for layer, count in enumerate(pattern)
                for j in generator.choice(8, count, replace=False)
            ]
            p.append(control(located, effect, (3, 8)).comparison("worst_group").p)
        assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2 * (0.05 * 0.95 / 60) ** 0.5


def test_pooled_layers_are_judged_by_the_other_heads_of_the_located_one():
    effect = np.zeros((3, 8), int)
    effect[1] = np.arange(8)  # the located layer does more than its neighbours, whichever head
    strongest = control([(1, 7)], effect, (3, 8))
    assert strongest.comparison("worst_group").p == pytest.approx(1 / 24)
    assert strongest.type_1_error("worst_group", 0.05) == pytest.approx(1 / 7)
    alike = np.arange(24).reshape(8, 3).T + np.eye(3, 8, dtype=int)[[1, 0, 2]]
    assert control([(1, 7)], alike, (3, 8)).type_1_error("worst_group", 0.05) == 0
    assert control([(1, 7), (1, 2)], effect, (3, 8)).own_p == {}


def test_lower_may_be_better_and_resamples_give_the_effects_interval():
    generator = np.random.default_rng(0)
    noise = 0.01 * generator.normal(size=200)
    values = np.array([0.5] * 21 + [0.4] * 14)
    v = against_random(
        np.concatenate([[0.3], 0.3 + noise]),
        np.concatenate([values[:, None], values[:, None] + noise], axis=1),
        lower_is_better=True,
    )
    assert v.observed == pytest.approx(0.3) and v.best == pytest.approx(0.4) and v.p == pytest.approx(1 / 36)
    assert v.effect == pytest.approx(v.mean - 0.3) and v.z > 2
    assert v.effect_interval == pytest.approx((v.effect, v.effect), abs=1e-9)  # the same noise on both sides cancels
    alike = against_random(0.7, [0.7] * 35)
    assert alike.p == 1 and alike.effect == pytest.approx(0) and np.isnan(alike.z)


def test_equal_statistics_are_ties_whatever_their_last_bit():
    assert against_random(0.1 + 0.2, [0.3, 0.3]).p == 1
    assert against_random(0.3, [0.1 + 0.2], lower_is_better=True).p == 1


def test_what_cannot_be_compared():
    with pytest.raises(MetricError, match="not finite"):
        against_random(0.1, [float("nan")])
