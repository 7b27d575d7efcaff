"""The small parts of an audit: splits, verdict, controls, remembered texts, the registry of methods."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from headlens.audit import RandomHeads, choose_splits, judge
from headlens.audit.casts import random_casts
from headlens.audit.methods import METHODS, Ingredients, build, register
from headlens.audit.texts import TextEmbeddings
from headlens.correct import Correction, MeanAblation
from headlens.errors import CorrectionError, ManifestError, ModelError
from headlens.heads import HeadId
from headlens.locate import Located

GROUPS = ["a/x"] * 11 + ["a/y"] * 7 + ["b/x"] * 5


def control(worst: list[float], observed: float, exhaustive: bool = False) -> RandomHeads:
    return RandomHeads(
        method="ltc",
        sets=tuple((HeadId(3, i),) for i in range(len(worst))),
        groups=("a/x", "b/x"),
        group_accuracy=np.stack([np.asarray(worst), np.ones(len(worst))], axis=1),
        average=np.full(len(worst), 0.9),
        observed=observed,
        baseline=0.2,
        exhaustive=exhaustive,
        seed=3,
    )


def test_named_splits_are_taken_as_they_are() -> None:
    manifest = pd.DataFrame({"split": ["train", "val", "test", "val", "test", "test"]})
    splits = choose_splits(manifest, ["g"] * 6)
    assert splits.reference.tolist() == [1, 3]
    assert splits.test.tolist() == [2, 4, 5]
    assert "'val'" in splits.note


@pytest.mark.parametrize(("names", "said"), [(("val", "dev"), "dev"), (("val", "val"), "both")])
def test_splits_that_cannot_be_had_are_refused(names: tuple[str, str], said: str) -> None:
    manifest = pd.DataFrame({"split": ["val", "test"]})
    with pytest.raises(ManifestError, match=said):
        choose_splits(manifest, ["g", "g"], *names)


def test_without_a_split_column_every_group_is_halved_by_the_seed() -> None:
    manifest = pd.DataFrame({"path": GROUPS})
    first, again, other = (choose_splits(manifest, GROUPS, seed=s) for s in (0, 0, 1))
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
    found = judge("ltc", n_spurious, 0.3, (low, 0.4), None if draws is None else control(draws, 0.5))
    assert found.supported is supported
    assert said in found.sentence
    assert found.sentence.startswith("Head-level correction is " + ("supported" if supported else "not supported"))


def test_a_control_counts_the_draws_that_do_as_well() -> None:
    one = control([0.1, 0.5, 0.6, 0.2], observed=0.5)
    assert one.comparison.p == pytest.approx(3 / 5)
    assert one.comparison.z == pytest.approx((0.5 - 0.35) / np.std([0.1, 0.5, 0.6, 0.2], ddof=1))
    record = one.to_record()
    assert record["worst_group"] == pytest.approx(0.35)
    assert record["gap"] == pytest.approx(0.9 - 0.35)
    assert record["groups"] == {"a/x": pytest.approx(0.35), "b/x": pytest.approx(1.0)}


def test_a_control_survives_json() -> None:
    import json

    one = control([0.1, 0.5, 0.6], observed=0.5, exhaustive=True)
    again = RandomHeads.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again.sets == one.sets
    assert again.exhaustive
    np.testing.assert_array_equal(again.worst_group, one.worst_group)


def test_texts_are_embedded_once_and_remembered(tmp_path: Path) -> None:
    asked: list[str] = []

    def encode(prompts: list[str]) -> Tensor:
        asked.extend(prompts)
        return torch.tensor([[float(len(p)), 1.0, 2.0] for p in prompts])

    texts = TextEmbeddings(encode)
    first = texts(["a", "bb", "a"])
    texts(["bb", "ccc"])
    assert asked == ["a", "bb", "ccc"]
    assert first[:, 0].tolist() == [1.0, 2.0, 1.0]

    prompts = texts.save(tmp_path / "texts.safetensors")
    later = TextEmbeddings(None)
    later.remember(tmp_path / "texts.safetensors", prompts)
    assert torch.equal(later(["ccc", "a"]), texts(["ccc", "a"]))
    with pytest.raises(ModelError, match="'dddd'"):
        later(["dddd"])


def ingredients(location: Located) -> Ingredients:
    codes = torch.zeros(11, dtype=torch.long)
    pairs, prompts = torch.randn(2, 2, 7), torch.randn(3, 7)
    return Ingredients(location, pairs, torch.randn(1, 2, 7), torch.randn(2, 7), prompts, codes, codes)


def test_a_method_registered_by_a_user_is_built_like_any_other() -> None:
    location = Located("published", (HeadId(1, 0),), (HeadId(1, 2),))
    known = ingredients(location)

    @register("mean of the salient heads")
    def mine(known: Ingredients) -> Correction:
        return MeanAblation(known.location.salient)

    try:
        assert isinstance(build("mean of the salient heads", known), MeanAblation)
    finally:
        del METHODS["mean of the salient heads"]
    with pytest.raises(CorrectionError, match="ltc"):
        build("mean of the salient heads", known)


def located(spurious: list[HeadId], salient: list[HeadId]) -> Ingredients:
    location = Located("published", tuple(spurious), tuple(salient))
    return ingredients(location)


def test_all_casts_are_taken_where_there_are_few() -> None:
    known = located([HeadId(1, 0)], [HeadId(1, 2), HeadId(1, 3)])
    casts, exhaustive = random_casts(known, ("spurious", "salient"), 2, 7, draws=100, seed=0)
    # Four heads of layer 1 are left: one of them is spurious, and two of the other three salient.
    assert exhaustive
    assert len(casts) == 4 * 3
    assert len({(cast["spurious"], tuple(sorted(cast["salient"]))) for cast in casts}) == 12
    fewer, exhaustive = random_casts(known, ("spurious", "salient"), 2, 7, draws=5, seed=0)
    assert (len(fewer), exhaustive) == (5, False)


def test_a_cast_keeps_the_layers_and_the_number_of_every_role_and_takes_no_located_head() -> None:
    known = located([HeadId(1, 0), HeadId(0, 4)], [HeadId(1, 2), HeadId(0, 3), HeadId(1, 5)])
    taken = {*known.location.spurious, *known.location.salient}
    casts, exhaustive = random_casts(known, ("spurious", "salient"), 2, 7, draws=40, seed=3)
    assert len(casts) == 40
    assert not exhaustive
    for cast in casts:
        assert [h.layer for h in cast["spurious"]] == [1, 0]
        assert [h.layer for h in cast["salient"]] == [1, 0, 1]
        heads = [*cast["spurious"], *cast["salient"]]
        assert len(set(heads)) == 5
        assert not set(heads) & taken
    again, _ = random_casts(known, ("spurious", "salient"), 2, 7, draws=40, seed=3)
    assert casts == again
    recast = known.recast(casts[0]).location
    assert (tuple(recast.spurious), tuple(recast.salient)) == (casts[0]["spurious"], casts[0]["salient"])


def test_a_control_of_one_role_leaves_the_located_heads_of_the_other_alone() -> None:
    known = located([HeadId(1, 0)], [HeadId(1, 2), HeadId(1, 3)])
    casts, exhaustive = random_casts(known, ("spurious",), 2, 7, draws=100, seed=0)
    assert exhaustive
    assert [cast["spurious"] for cast in casts] == [(HeadId(1, i),) for i in (1, 4, 5, 6)]


@pytest.mark.parametrize("spurious", [[], [HeadId(1, i) for i in range(4)]], ids=["none located", "too many located"])
def test_there_is_no_control_where_nothing_can_be_drawn(spurious: list[HeadId]) -> None:
    assert random_casts(located(spurious, []), ("spurious",), 2, 7, draws=9, seed=0) == ([], False)
