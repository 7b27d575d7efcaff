"""The figures keep their word too: captions are true, splits are balanced as said, the planting is where it is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import headlens as hl
from headlens.correct import MeanAblation
from headlens.errors import ModelError, UnknownNameError
from headlens.extraction import extract
from headlens.metrics import cramers_v
from headlens.testbed import card, images
from headlens.testbed.drawing import SIDE
from headlens.testbed.figures import FigureRates, figure_captions, figure_vocabulary, render_figures, sample_figures
from headlens.testbed.figures import world as facts
from headlens.testbed.figures.scenes import stereotyped
from headlens.testbed.models import tokenizer
from headlens.testbed.worlds import joint_vocabulary
from tools.testbed.figures_questions import AGE_PROMPTS, PAIRS, PRESENTATION_PROMPTS, SPURIOUS_PAIRS
from tools.testbed.recipes import RECIPES
from tools.testbed.train import train

EVERYTHING = FigureRates(*[1.0] * 7)


def test_scenes_keep_the_agreement_exactly_and_age_apart() -> None:
    figures = sample_figures(np.random.default_rng(3), 1600, 0.75)
    leaning = stereotyped(figures.label)
    assert np.bincount(figures.label).tolist() == [200] * 8
    leans = leaning >= 0
    assert 0 < leans.mean() < 1
    assert set(leaning[leans]) == {0, 1}, "the stereotype goes both ways"
    assert (figures.presentation == leaning)[leans].mean() == 0.75
    assert figures.presentation[~leans].mean() == 0.5
    for occupation in range(8):
        for presentation in (0, 1):
            cell = (figures.label == occupation) & (figures.presentation == presentation)
            assert figures.age[cell].mean() == 0.5


def test_cues_follow_what_they_are_cues_of() -> None:
    figures = sample_figures(np.random.default_rng(4), 4000, 0.5)
    feminine, old = figures.presentation == 0, figures.age == 1
    for cue in (figures.long_hair, figures.skirt, figures.bag):
        assert cue[feminine].mean() > 0.8 > 0.3 > cue[~feminine].mean()
        assert abs(cue[old].mean() - cue[~old].mean()) < 0.06
    assert not figures.beard[feminine].any()
    assert not (figures.cane[~old].any() or figures.stoop[~old].any() or (figures.hair[~old] == facts.GRAY).any())
    assert (figures.tool | (1 - figures.coat)).all(), "something tells the occupation"


def test_pictures_and_captions_follow_from_the_seed() -> None:
    drawn = []
    for _ in range(2):
        rng = np.random.default_rng(11)
        figures = sample_figures(rng, 13, 0.5)
        drawn.append((render_figures(rng, figures), figure_captions(rng, figures)))
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    assert drawn[0][1] == drawn[1][1]
    assert drawn[0][0].shape == (13, SIDE, SIDE, 3)
    assert drawn[0][0].std(axis=(1, 2, 3)).min() > 5, "a picture shows something"


def test_what_is_said_of_the_cues_is_drawn() -> None:
    """One cue is changed at a time: pixels change exactly where it is told to be drawn."""
    figures = sample_figures(np.random.default_rng(12), 16, 0.5)
    before = render_figures(np.random.default_rng(1), figures)
    for cue in ("skirt", "bag", "hair", "skin"):
        other = np.where(getattr(figures, cue) == 0, 1, 0)
        after = render_figures(np.random.default_rng(1), replace(figures, **{cue: other}))
        assert (before != after).any(axis=(1, 2, 3)).all(), cue
    for cue in ("hat", "tool", "cane", "beard", "coat"):
        gone = render_figures(np.random.default_rng(1), replace(figures, **{cue: np.zeros(16, dtype=int)}))
        changed = (before != gone).any(axis=(1, 2, 3))
        np.testing.assert_array_equal(changed, getattr(figures, cue) == 1, err_msg=cue)


def test_captions_are_true_and_stay_within_the_vocabulary() -> None:
    rng = np.random.default_rng(5)
    figures = sample_figures(rng, 800, 0.5)
    words = set(figure_vocabulary())
    texts = figure_captions(rng, figures, EVERYTHING) + figure_captions(rng, figures)
    for number, text in enumerate(texts):
        row, said = number % 800, set(text.split())
        assert said <= words, text
        for label, occupation in enumerate(facts.OCCUPATIONS):
            told = any(phrase in text for phrase in (occupation.name, *occupation.hat[:1], *occupation.tool[:1]))
            assert label == figures.label[row] or occupation.name not in text, text
            assert label == figures.label[row] or not told or occupation.hat[0] in ("a helmet",), text
        for table, value in (
            (facts.PRESENTATION_NOUNS, figures.presentation[row]),
            (facts.PRESENTATION_WORDS, figures.presentation[row]),
            (facts.AGE_WORDS, figures.age[row]),
        ):
            assert not said & set(table[1 - value]), text
        assert figures.cane[row] or not said & {"cane", "stick"}, text
        assert figures.beard[row] or "beard" not in said, text
        for place, scenery in enumerate(facts.SCENERIES):
            assert place == figures.place[row] or not any(text.endswith(phrase) for phrase in scenery.phrases), text
    longest = max(texts, key=lambda text: len(text.split()))
    tokenizer(("figures",), RECIPES["worlds-0"].size)(longest)


def test_every_word_is_really_used() -> None:
    rng = np.random.default_rng(6)
    texts = figure_captions(rng, sample_figures(rng, 3000, 0.5))
    assert {word for text in texts for word in text.split()} == set(figure_vocabulary())


def test_prompts_are_written_in_the_vocabulary() -> None:
    words = joint_vocabulary(("birds", "figures"))
    assert len(words) <= 350
    known = tokenizer(("birds", "figures"), RECIPES["worlds-0"].size)
    prompts = [text for values in (PRESENTATION_PROMPTS, AGE_PROMPTS) for texts in values.values() for text in texts]
    for text in [*prompts, *(text for pair in (*PAIRS, *SPURIOUS_PAIRS) for text in pair)]:
        assert known.encode(text)
    assert PRESENTATION_PROMPTS.keys() == set(facts.PRESENTATIONS)
    assert AGE_PROMPTS.keys() == set(facts.AGES)


def test_images_of_the_figures(tmp_path: Path) -> None:
    manifest = images(tmp_path / "a", n=96, seed=2, world="figures")
    assert list(manifest.columns) == ["path", "label", "presentation", "age", "split", "place", "id", "caption"]
    assert manifest["split"].value_counts().to_dict() == {"test": 64, "val": 32}
    test = manifest[manifest["split"] == "test"]
    assert (test.groupby(["label", "presentation", "age"]).size() == 2).all()
    again = images(tmp_path / "b", n=96, seed=2, world="figures")
    for path in manifest["path"]:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    assert manifest.equals(again)
    with pytest.raises(UnknownNameError, match="birds, figures"):
        images(tmp_path / "c", world="houses")


def test_cards_tell_of_one_world_at_a_time() -> None:
    keys = {"classes", "templates", "attribute", "planted_heads", "pairs", "spurious_pairs", "measured", "vocabulary"}
    figures, birds = card("testbed-figures"), card("testbed-worlds-0", "birds")
    assert keys | {"control"} <= figures.keys()
    assert keys <= birds.keys()
    assert figures["classes"] == [one.name for one in facts.OCCUPATIONS]
    assert birds["classes"] == ["landbird", "waterbird"]
    assert figures == card("testbed-worlds-0", "figures")
    assert card("testbed-birds-0") == card("testbed", "birds")
    assert not {tuple(h) for h in figures["planted_heads"]} & {tuple(h) for h in birds["planted_heads"]}
    with pytest.raises(ModelError, match="was trained on: birds"):
        card("testbed", "figures")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[hl.HookedCLIP, hl.HeadStore]:
    folder = tmp_path_factory.mktemp("figures")
    clip = hl.load("testbed-figures")
    return clip, extract(clip, images(folder, n=480, world="figures"), folder / "store.zarr")


def test_ablating_the_planted_heads_lowers_v_and_age_shows_no_bias(
    audited: tuple[hl.HookedCLIP, hl.HeadStore],
) -> None:
    (clip, store), told = audited, card("testbed-figures")
    reference, test = store.subset(split="val"), store.subset(split="test")
    classifier = hl.ZeroShotTask(told["classes"], told["templates"]).classifier(clip.encode_text)

    def judged(embedding: torch.Tensor) -> tuple[float, float, float]:
        names = [told["classes"][i] for i in (embedding @ classifier.T).argmax(-1).tolist()]
        right = sum(a == b for a, b in zip(names, test.manifest["label"], strict=True)) / len(names)
        presentation, age = (test.manifest[name].tolist() for name in ("presentation", "age"))
        return right, cramers_v(presentation, names), cramers_v(age, names, corrected=True)

    before = judged(test.embedding)
    heads = [hl.HeadId(*head) for head in told["planted_heads"]]
    after = judged(MeanAblation(heads).fit(reference).apply(test).embedding)
    # Three standard errors of a share of 320 images.
    assert before[0] == pytest.approx(told["measured"]["methods"]["zero-shot"]["average"], abs=0.084)
    assert before[0] > 0.7
    assert after[0] > before[0] - 0.03
    assert after[1] < 0.7 * before[1]
    assert before[2] < 0.12


def test_what_the_card_says_of_the_planting() -> None:
    measured = card("testbed-figures")["measured"]
    before, after = measured["methods"]["zero-shot"], measured["methods"]["ablation"]
    assert before["average"] > 0.75
    assert before["v"]["presentation"] > 0.2
    assert before["corrected_v"]["age"] < 0.05
    assert after["average"] > before["average"] - 0.01
    assert measured["random_ablation"]["sets"] > 20
    assert measured["random_ablation"]["beaten"] > 0.95


def test_training_on_both_worlds_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.testbed.train._SETTLING_PICTURES", 24)
    recipe = RECIPES["worlds-0"]
    assert recipe.figures is not None
    few = replace(recipe.figures, pictures=(32, 32))
    micro = replace(recipe, steps=(2, 1), settle=2, pictures=(24, 24), batch=(16, 16), figures=few)
    first, second = train(micro), train(micro)
    for (name, a), (_, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
