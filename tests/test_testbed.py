"""The testbed keeps its word: what is drawn is what is said, and what the cards say is what the weights do."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import headlens as hl
from headlens.errors import ManifestError, ModelError, OutputError, VocabularyError
from headlens.testbed import MODELS, card, images, load_open_clip, vocabulary, worlds_of
from headlens.testbed.birds import captions, render, sample_scenes
from headlens.testbed.birds.world import BACKGROUNDS, CLASSES, PLACES, SPECIES, WEATHER_PHRASES
from headlens.testbed.drawing import SIDE
from headlens.testbed.models import Size, build, normalise, preprocess, tokenizer
from headlens.testbed.worlds import WORLDS
from tools.testbed.model_card import model_card
from tools.testbed.planting import Planting, Writes, between_group_share, centre_heads
from tools.testbed.recipes import RECIPES
from tools.testbed.train import train

NAMES = [f"testbed-{name}" for name in MODELS]
PLANTED = [f"testbed-{name}" for name, recipe in RECIPES.items() if recipe.planted and recipe.figures is None]
WORDS = "66bae548ed74be54"  # of the models trained on birds alone


def test_scenes_keep_the_agreement_exactly_and_everything_else_apart() -> None:
    scenes = sample_scenes(np.random.default_rng(3), 2000, 0.95)
    assert (scenes.label == scenes.background).mean() == 0.95
    assert scenes.label.mean() == 0.5
    assert all(SPECIES[s].label == c for s, c in zip(scenes.species, scenes.label, strict=True))
    assert all(PLACES[p].background == b for p, b in zip(scenes.place, scenes.background, strict=True))


def test_pictures_and_captions_follow_from_the_seed() -> None:
    drawn = []
    for _ in range(2):
        rng = np.random.default_rng(11)
        scenes = sample_scenes(rng, 13, 0.5)
        drawn.append((render(rng, scenes), captions(rng, scenes)))
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    assert drawn[0][1] == drawn[1][1]
    assert drawn[0][0].shape == (13, SIDE, SIDE, 3)
    assert drawn[0][0].std(axis=(1, 2, 3)).min() > 5, "a picture shows something"


def test_captions_are_true_and_stay_within_the_vocabulary() -> None:
    rng = np.random.default_rng(5)
    scenes = sample_scenes(rng, 1500, 0.5)
    words = set(vocabulary())
    assert len(words) >= 120
    for row, text in enumerate(captions(rng, scenes)):
        assert set(text.split()) <= words, text
        other = 1 - scenes.label[row]
        assert CLASSES[other] not in text.split(), text
        for number, species in enumerate(SPECIES):
            assert (species.name not in text.split()) or number == scenes.species[row], text
        for weather, phrases in enumerate(WEATHER_PHRASES):
            assert weather == scenes.weather[row] or not any(text.endswith(phrase) for phrase in phrases), text


def test_every_word_is_really_used() -> None:
    rng = np.random.default_rng(6)
    used = {word for text in captions(rng, sample_scenes(rng, 6000, 0.5)) for word in text.split()}
    assert set(vocabulary()) == used


def test_the_words_of_the_bird_models_keep_their_ids() -> None:
    digest = hashlib.sha256(" ".join(vocabulary()).encode()).hexdigest()
    assert digest[:16] == WORDS, "the weights of the birds' models are bound to this order"
    assert tokenizer().encode("a photo of a waterbird") == [1, 2, 103, 91, 2, 148, 157]
    assert [Size().n_heads, Size().d_head, Size().context] == [8, 16, 20]


def test_an_unknown_word_is_answered_with_near_ones() -> None:
    with pytest.raises(VocabularyError, match=r"'sparow'.*sparrow"):
        tokenizer()(["a photo of a sparow"])
    with pytest.raises(VocabularyError, match="at most"):
        tokenizer()(["a bird " * 20])


def test_tokens_end_with_the_largest_id_and_ignore_case_and_punctuation() -> None:
    tokens = tokenizer()(["A photo of a Landbird.", "water"])
    assert torch.equal(tokens[0], tokenizer()(["a photo of a landbird"])[0])
    assert (tokens.argmax(-1) == torch.tensor([6, 2])).all()
    assert tokens.max() == tokenizer().vocab_size - 1


def test_images_are_files_that_read_back_as_they_were_drawn(tmp_path: Path) -> None:
    manifest = images(tmp_path / "a", n=48, seed=2)
    assert {"path", "label", "background", "split", "species", "place", "id", "caption"} == set(manifest.columns)
    assert manifest["split"].value_counts().to_dict() == {"test": 27, "val": 21}
    assert set(manifest["label"]) == set(CLASSES)
    assert set(manifest["background"]) == set(BACKGROUNDS)
    again = images(tmp_path / "b", n=48, seed=2)
    for path in manifest["path"]:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    assert manifest.equals(again)
    with Image.open(tmp_path / "a" / manifest["path"][0]) as picture:
        assert picture.size == (SIDE, SIDE)
        assert picture.mode == "RGB"


def test_a_second_call_reuses_the_files_and_another_world_is_refused(tmp_path: Path) -> None:
    manifest = images(tmp_path, n=32)
    (tmp_path / manifest["path"][3]).unlink()
    assert images(tmp_path, n=32).equals(manifest)
    assert not (tmp_path / manifest["path"][3]).exists(), "nothing was drawn again"
    with pytest.raises(OutputError, match="another seed"):
        images(tmp_path, n=32, seed=1)
    with pytest.raises(ManifestError, match="val, test and all"):
        images(tmp_path / "c", split="dev")
    with pytest.raises(ManifestError, match="eight"):
        images(tmp_path / "c", n=5)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_what_the_weights_do(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    told = card(name, "birds")
    folder = tmp_path_factory.getbasetemp() / "card-images"
    manifest = images(folder, split="test", n=320)
    clip = hl.load(name)
    pixels = torch.stack([preprocess(Image.open(folder / path)) for path in manifest["path"]])
    task = hl.ZeroShotTask(told["classes"], told["templates"])
    predicted = (clip.encode_image(pixels) @ task.classifier(clip.encode_text).T).argmax(-1)
    right = np.asarray(told["classes"])[predicted.numpy()] == manifest["label"].to_numpy()
    # Three standard errors of a share of 320 images.
    assert right.mean() == pytest.approx(told["measured"]["methods"]["zero-shot"]["average"], abs=0.084)
    vision = clip.vision.cfg
    assert all(0 <= layer < vision.n_layers and 0 <= head < vision.n_heads for layer, head in told["planted_heads"])
    clip.encode_text([text for pair in [*told["pairs"], *told["spurious_pairs"]] for text in pair])
    clip.encode_text([text for prompts in told["attribute"]["values"].values() for text in prompts])


@pytest.mark.parametrize("name", PLANTED)
def test_on_planted_models_location_finds_planted_heads_and_ltc_helps(name: str) -> None:
    told = card(name)
    measured = told["measured"]
    assert measured["spurious"]
    assert {tuple(h) for h in measured["spurious"]} <= {tuple(h) for h in told["planted_heads"]}
    gain = measured["methods"]["ltc"]["worst_group"] - measured["methods"]["zero-shot"]["worst_group"]
    assert gain >= 0.15
    assert measured["random_ablation"]["best"] < measured["methods"]["ablation"]["worst_group"]
    # Sets that share the located spurious head come near LTC, or pass it: the others pull the mean down.
    assert measured["random_ltc"]["mean"] < measured["methods"]["ltc"]["worst_group"] - 0.3


def test_what_is_shipped_is_what_the_recipes_train() -> None:
    assert tuple(RECIPES) == MODELS
    for name, recipe in RECIPES.items():
        assert worlds_of(f"testbed-{name}") == recipe.worlds
        assert Size(**card(f"testbed-{name}")["recipe"].get("size", {})) == recipe.size


@pytest.mark.parametrize("world", WORLDS)
def test_masks_show_what_stands_in_front(world: str, tmp_path: Path) -> None:
    drawing = WORLDS[world]
    scenes = drawing.sample(np.random.default_rng(8), 16, 0.5)
    pictures, masks = drawing.render.with_masks(np.random.default_rng(9), scenes)
    np.testing.assert_array_equal(pictures, drawing.render(np.random.default_rng(9), scenes))
    assert (masks.mean(axis=(1, 2)) > 0.02).all() and (masks.mean(axis=(1, 2)) < 0.5).all()
    # Other places behind the same birds or figures: pixels inside the mask stay much nearer to what they were.
    other = replace(scenes, place=(scenes.place + 1) % 6)
    changed = np.abs(pictures.astype(float) - drawing.render(np.random.default_rng(9), other)).mean(axis=-1)
    assert changed[masks].mean() < 0.5 * changed[~masks].mean()
    manifest = images(tmp_path, n=32, world=world, masks=True)
    with Image.open(tmp_path / manifest["mask"][3]) as mask, Image.open(tmp_path / manifest["path"][3]) as picture:
        assert mask.mode == "1" and mask.size == picture.size
    with pytest.raises(OutputError, match="seed, split, number"):
        images(tmp_path, n=32, world=world)


def test_names_that_no_model_has_are_refused() -> None:
    with pytest.raises(ModelError, match="testbed-plain"):
        load_open_clip("testbed-birds-9")
    with pytest.raises(ModelError, match="testbed-plain"):
        hl.load("testbed-birds-9")


def test_planting_terms_are_what_they_say() -> None:
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 2])
    told = torch.eye(3)[groups] * 5.0
    assert between_group_share(told, groups) == pytest.approx(1.0, abs=1e-3)
    torch.manual_seed(0)
    noise = torch.randn(4000, 5)
    assert between_group_share(noise, torch.randint(7, (4000,))) == pytest.approx(0.0, abs=5e-3)


def test_recorded_writes_add_up_to_the_attention_output() -> None:
    torch.manual_seed(1)
    model = build().double()
    pixels = normalise(torch.randint(0, 256, (5, 3, SIDE, SIDE), dtype=torch.uint8)).double()
    with Writes(model.visual) as writes:
        model.encode_image(pixels)
        summed = writes._head_writes(3).sum(1) + model.visual.transformer.resblocks[3].attn.out_proj.bias
        torch.testing.assert_close(summed, writes._attention[3], rtol=0, atol=1e-12)
        planting = Planting(slice(1, 5), {(3, 0)}, torch.tensor([0, 0, 1, 1]), [torch.arange(4) % 2], carry=2.0)
        terms = writes.losses([planting, replace(planting, rows=slice(0, 4), alone=False)])
        assert all(torch.isfinite(term) for term in terms)
    assert not model.visual.transformer.resblocks[3].attn._forward_hooks


def test_training_runs_both_phases_and_repeats(tmp_path: Path) -> None:
    micro = replace(RECIPES["birds-0"], steps=(2, 1), pictures=(24, 24), batch=(8, 8))
    first, second = train(micro), train(micro)
    for (name, a), (_, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_centring_leaves_the_function_and_takes_the_mean_out_of_every_head() -> None:
    torch.manual_seed(4)
    model = build().double().eval()
    pixels = normalise(torch.randint(0, 256, (13, 3, SIDE, SIDE), dtype=torch.uint8)).double()
    for block in model.visual.transformer.resblocks:
        torch.nn.init.normal_(block.attn.in_proj_bias)
    before = model.encode_image(pixels)
    centre_heads(model.visual, pixels, batch=5)
    torch.testing.assert_close(model.encode_image(pixels), before, rtol=0, atol=1e-12)
    heads = hl.decompose(hl.HookedVisionTransformer.from_open_clip(model.visual), pixels, normalize=True).heads
    assert heads.mean(0).abs().max() < 1e-12
    assert heads.abs().max() > 1e-3


def test_the_model_card_is_the_one_that_the_cards_give() -> None:
    shipped = Path(hl.testbed.__file__).with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    assert shipped == model_card(), "run python -m tools.testbed.model_card"
