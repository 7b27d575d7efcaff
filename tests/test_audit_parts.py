"""The small parts of an audit: splits, verdict, controls, remembered texts, the registry of methods."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headlens.correct import Correction, MeanAblation
from headlens.errors import CorrectionError, ManifestError, ModelError, UnknownNameError
from headlens.heads import HeadId
from headlens.serialization import pack, unpack
from headlens.steps.controls import Cast, Draw, RandomHeads, Scored, Statistics, random_casts, random_head_control
from headlens.steps.data import choose_splits
from headlens.steps.methods import METHODS, Ingredients, method
from headlens.steps.texts import TextEmbeddings
from headlens.steps.verdicts import Judged, judge

GROUPS = ["a/x"] * 11 + ["a/y"] * 7 + ["b/x"] * 5


def statistics(worst: list[float] | float) -> Statistics:
    first = np.asarray(worst)
    return Statistics(np.stack([first, np.ones_like(first)], axis=-1), np.full_like(first, 0.9), np.asarray(1 - first))


def control(worst: list[float], observed: float, exhaustive: bool = False) -> RandomHeads:
    return RandomHeads(
        method="ltc",
        sets=tuple((HeadId(3, i),) for i in range(len(worst))),
        groups=("a/x", "b/x"),
        drawn=statistics(worst),
        observed=statistics(observed),
        baseline=statistics(0.2),
        exhaustive=exhaustive,
        seed=3,
    )


def split(manifest: pd.DataFrame, groups: list[str], *names: str, seed: int = 0):
    values = np.array([group.endswith("y") for group in groups], dtype=int)
    return choose_splits(manifest, np.asarray(groups), values, *names, seed=seed)


def test_named_splits_are_taken_as_they_are() -> None:
    manifest = pd.DataFrame({"split": ["train", "val", "test", "val", "test", "test"]})
    splits = split(manifest, ["g/x", "g/x", "g/x", "g/y", "g/y", "g/x"])
    assert splits.reference.tolist() == [1, 3]
    assert splits.test.tolist() == [2, 4, 5]
    assert "'val'" in splits.note


@pytest.mark.parametrize(("names", "said"), [(("val", "dev"), "dev"), (("val", "val"), "both")])
def test_splits_that_cannot_be_had_are_refused(names: tuple[str, str], said: str) -> None:
    manifest = pd.DataFrame({"split": ["val", "test"]})
    with pytest.raises(ManifestError, match=said):
        split(manifest, ["g/x", "g/y"], *names)


def test_without_a_split_column_every_group_is_halved_by_the_seed() -> None:
    manifest = pd.DataFrame({"path": GROUPS})
    first, again, other = (split(manifest, GROUPS, seed=s) for s in (0, 0, 1))
    assert sorted([*first.reference, *first.test]) == list(range(len(GROUPS)))
    assert first.reference.tolist() == again.reference.tolist() != other.reference.tolist()
    in_reference = pd.Series([GROUPS[i] for i in first.reference]).value_counts()
    assert in_reference.to_dict() == {"a/x": 5, "a/y": 3, "b/x": 2}
    assert "no splits" in first.note


@pytest.mark.parametrize(
    ("n_spurious", "low", "draws", "supported", "said"),
    [
        (2, 0.20, [0.1, 0.2, 0.3] * 11, True, "is supported"),
        (0, 0.20, [0.1] * 33, False, "no head stands out"),
        (2, 0.04, [0.1] * 33, False, "not reliably more than 5 points"),
        (2, 0.20, [0.9] * 33, False, "random heads of the same layers do as well"),
        (2, 0.20, [0.1] * 7, False, "7 layer-matched sets are too few"),
        (2, 0.20, [0.1] * 6 + [0.6], False, "do as well (p = 0.250)"),
        (2, 0.20, None, False, "no layer-matched random heads"),
    ],
)
def test_the_verdict_follows_its_rule(
    n_spurious: int, low: float, draws: list[float] | None, supported: bool, said: str
) -> None:
    heads = tuple(HeadId(3, i) for i in range(n_spurious))
    judged = Judged("ltc", True, n_spurious, heads)
    found = judge(judged, 0.3, (low, 0.4), None if draws is None else control(draws, 0.5))
    assert found.supported is supported
    assert said in found.sentence
    assert f" is {'supported' if supported else 'not supported'}: " in found.sentence
    assert found.sentence.startswith("Head-level correction by 'ltc'")
    assert found.heads == heads


def test_a_method_without_heads_is_not_called_head_level() -> None:
    found = judge(Judged("roboshot", False, 0, ()), 0.3, (0.01, 0.4), None)
    assert found.sentence.startswith("Correction by 'roboshot' is not supported")
    assert judge(Judged("roboshot", False, 0, ()), 0.3, (0.2, 0.4), None).supported


def test_a_control_counts_the_draws_that_do_as_well() -> None:
    one = control([0.1, 0.5, 0.6, 0.2], observed=0.5)
    assert one.comparison().p == pytest.approx(3 / 5)
    assert one.comparison().z == pytest.approx((0.5 - 0.35) / np.std([0.1, 0.5, 0.6, 0.2], ddof=1))
    record = one.to_record()
    assert record["worst_group"] == pytest.approx(0.35)
    assert record["gap"] == pytest.approx(0.9 - 0.35)
    assert record["groups"] == {"a/x": pytest.approx(0.35), "b/x": pytest.approx(1.0)}


def test_a_control_survives_a_file() -> None:
    one, arrays = control([0.1, 0.5, 0.6], observed=0.5, exhaustive=True), {}
    again = unpack(pack(one, RandomHeads, arrays), RandomHeads, arrays)
    assert again.sets == one.sets
    assert again.exhaustive
    np.testing.assert_array_equal(again.drawn.worst_group, one.drawn.worst_group)
    assert again.comparison() == one.comparison()


@given(st.integers(0, 10_000))
def test_random_sets_that_change_nothing_tie_with_the_observed(seed: int) -> None:
    """One statistic by one function: identical predictions are ties, whatever their rounding, so that p is 1."""
    generator = np.random.default_rng(seed)
    labels, values = generator.integers(0, 3, 41), generator.integers(0, 2, 41)
    classes = generator.integers(0, 3, 41)
    scored = Scored(labels, values, np.array([f"{c}/{v}" for c, v in zip(labels, values, strict=True)]), 3)
    located: Cast = {"spurious": (HeadId(1, 0),)}
    found = random_head_control(
        "any", located, lambda _: classes, scored, Draw(2, 7, 9, 0), before=classes, after=classes
    )
    assert found is not None
    assert (len(found.sets), found.exhaustive) == (6, True)
    for measure in ("worst_group", "cramers_v"):
        assert found.comparison(measure).p == 1.0


@pytest.mark.parametrize(("n_random_sets", "exhaustive"), [(5, False), (6, True), (7, True)])
def test_all_sets_are_exhaustive_also_where_just_as_many_are_wanted(n_random_sets: int, exhaustive: bool) -> None:
    casts, every = random_casts({"spurious": (HeadId(1, 0),)}, Draw(2, 7, n_random_sets, 0))
    assert (len(casts), every) == (min(n_random_sets, 6), exhaustive)


def test_texts_are_embedded_once_and_remembered() -> None:
    asked: list[str] = []

    def encode(prompts: list[str]) -> Tensor:
        asked.extend(prompts)
        return torch.tensor([[float(len(p)), 1.0, 2.0] for p in prompts])

    texts = TextEmbeddings(encode)
    first = texts(["a", "bb", "a"])
    texts(["bb", "ccc"])
    assert asked == ["a", "bb", "ccc"]
    assert first[:, 0].tolist() == [1.0, 2.0, 1.0]

    later = TextEmbeddings(None)
    later.remember(*texts.known())
    assert torch.equal(later(["ccc", "a"]), texts(["ccc", "a"]))
    with pytest.raises(ModelError, match="'dddd'"):
        later(["dddd"])


def ingredients() -> Ingredients:
    codes = torch.zeros(11, dtype=torch.long)
    pairs, prompts = torch.randn(2, 2, 7), torch.randn(3, 7)
    texts = (pairs, torch.randn(1, 2, 7), torch.randn(5, 2, 7), torch.randn(2, 7), prompts)
    return Ingredients((HeadId(1, 0),), (HeadId(1, 2),), *texts, codes, codes)


def test_a_method_registered_by_a_user_is_built_like_any_other() -> None:
    @method("mean of the salient heads", roles=("salient",))
    def mine(known: Ingredients) -> Correction:
        return MeanAblation(known.salient)

    try:
        assert METHODS["mean of the salient heads"].build(ingredients()).heads == ((1, 2),)
    finally:
        METHODS.remove("mean of the salient heads")
    with pytest.raises(UnknownNameError, match="ltc"):
        METHODS["mean of the salient heads"]


def test_a_method_gets_the_labels_that_it_declares_and_no_others() -> None:
    assert METHODS["erm probe"].build(ingredients()) is not None

    @method("undeclared", roles=())
    def undeclared(known: Ingredients) -> Correction:
        return MeanAblation([(int(known.labels[0]), 0)])

    try:
        with pytest.raises(CorrectionError, match="without having declared it"):
            METHODS["undeclared"].build(ingredients())
    finally:
        METHODS.remove("undeclared")


def located(spurious: list[HeadId], salient: list[HeadId]) -> Cast:
    return {"spurious": tuple(spurious), "salient": tuple(salient)}


def test_all_casts_are_taken_where_there_are_few() -> None:
    known = located([HeadId(1, 0)], [HeadId(1, 2), HeadId(1, 3)])
    casts, exhaustive = random_casts(known, Draw(2, 7, 100, 0))
    # Four heads of layer 1 are left: one of them is spurious, and two of the other three salient.
    assert exhaustive
    assert len(casts) == 4 * 3
    assert len({(cast["spurious"], tuple(sorted(cast["salient"]))) for cast in casts}) == 12
    fewer, exhaustive = random_casts(known, Draw(2, 7, 5, 0))
    assert (len(fewer), exhaustive) == (5, False)


def test_a_cast_keeps_the_layers_and_the_number_of_every_role_and_takes_no_located_head() -> None:
    known = located([HeadId(1, 0), HeadId(0, 4)], [HeadId(1, 2), HeadId(0, 3), HeadId(1, 5)])
    taken = {head for heads in known.values() for head in heads}
    casts, exhaustive = random_casts(known, Draw(2, 7, 40, 3))
    assert len(casts) == 40
    assert not exhaustive
    for cast in casts:
        assert [h.layer for h in cast["spurious"]] == [1, 0]
        assert [h.layer for h in cast["salient"]] == [1, 0, 1]
        heads = [*cast["spurious"], *cast["salient"]]
        assert len(set(heads)) == 5
        assert not set(heads) & taken
    again, _ = random_casts(known, Draw(2, 7, 40, 3))
    assert casts == again
    recast = ingredients().recast(casts[0])
    assert (recast.spurious, recast.salient) == (casts[0]["spurious"], casts[0]["salient"])


def test_a_control_of_one_role_leaves_the_located_heads_of_the_other_alone() -> None:
    known = located([HeadId(1, 0)], [HeadId(1, 2), HeadId(1, 3)])
    one = {"spurious": known["spurious"]}
    casts, exhaustive = random_casts(one, Draw(2, 7, 100, 0), known["salient"])
    assert exhaustive
    assert [cast["spurious"] for cast in casts] == [(HeadId(1, i),) for i in (1, 4, 5, 6)]


@pytest.mark.parametrize("spurious", [[], [HeadId(1, i) for i in range(4)]], ids=["none located", "too many located"])
def test_there_is_no_control_where_nothing_can_be_drawn(spurious: list[HeadId]) -> None:
    assert random_casts({"spurious": tuple(spurious)}, Draw(2, 7, 9, 0)) == ([], False)
