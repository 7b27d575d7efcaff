"""Layer-matched random heads."""

from collections import Counter
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate import layer_matched


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 10)), min_size=1, max_size=5), st.integers(1, 40))
def test_every_set_matches_the_layers_and_avoids_the_located(heads, draws):
    barred = {(0, 9), (2, 10)} - heads
    sets = layer_matched(heads, 3, 11, n_random_sets=draws, exclude=barred)
    available = {layer: 11 - sum(h[0] == layer for h in heads | barred) for layer in range(3)}
    total = 1
    for layer, count in Counter(layer for layer, _ in heads).items():
        total *= comb(available[layer], count)
    assert len(sets) == min(draws, total) == len({frozenset(s) for s in sets})
    for one in sets:
        assert Counter(h.layer for h in one) == Counter(layer for layer, _ in heads)
        assert not set(one) & (heads | barred) and len(set(one)) == len(heads)
        assert all(0 <= h.head < 11 for h in one)


def test_all_sets_where_fewer_exist():
    sets = layer_matched([(1, 0), (1, 1), (0, 2)], 2, 4, n_random_sets=100)
    assert sets == [(HeadId(0, j), HeadId(1, 2), HeadId(1, 3)) for j in (0, 1, 3)]


def test_the_seed_decides():
    assert layer_matched([(0, 1)] * 1, 2, 97, n_random_sets=13, seed=5) == layer_matched(
        [(0, 1)], 2, 97, n_random_sets=13, seed=5
    )
    assert layer_matched([(0, 1)], 2, 97, n_random_sets=13, seed=5) != layer_matched(
        [(0, 1)], 2, 97, n_random_sets=13, seed=6
    )


def test_draws_are_even():
    seen = Counter(
        h for seed in range(300) for one in layer_matched([(0, 0)], 1, 8, n_random_sets=2, seed=seed) for h in one
    )
    assert set(seen) == {(0, j) for j in range(1, 8)}
    assert max(seen.values()) < 2 * min(seen.values())


def test_nothing_located_has_no_control():
    assert layer_matched([], 3, 5) == []


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"heads": [(0, 0), (0, 1), (0, 2)], "n_layers": 2, "n_heads": 5}, "Layer 0 has 2 heads"),
        ({"heads": [(0, 0)], "n_layers": 1, "n_heads": 3, "exclude": [(0, 1), (0, 2)]}, "Layer 0 has 0 heads"),
        ({"heads": [(2, 0)], "n_layers": 2, "n_heads": 3}, "head L2H0"),
        ({"heads": [(0, 0)], "n_layers": 2, "n_heads": 3, "n_random_sets": 0}, "0 random sets"),
    ],
)
def test_refusals(arguments, match):
    with pytest.raises(LocateError, match=match):
        layer_matched(**arguments)
