"""Searches over head sets: every claim of 'best' against brute force, a planted pair, and every refusal."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.correct import MeanAblation
from headlens.errors import LocateError, UnknownNameError
from headlens.heads import HeadId, HeadScores
from headlens.locate import OBJECTIVES, HeadEffects, Objective, best_set, greedy_sweep, search, single_head_sweep
from headlens.metrics import average_accuracy, cramers_v, group_names, v_of_tables, worst_group

IMAGES, LAYERS, HEADS, CLASSES, VALUES = 61, 2, 5, 3, 2


def world(seed=0, images=IMAGES, layers=LAYERS, heads=HEADS, classes=CLASSES, values=VALUES, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    effects = HeadEffects.of_centred(
        torch.randn(images, classes, **draw), scale * torch.randn(images, layers, heads, classes, **draw)
    )
    labels = torch.randint(classes, (images,), generator=generator)
    attribute = torch.arange(images) % values
    return effects, labels, attribute


def planted():
    """Heads 0.1 and 1.3 write the attribute: each alone hides behind the other, both together free the classes."""
    generator = torch.Generator().manual_seed(3)
    labels, values = torch.arange(240) // 2 % 2, torch.arange(240) % 2
    sign = torch.nn.functional.one_hot(labels, 2).double() * 2 - 1
    bias = torch.nn.functional.one_hot(values, 2).double() * 2 - 1
    centred = 0.01 * torch.randn(240, 2, 5, 2, generator=generator, dtype=torch.float64)
    centred[:, 0, 1] += 2 * bias
    centred[:, 1, 3] += 2 * bias
    return HeadEffects.of_centred(sign + centred.sum((1, 2)), centred), labels, values


def measured(effects, name, labels, values, heads):
    """The objective of one set, written down a second time."""
    predicted = effects.predictions(heads)
    right = (predicted == labels).double()
    if name == "average":
        return float(right.mean())
    if name == "worst_group":
        groups = [(labels == c) & (values == v) for c in range(CLASSES) for v in range(VALUES)]
        return min(float(right[group].mean()) for group in groups if group.any())
    weights = np.ones(len(labels))
    if name == "balanced_v":
        for c in labels.unique():
            held = values[labels == c].unique()
            for v in held:
                cell = (labels == c) & (values == v)
                weights[cell] = int((labels == c).sum()) / len(held) / int(cell.sum())
    table = np.zeros((VALUES, CLASSES))
    np.add.at(table, (values.numpy(), predicted.numpy()), weights)
    table = table[:, table.any(0)]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    smaller = min(table.shape) - 1
    return float((((table - expected) ** 2 / expected).sum() / table.sum() / smaller) ** 0.5) if smaller else 0.0


def by_the_book(effects, name, labels, values, heads):
    predicted = effects.predictions(heads)
    if name == "cramers_v":
        return cramers_v(values, predicted)
    if name == "average":
        return average_accuracy(labels, predicted, groups=values)
    return worst_group(labels, predicted, groups=group_names(labels, values))


# ---- objectives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cramers_v", "worst_group", "average"])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**20), values=st.integers(2, 3))
def test_objectives_equal_the_measures(name, seed, values):
    effects, labels, attribute = world(seed, values=values)
    sets = [(), *combinations(effects.heads(), 1)][:3]
    predictions = torch.stack([effects.predictions(heads) for heads in sets], dim=1)
    scores = Objective(name, labels, attribute).score(predictions)
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx([by_the_book(effects, name, labels, attribute, h) for h in sets], abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), times=st.integers(2, 5))
def test_balanced_v_does_not_see_how_many_images_a_group_has(seed, times):
    effects, labels, values = world(seed)
    cell = (labels == 1) & (values == 0)
    again = torch.cat([torch.arange(IMAGES), cell.nonzero().flatten().repeat(times - 1)])
    predictions = effects.predictions()
    # Three images of each group: V and balanced V agree there.
    even = torch.arange(18) % 6
    few = [Objective(name, even // 2, even % 2).score(predictions[:18, None]) for name in ("cramers_v", "balanced_v")]
    assert float(few[0]) == pytest.approx(float(few[1]), abs=1e-12)
    if not cell.any():
        return
    more = Objective("balanced_v", labels[again], values[again]).score(predictions[again][:, None])
    # How large a class is still counts; only within it do its groups count alike.
    growth = float((labels[again] == 1).sum()) / float((labels == 1).sum())
    weights = Objective("balanced_v", labels, values)._weights * torch.where(labels == 1, growth, 1.0).double()
    table = np.zeros((VALUES, CLASSES))
    np.add.at(table, (values.numpy(), predictions.numpy()), weights.numpy())
    assert float(more) == pytest.approx(float(v_of_tables(table)), abs=1e-6)


def test_right_predictions_are_no_bias_to_balanced_v():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (400,), generator=generator)
    values = (torch.rand(400, generator=generator) < torch.tensor([0.1, 0.5, 0.9])[labels]).long()
    plain, balanced = (Objective(name, labels, values).score(labels[:, None]) for name in ("cramers_v", "balanced_v"))
    assert float(plain) > 0.5 and float(balanced) == pytest.approx(0, abs=1e-6)


def test_better_is_above_zero():
    _, labels, values = world()
    score = torch.tensor([0.2, 0.6], dtype=torch.float64)
    assert Objective("cramers_v", labels, values).improvement(score, 0.5).tolist() == pytest.approx([0.3, -0.1])
    assert Objective("average", labels, values).improvement(score, 0.5).tolist() == pytest.approx([-0.3, 0.1])
    assert "cramers_v" in repr(Objective("cramers_v", labels, values))


# ---- the single-head sweep ------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), name=st.sampled_from(OBJECTIVES), numbers=st.sampled_from([1, 400, 16_000_000]))
def test_a_sweep_measures_every_head(seed, name, numbers):
    effects, labels, values = world(seed)
    before = search._NUMBERS
    search._NUMBERS = numbers  # blocks of one head, of two, and all at once
    try:
        found = single_head_sweep(effects, Objective(name, labels, values))
    finally:
        search._NUMBERS = before
    for head in effects.heads():
        assert float(found.values[head]) == pytest.approx(measured(effects, name, labels, values, [head]), abs=1e-12)
    assert found.baseline == pytest.approx(measured(effects, name, labels, values, []), abs=1e-12)
    gains = [float(found.improvement[head]) for head in found.spurious]
    assert gains == sorted(gains, reverse=True)
    assert set(found.spurious) == {head for head in effects.heads() if float(found.improvement[head]) > 0.01}
    for count in range(1, len(found.spurious) + 1):
        together = measured(effects, name, labels, values, found.spurious[:count])
        assert found.path[count - 1] == pytest.approx(together, abs=1e-12)


def test_minimum_is_strict_and_count_cuts():
    effects, labels, values = planted()
    objective = Objective("worst_group", labels, values)
    first = single_head_sweep(effects, objective, minimum=-2.0)
    assert len(first.spurious) == 10
    top = float(first.improvement.max())
    assert single_head_sweep(effects, objective, minimum=top).spurious == ()
    assert single_head_sweep(effects, objective, minimum=-2.0, count=3).spurious == first.spurious[:3]


def test_result_shows_itself_and_serves_a_correction():
    effects, labels, values = planted()
    found = greedy_sweep(effects, Objective("cramers_v", labels, values), 3, minimum=-0.5)
    assert isinstance(found.scores(), HeadScores) and found.scores().selection == tuple(found.spurious)
    assert found.scores().threshold is None
    assert single_head_sweep(effects, Objective("average", labels, values)).scores().threshold == 0.01
    table = found.table()
    assert list(table.columns) == ["head", "alone", "improvement", "chosen", "together"] and len(table) == 10
    assert table["improvement"].is_monotonic_decreasing
    rows = table.set_index("head")
    for place, head in enumerate(found.spurious, 1):
        assert rows.loc[str(head), "chosen"] == place and rows.loc[str(head), "together"] == found.path[place - 1]
    assert int(rows["chosen"].gt(0).sum()) == len(found.spurious) == int(rows["together"].notna().sum())
    assert str(found.spurious[0]) in found._repr_html_()
    assert found.salient == () and tuple(MeanAblation(found.spurious).heads) == found.spurious


# ---- greedy ---------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**20), name=st.sampled_from(OBJECTIVES))
def test_greedy_takes_the_best_step_each_time(seed, name):
    effects, labels, values = world(seed)
    found = greedy_sweep(effects, Objective(name, labels, values), 4)
    sign = -1 if name.endswith("_v") else 1
    score, chosen = measured(effects, name, labels, values, []), []
    for head, after in zip(found.spurious, found.path, strict=True):
        every = [
            sign * measured(effects, name, labels, values, [*chosen, other])
            for other in effects.heads()
            if other not in chosen
        ]
        assert sign * after == pytest.approx(max(every), abs=1e-12) and sign * after > sign * score
        score, chosen = after, [*chosen, head]
    if len(chosen) < 4:
        left = [head for head in effects.heads() if head not in chosen]
        assert all(
            sign * measured(effects, name, labels, values, [*chosen, head]) <= sign * score + 1e-12 for head in left
        )
    assert found.best == score


def test_greedy_may_find_nothing():
    effects, labels, values = world(5, scale=0.0)
    found = greedy_sweep(effects, Objective("average", labels, values), 3)
    assert found.spurious == () and found.path == () and found.best == found.baseline
    assert not found.improvement.any()


# ---- the best set ---------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), name=st.sampled_from(OBJECTIVES), size=st.integers(1, 3))
def test_exhaustive_search_equals_brute_force(seed, name, size):
    effects, labels, values = world(seed)
    found = best_set(effects, Objective(name, labels, values), size)
    sign = -1 if name.endswith("_v") else 1
    every = [sign * measured(effects, name, labels, values, heads) for heads in combinations(effects.heads(), size)]
    assert sign * found.best == pytest.approx(max(every), abs=1e-12)
    assert found.best == pytest.approx(measured(effects, name, labels, values, found.spurious), abs=1e-12)
    assert len(found.spurious) == size and f"all {len(every)} sets" in found.how


def test_a_pair_that_only_matters_together():
    effects, labels, values = planted()
    objective = Objective("worst_group", labels, values)
    assert single_head_sweep(effects, objective).spurious == ()
    found = best_set(effects, objective, 2)
    assert set(found.spurious) == {HeadId(0, 1), HeadId(1, 3)}
    assert (found.baseline, found.best) == (0.0, 1.0)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_local_search_is_never_worse_than_greedy_nor_better_than_the_best(seed):
    effects, labels, values = world(seed)
    objective = Objective("cramers_v", labels, values)
    best = best_set(effects, objective, 3)
    local = best_set(effects, objective, 3, limit=1, restarts=2)
    greedy = greedy_sweep(effects, objective, 3, minimum=-2)
    assert best.best - 1e-12 <= local.best <= greedy.best + 1e-12
    assert "exhaustive" in best.how and "2 seeded restarts" in local.how and "120 sets" in local.how
    assert len(set(local.spurious)) == 3


def test_local_search_finds_the_planted_pair_and_follows_its_seed():
    effects, labels, values = planted()
    objective = Objective("worst_group", labels, values)
    one, same = (best_set(effects, objective, 2, limit=0, seed=7) for _ in range(2))
    assert set(one.spurious) == {HeadId(0, 1), HeadId(1, 3)}
    assert one.spurious == same.spurious and one.path == same.path


@pytest.mark.parametrize("limit", [0, 10])
def test_all_heads_are_one_set(limit):
    effects, labels, values = world(1)
    found = best_set(effects, Objective("average", labels, values), LAYERS * HEADS, limit=limit, restarts=1)
    assert sorted(found.spurious) == effects.heads()


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": torch.tensor([0, -1, 1])}, "Index -1 is no class"),
        ({"values": torch.tensor([1, 1, 1])}, "All images have value 1"),
        ({"labels": torch.tensor([], dtype=torch.long), "values": torch.tensor([], dtype=torch.long)}, "0 classes"),
    ],
)
def test_objectives_that_are_refused(change, match):
    options = {"name": "average", "labels": torch.tensor([0, 1, 1]), "values": torch.tensor([0, 1, 0])} | change
    with pytest.raises(LocateError, match=match) as caught:
        Objective(**options)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("work", "match"),
    [
        (lambda e, o: single_head_sweep(e, o, count=0), "0 heads are none"),
        (lambda e, o: greedy_sweep(e, o, 0), "from 1 to the tower's 10"),
        (lambda e, o: greedy_sweep(e, o, 11), "from 1 to the tower's 10"),
        (lambda e, o: best_set(e, o, 0), "from 1 to the tower's 10"),
        (lambda e, o: best_set(e, o, 2, restarts=-1), "-1 restarts"),
    ],
)
def test_searches_that_are_refused(work, match):
    effects, labels, values = world()
    with pytest.raises(LocateError, match=match):
        work(effects, Objective("average", labels, values))


def test_other_images_are_refused():
    effects, labels, values = world()
    objective = Objective("average", labels[:-1], values[:-1])
    for work in (single_head_sweep, lambda e, o: greedy_sweep(e, o, 2), lambda e, o: best_set(e, o, 2)):
        with pytest.raises(LocateError, match="about 60 images, the effects about 61"):
            work(effects, objective)
    with pytest.raises(LocateError, match="predictions of 61 images"):
        objective.score(effects.predictions()[:, None])


@pytest.mark.usefixtures("without_shape_checks")
def test_what_the_types_would_catch_before():
    with pytest.raises(UnknownNameError, match="no objective 'v'"):
        Objective("v", torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(LocateError, match="3 classes and 2 values"):
        Objective("average", torch.tensor([0, 1, 1]), torch.tensor([0, 1]))
