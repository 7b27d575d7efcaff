"""The small parts of an audit: splits, verdict, controls, remembered texts, the registry of methods."""

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import headlens as hl
from headlens.correct import Correction, MeanAblation
from headlens.errors import CorrectionError, HeadlensWarning, ManifestError, ModelError, UnknownNameError
from headlens.heads import HeadId
from headlens.metrics import Dependence, DependenceChange
from headlens.prompts import TextBank
from headlens.serialization import pack, unpack
from headlens.steps.controls import Cast, Draw, RandomHeads, ScoredImages, Statistics, random_head_control
from headlens.steps.data import choose_splits
from headlens.steps.methods import METHODS, Ingredients, method
from headlens.steps.texts import _BANKS, TextEmbeddings, bank_embeddings, cache_folder
from headlens.steps.verdicts import Condition, Judged, Measured, against_random, judge, signed_gap

GROUPS = ["a/x"] * 11 + ["a/y"] * 7 + ["b/x"] * 5


def statistics(worst: list[float] | float) -> Statistics:
    first = np.asarray(worst)
    return Statistics(
        np.stack([first, np.ones_like(first)], axis=-1), np.full_like(first, 0.9), *[np.asarray(1 - first)] * 2
    )


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


def measured(low: float = 0.2, **changes: object) -> Measured:
    """What a correction that meets every condition shows, but for the changes."""
    fields: dict[str, object] = {
        "gain": 0.3,
        "gain_interval": (low, 0.6 - low),
        "accuracy_low": 0.7,
        "chance": 0.5,
        "loss": -0.1,
        "dependence": Dependence(50.0, 2.0, 0.001, 0.3, 0.5, {}, 999, 0),
        "removed": DependenceChange(0.3, 0.1, 0.2, (0.1, 0.3), 0.6, (0.4, 0.8), 100, 0.95, 0),
    }
    return Measured(**fields | changes)  # type: ignore[arg-type]


NO_DEPENDENCE = Dependence(2.0, 2.0, 0.4, 0.0, 0.0, {}, 999, 0)
FEW_IMAGES = replace(NO_DEPENDENCE, detectable=0.16)
NOTHING_REMOVED = DependenceChange(0.3, 0.29, 0.01, (-0.01, 0.03), 0.03, (-0.1, 0.1), 100, 0.95, 0)

UNSEEN = DependenceChange(0.3, 0.05, 0.25, (-0.01, 0.5), 0.8, (-0.1, 1.6), 100, 0.95, 0)
ADDED = DependenceChange(0.3, 0.4, -0.1, (-0.9, 0.5), -0.3, (-3.0, 1.6), 100, 0.95, 0)


@pytest.mark.parametrize(
    ("n_spurious", "shown", "draws", "word", "said"),
    [
        (2, measured(), [0.1, 0.2, 0.3] * 11, "supported", "none of 33"),
        (0, measured(), [0.1] * 33, "not supported", "no spurious head is located"),
        (
            2,
            measured(0.04, gain_interval=(0.04, 0.045)),
            [0.1] * 33,
            "not supported",
            "not reliably more than 5 points",
        ),
        (2, measured(0.04), [0.1] * 33, "inconclusive", "more images of the smallest group"),
        (2, measured(gain=0.1, gain_interval=(0.04, 0.16)), [0.1] * 33, "not supported", "not reliably more"),
        (2, measured(), [0.9] * 33, "not supported", "33 of 33 random head sets of the same pattern do as well"),
        (2, measured(), [0.1] * 7, "inconclusive", "cannot give p below 0.125"),
        (2, measured(), [0.1] * 6 + [0.6], "not supported", "1 of 7"),
        (2, measured(), None, "inconclusive", "no random heads to compare with"),
        (2, measured(accuracy_low=0.5), [0.1] * 33, "not supported", "above chance agreement, 50.0 %"),
        (2, measured(loss=0.06), [0.1] * 33, "not supported", "falls by 6.0 points, more than 5"),
        (2, measured(dependence=NO_DEPENDENCE), [0.1] * 33, "not supported", "do not depend on the attribute"),
        (2, measured(dependence=FEW_IMAGES), [0.1] * 33, "inconclusive", "show only an effect √D above 0.40"),
        (2, measured(removed=NOTHING_REMOVED), [0.1] * 33, "not supported", "does not reliably fall"),
        (2, measured(removed=UNSEEN), [0.1] * 33, "inconclusive", "would not show even its full removal"),
        (
            2,
            measured(removed=ADDED),
            [0.1] * 33,
            "not supported",
            "does not reliably fall: D rises from 0.300 to 0.400",
        ),
        (
            2,
            measured(gain=0.04, gain_interval=(0.0, 0.045), loss=0.06),
            [0.9] * 33,
            "not supported",
            "; average accuracy falls",
        ),
        (2, measured(loss=0.06), [0.1] * 7, "not supported", "; undecided: none of 7"),
        (2, measured(dependence=None, removed=None), [0.1] * 33, "inconclusive", "nothing ties the gain to it"),
        (2, measured(inferred=True), [0.1] * 33, "inconclusive", "inferred the attribute's values itself"),
        (2, measured(inferred=True), [0.9] * 33, "not supported", "do as well"),
    ],
)
def test_the_verdict_follows_its_rule(
    n_spurious: int, shown: Measured, draws: list[float] | None, word: str, said: str
) -> None:
    heads = tuple(HeadId(3, i) for i in range(n_spurious))
    found = judge(Judged("ltc", True, n_spurious, heads), shown, None if draws is None else control(draws, 0.5))
    assert (found.word, found.supported) == (word, word == "supported")
    assert said in found.sentence
    assert f" is {word}: " in found.sentence
    assert found.sentence.startswith("Head-level correction by 'ltc'")
    assert found.heads == heads
    assert {"not met": "not supported", "open": "inconclusive"}.get(found.conditions[-1].outcome, word) in (
        word,
        "inconclusive",
    )
    assert len(found.table()) == len(found.conditions)


def test_pooled_layers_that_do_more_than_their_neighbours_leave_it_open() -> None:
    pooled = replace(control([0.1] * 33, 0.5), own_p={"worst_group": [0.03, 0.2, 0.3, 0.4, 0.5]})
    found = judge(Judged("ltc", True, 1, (HeadId(3, 0),)), measured(), pooled)
    assert found.word == "inconclusive"
    assert "20 % of the other sets of the located layers" in found.sentence


def test_the_smallest_gain_is_that_of_eighty_per_cent_power() -> None:
    found = judge(Judged("ltc", True, 1, (HeadId(3, 0),)), measured(), control([0.1] * 33, 0.5))
    assert found.detectable_gain == pytest.approx(0.05 + 0.1 / 1.96 * (1.96 + 0.8416), abs=1e-4)
    assert found.smallest_p == pytest.approx(1 / 34)
    assert "80 % power" not in found.sentence
    failed = judge(Judged("ltc", True, 1, (HeadId(3, 0),)), measured(loss=0.06), control([0.1] * 33, 0.5))
    assert failed.sentence.endswith(
        "The smallest effect that these images show with 80 % power is a gain of 19.3 points; these sets of heads can "
        "give p = 0.029 at the smallest."
    )
    assert all(isinstance(one, Condition) and one.outcome == "met" for one in found.conditions)


def test_who_is_worse_off_is_told_with_its_sign() -> None:
    found = replace(NO_DEPENDENCE, gap=0.05, gap_by_class={"0": 0.3, "1": -0.412})
    clause = signed_gap(found, ("cook", "nurse"), ("young", "old"))
    assert clause == "; accuracy on old minus young is -41.2 points in nurse, where it is largest"
    assert signed_gap(replace(found, gap=None), ("cook", "nurse"), ("a", "b", "c")) == ""


def test_a_method_without_heads_is_not_called_head_level() -> None:
    found = judge(Judged("roboshot", False, 0, ()), measured(gain_interval=(0.01, 0.02)), None)
    assert found.sentence.startswith("Correction by 'roboshot' is not supported")
    assert judge(Judged("roboshot", False, 0, ()), measured(), None).supported


def test_a_p_just_above_the_level_does_not_blame_the_smallest_one() -> None:
    two_of_100 = control([0.6] * 2 + [0.1] * 98, 0.5)
    found = against_random(two_of_100, "worst_group", 0.025)
    assert found.outcome == "open" and "so few sets leave it open; more sets would settle it" in found.text
    few = control([0.1] * 99, 0.5)
    assert "so few sets cannot give p below 0.010" in against_random(few, "worst_group", 0.005).text


def test_heads_that_do_worse_than_random_ones_are_said_to() -> None:
    text = against_random(control([0.6] * 30, 0.5), "worst_group", 0.05).text
    assert "the located ones are worse than their mean by 10 points (95 % interval 10 to 10)" in text


def test_heads_that_do_as_random_ones_are_neither_better_nor_worse() -> None:
    text = against_random(control([0.5] * 30, 0.5), "worst_group", 0.05).text
    assert "the located ones are as good as their mean" in text


def test_a_gain_that_no_correction_can_have_is_not_called_the_smallest() -> None:
    wide = measured(gain=0.0, gain_interval=(-0.8, 0.8))
    found = judge(Judged("ltc", True, 1, (HeadId(3, 0),)), wide, control([0.1] * 33, 0.5))
    assert found.detectable_gain > 1
    assert "No gain, however large, would be shown by these images with 80 % power" in found.sentence


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


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_random_sets_that_change_nothing_tie_with_the_observed(seed: int) -> None:
    """One statistic by one function: identical predictions are ties, whatever their rounding, so that p is 1."""
    generator = np.random.default_rng(seed)
    labels, values = generator.integers(0, 3, 41), generator.integers(0, 2, 41)
    classes = generator.integers(0, 3, 41)
    scored = ScoredImages(labels, values, np.array([f"{c}/{v}" for c, v in zip(labels, values, strict=True)]))
    located: Cast = {"spurious": (HeadId(1, 0),)}
    found = random_head_control(
        "any", located, lambda _: classes, scored, Draw(2, 7, 9, 0), before=classes, after=classes
    )
    assert found is not None
    assert (len(found.sets), found.exhaustive) == (9, False)  # of the 13 other heads of both layers
    for measure in ("worst_group", "cramers_v", "dependence"):
        assert found.comparison(measure).p == 1.0


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


@pytest.mark.parametrize(("spurious", "n_random_sets"), [((), 9), ((HeadId(1, 0),), 0)])
def test_there_is_no_control_where_nothing_can_be_drawn(spurious: tuple[HeadId, ...], n_random_sets: int) -> None:
    classes = np.zeros(3, dtype=int)
    scored = ScoredImages(classes, np.array([0, 1, 0]), np.array(["0/0", "0/1", "0/0"]))
    draw = Draw(2, 7, n_random_sets, 0)
    located: Cast = {"spurious": spurious}
    found = random_head_control("any", located, lambda _: classes, scored, draw, before=classes, after=classes)
    assert found is None


def test_a_control_of_one_role_keeps_the_located_heads_of_the_other() -> None:
    seen: list[Cast] = []
    classes, scored = (
        np.zeros(3, dtype=int),
        ScoredImages(np.zeros(3, int), np.array([0, 1, 0]), np.array(["x", "y", "x"])),
    )

    def predict(cast: Cast) -> np.ndarray:
        seen.append(cast)
        return classes

    located: Cast = {"spurious": (HeadId(1, 0),), "salient": (HeadId(1, 2), HeadId(1, 3))}
    draw = Draw(2, 97, 40, 0)
    random_head_control("ltc", located, predict, scored, draw, before=classes, after=classes, vary=("spurious",))
    assert len(seen) == 40
    assert all(cast["salient"] == located["salient"] and cast["spurious"] != located["spurious"] for cast in seen)
    assert not {head for cast in seen for head in cast["spurious"]} & set(located["salient"])


class Bank:
    """The testbed's model, a bank of texts in its words, and how many texts reach the model."""

    def __init__(self) -> None:
        self.clip = hl.load("testbed")
        self.bank = TextBank(("a red bird", "a blue bird", "a bird on water", "a bird on land"), ("x",) * 4)
        self.asked: list[int] = []
        encode = self.clip.encode_text

        def counting(texts: list[str]) -> torch.Tensor:
            self.asked.append(len(texts))
            return encode(texts)

        self.clip.encode_text = counting

    def embedded(self, texts: TextEmbeddings | None = None) -> torch.Tensor:
        return bank_embeddings(self.bank, TextEmbeddings(None) if texts is None else texts, self.clip)


def in_a_new_process() -> None:
    _BANKS.clear()


def test_a_bank_is_embedded_once_a_text_tower() -> None:
    here, again = Bank(), TextEmbeddings(None)
    made = here.embedded()
    assert here.embedded(again) is made and here.asked == [4]
    assert again.known()[0] == list(here.bank.texts)  # so that a saved audit has them
    next(here.clip.text.parameters()).data += 0.01  # which torch does not count
    assert not torch.equal(here.embedded(), made) and here.asked == [4, 4]
    remembered = TextEmbeddings(None)
    remembered.remember(here.bank.texts, made)
    assert torch.equal(bank_embeddings(here.bank, remembered, None), made)


def test_a_bank_is_kept_in_the_cache_folder_for_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADLENS_CACHE", str(tmp_path / "cache"))
    made = Bank().embedded()
    (kept,) = (tmp_path / "cache" / "texts").iterdir()
    in_a_new_process()
    later = Bank()
    assert torch.equal(later.embedded(), made) and later.asked == [2]  # the two that it is checked by

    content = bytearray(kept.read_bytes())
    content[-7] ^= 1
    for damage in (bytes(content), content[:100], b""):
        in_a_new_process()
        kept.write_bytes(damage)
        with pytest.warns(HeadlensWarning, match=re.escape(str(kept)) + " cannot be used .*embedded again"):
            assert torch.equal(Bank().embedded(), made)
        in_a_new_process()
        assert torch.equal(Bank().embedded(), made)  # whole again, and without a warning


@pytest.mark.parametrize("change", ["weights", "texts", "code", "precision"])
def test_kept_embeddings_are_never_those_of_another_tower_or_other_texts(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADLENS_CACHE", str(tmp_path))
    Bank().embedded()
    other = Bank()
    if change == "weights":
        next(other.clip.text.parameters()).data += 0.01
    elif change == "texts":
        other.bank = TextBank(tuple(reversed(other.bank.texts)), ("x",) * 4)
    elif change == "precision":
        other.clip.double()
    else:  # neither weights nor modules show it
        encode = other.clip.encode_text
        other.clip.encode_text = lambda texts: encode(texts).roll(1, dims=-1)
    expected = other.clip.encode_text(list(other.bank.texts))
    with pytest.warns(HeadlensWarning, match="gives other embeddings") if change == "code" else nullcontext():
        assert torch.equal(other.embedded(), expected)


def test_where_embeddings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() is None  # turned off in these tests, by HEADLENS_CACHE=0
    monkeypatch.delenv("HEADLENS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "headlens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "headlens"
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.warns(HeadlensWarning, match="cannot be kept in .*HEADLENS_CACHE"):
        Bank().embedded()
