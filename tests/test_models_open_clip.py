"""The conversion: what is accepted, what is refused by name, and that it loses nothing."""

from functools import partial

import pytest
import torch
from torch import nn
from tower_factory import random_images, random_tower

from headlens.errors import ModelError
from headlens.models import HookedVisionTransformer, parity, rebuild_open_clip, to_open_clip
from headlens.models.open_clip_import import open_clip
from headlens.models.open_clip_load import check_model_config

T = open_clip().transformer

ACCEPTED = {
    "layer scale": {"ls_init_value": 0.1},
    "average pooling": {"pool_type": "avg"},
    "average pooling, then the norm": {"pool_type": "avg", "final_ln_after_pool": True},
    "class token, then the norm": {"final_ln_after_pool": True},
    "no pre-norm": {"no_ln_pre": True},
    "tanh GELU": {"act_layer": partial(nn.GELU, approximate="tanh")},
    "quick GELU": {"quick_gelu": True},
    "another epsilon": {"eps": 1e-2},
    "norms in float32": {"norm_layer": T.LayerNormFp32},
    "a second output": {"output_tokens": True},
    "patch dropout": {"patch_dropout": 0.5},
    "custom blocks, nothing switched on": {"block_type": "custom"},
    "norms without biases": {"norm_layer": partial(nn.LayerNorm, bias=False)},
    "norms without weights": {"norm_layer": partial(nn.LayerNorm, elementwise_affine=False)},
    "square patches": {"patch": (3, 3), "grid": (2, 2), "pos_embed_type": "sin_cos_2d", "heads": 4, "d_head": 2},
}


@pytest.mark.parametrize("settings", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_setting_that_is_accepted_is_also_computed(settings):
    tower = random_tower(3, **settings)
    hooked = HookedVisionTransformer.from_open_clip(tower)
    # The float32 norm narrows float64 on its way, so that its parity is judged against a tower without it.
    original = rebuild_open_clip(hooked) if hooked.cfg.norm_in_float32 else tower
    if hooked.cfg.norm_in_float32:
        images = random_images(tower)
        torch.testing.assert_close(hooked(images), tower(images), rtol=1e-5, atol=1e-5)
        return
    report = parity(hooked, original)
    assert report.passed, report.table()


REFUSED = {
    r"attn\.ln_q": {"qk_norm": True},
    r"attn\.logit_scale": {"scaled_cosine_attn": True},
    r"attn\.head_scale": {"scale_heads": True},
    r"attn\.ln_inner": {"scale_attn_inner": True},
    r"0\.ln_attn": {"scale_attn": True},
    r"mlp\.ln": {"scale_fc": True},
    "attentional_pool='parallel'": {"attentional_pool": "parallel", "attn_pooler_heads": 1},
    "pool_type 'none'": {"pool_type": "none"},
    "SiLU": {"act_layer": nn.SiLU},
    "RMSNorm": {"norm_layer": nn.RMSNorm},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_name(name):
    with pytest.raises(ModelError, match=name) as caught:
        HookedVisionTransformer.from_open_clip(random_tower(4, **REFUSED[name]))
    assert "models.md" in caught.value.remedy


def test_towers_of_other_kinds_are_refused_by_name():
    with pytest.raises(ModelError, match="Linear, which no adapter reads"):
        HookedVisionTransformer.from_open_clip(nn.Linear(2, 2))
    for name, why in (
        ("convnext_base", "it has no attention heads at all"),
        ("MobileCLIP-S1", "fastvit_mci1"),
        ("swin_base_patch4_window7_224", "not a residual stream"),
    ):
        with pytest.raises(ModelError, match=why):
            check_model_config(open_clip().get_model_config(name), name)


def _without_projection(tower):
    tower.proj = None


def _with_a_layer_as_projection(tower):
    tower._parameters.pop("proj")
    tower.proj = nn.Linear(35, 11, bias=False)


def _with_another_mlp(tower):
    tower.transformer.resblocks[0].mlp = nn.Sequential(nn.Linear(35, 52), nn.GELU(), nn.Linear(52, 35))


def _with_groups(tower):
    tower.conv1 = nn.Conv2d(3, 36, 3, groups=3, bias=False)


def _with_another_block(tower):
    tower.transformer.resblocks[2] = nn.Identity()


def _with_mixed_nonlinearities(tower):
    tower.transformer.resblocks[0].mlp.gelu = T.QuickGELU()


def _with_another_linear(tower):
    class Quantized(nn.Linear):
        pass

    tower.transformer.resblocks[0].mlp.c_fc = Quantized(35, 52)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_without_projection, "no projection"),
        (_with_a_layer_as_projection, "Linear as projection"),
        (_with_another_block, r"Identity at transformer\.resblocks\.2"),
        (_with_mixed_nonlinearities, r"GELU at transformer\.resblocks\.1\.mlp\.gelu, where QuickGELU belongs"),
        (_with_another_linear, r"Quantized at transformer\.resblocks\.0\.mlp\.c_fc"),
        (_with_another_mlp, "'Sequential' object has no attribute 'c_fc'"),
        (_with_groups, "embed_dim must be divisible"),
    ],
)
def test_an_altered_tower_is_refused_by_name(edit, message):
    tower = random_tower(5)
    edit(tower)
    with pytest.raises(ModelError, match=message):
        HookedVisionTransformer.from_open_clip(tower)


@pytest.mark.parametrize("settings", [{}, {"ls_init_value": 0.1, "no_ln_pre": True}])
def test_the_way_back_is_bitwise(settings):
    tower = random_tower(6, **settings)
    back = to_open_clip(HookedVisionTransformer.from_open_clip(tower))
    assert back.keys() == tower.state_dict().keys()
    for name, tensor in tower.state_dict().items():
        assert torch.equal(back[name], tensor), name
        assert back[name].is_contiguous()


def test_weights_have_transformer_lens_shapes_and_are_views_of_flat_matrices():
    hooked = HookedVisionTransformer.from_open_clip(random_tower(7, layers=2, heads=5, d_head=7))
    attn, mlp = hooked.layers[1].attn, hooked.layers[1].mlp
    for letter in "QKV":
        assert getattr(attn, f"W_{letter}").shape == (5, 35, 7)
        assert getattr(attn, f"b_{letter}").shape == (5, 7)
    assert attn.W_O.shape == (5, 7, 35) and attn.b_O.shape == (35,)
    assert mlp.W_in.shape == (35, 52) and mlp.W_out.shape == (52, 35)
    # Changing the type must not lose the layout that spares every linear map a copy.
    attn = hooked.double().layers[1].attn
    assert attn.W_Q.transpose(1, 2).is_contiguous() and attn.W_O.flatten(0, 1).T.is_contiguous()


def test_a_copy_owns_its_weights_and_a_conversion_without_one_shares_them():
    tower = random_tower(8)
    owned = HookedVisionTransformer.from_open_clip(tower)
    shared = HookedVisionTransformer.from_open_clip(tower, copy=False)
    with torch.no_grad():
        tower.transformer.resblocks[0].attn.out_proj.weight.zero_()
    assert owned.layers[0].attn.W_O.abs().sum() > 0
    assert shared.layers[0].attn.W_O.abs().sum() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    tower = random_tower(9)
    with torch.no_grad():
        tower.transformer.resblocks[2].mlp.c_fc.bias[5] = value
    with pytest.raises(ModelError, match=r"1 of 52 values of visual\.transformer\.resblocks\.2\.mlp\.c_fc\.bias"):
        HookedVisionTransformer.from_open_clip(tower)


def test_half_precision_normalises_in_float32_where_the_original_does():
    tower = random_tower(10, norm_layer=T.LayerNormFp32).to(torch.bfloat16)
    for norm in [tower.ln_pre, tower.ln_post, *(n for b in tower.transformer.resblocks for n in (b.ln_1, b.ln_2))]:
        norm.float()
    hooked = HookedVisionTransformer.from_open_clip(tower)
    assert hooked.dtype == torch.bfloat16 and hooked.ln_final.w.dtype == torch.float32
    images = random_images(tower).bfloat16()
    with torch.no_grad():
        got, expected = hooked(images), tower(images)
    assert got.dtype == torch.bfloat16
    assert (got - expected).float().norm() < 0.05 * expected.float().norm()
