"""Every plain vision transformer that open_clip lists, shrunk, computes in headlens what it computes there."""

import pytest
import torch
from tower_factory import random_images, random_tower, randomize

from headlens.models import HookedVisionTransformer, parity
from headlens.models.open_clip_import import open_clip


def _configs():
    for name in open_clip().list_models():
        config = open_clip().get_model_config(name)
        if "timm_model_name" not in config["vision_cfg"] and isinstance(config["vision_cfg"]["layers"], int):
            yield name, config


CONFIGS = dict(_configs())
POOLED = [name for name, config in CONFIGS.items() if not config["vision_cfg"].get("attentional_pool")]
ATTENTIONAL = [name for name in CONFIGS if name not in POOLED]


def shrunk(name):
    """The tower with its own settings and head count, two layers, heads of width 2, and a grid of three by three."""
    config = CONFIGS[name]
    vision = dict(config["vision_cfg"])
    heads = vision["width"] // vision.get("head_width", 64)
    patch = vision["patch_size"]
    vision["attn_pooler_heads"] = 1
    # Pixels that do not fill a patch stay, if the full size has any.
    vision |= {"layers": 2, "head_width": 2, "width": 2 * heads, "image_size": 3 * patch + vision["image_size"] % patch}
    build = open_clip().model._build_vision_tower
    return randomize(build(13, vision, config.get("quick_gelu", False)), seed=len(name))


def test_the_table_covers_every_kind_of_tower_that_open_clip_lists():
    settings = [config["vision_cfg"] for config in CONFIGS.values()]
    assert len(POOLED) >= 50
    assert {vision.get("pool_type", "tok") for vision in settings} == {"tok", "avg"}
    for option in ("no_ln_pre", "final_ln_after_pool", "ls_init_value", "output_tokens"):
        assert any(vision.get(option) for vision in settings), option
    assert any(config.get("quick_gelu") for config in CONFIGS.values())


@pytest.mark.parametrize("name", POOLED)
def test_every_plain_tower_agrees_with_open_clip(name):
    tower = shrunk(name)
    report = parity(HookedVisionTransformer.from_open_clip(tower), original=tower)
    assert report.passed, report.table()


@pytest.mark.parametrize("name", ATTENTIONAL)
def test_attentional_pooling_agrees_too(name):
    tower = shrunk(name)
    report = parity(HookedVisionTransformer.from_open_clip(tower), original=tower)
    assert report.passed, report.table()


def test_a_report_tells_a_mistake_from_rounding():
    tower = random_tower(1)
    hooked = HookedVisionTransformer.from_open_clip(tower)
    images = random_images(tower)
    good = parity(hooked, tower, images)
    assert good.passed and good.images == 2
    assert good.absolute["float64"] < 1e-12 and good.absolute["float32"] < 1e-4
    assert list(good.table()["precision"]) == ["float32", "float64"]

    with torch.no_grad():
        hooked.layers[1].attn.b_V[2, 3] += 1e-3
    bad = parity(hooked, tower, images)
    assert not bad.passed
    assert bad.relative["float64"] > 1e-6  # a mistake does not shrink with the precision
    assert bad.residue["float64"] < 1e-12  # the altered tower still is the sum of its parts
    assert parity(hooked, images=images).passed  # and open_clip, given the altered weights, agrees with it


def test_parity_leaves_the_tower_as_it_was():
    hooked = HookedVisionTransformer.from_open_clip(random_tower(2))
    before = {name: tensor.clone() for name, tensor in hooked.state_dict().items()}
    parity(hooked)
    assert all(torch.equal(tensor, before[name]) for name, tensor in hooked.state_dict().items())
    assert hooked.dtype == torch.float32
