"""The decomposition is exact, agrees with the published arrays, and predicts interventions."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from tower_factory import random_images, random_tower

import headlens as hl
from headlens.errors import ModelError
from headlens.models.open_clip_import import open_clip
from headlens.states import HeadBasis

SETTINGS = st.fixed_dictionaries(
    {
        "layers": st.integers(1, 3),
        "heads": st.sampled_from([1, 2, 3, 5]),
        "d_head": st.sampled_from([1, 2, 7]),
        "embed": st.sampled_from([1, 3, 11]),
        "patch": st.sampled_from([(1, 1), (2, 3), (3, 2)]),
        "grid": st.sampled_from([(1, 1), (1, 2), (3, 2)]),
        "quick_gelu": st.booleans(),
        "eps": st.sampled_from([1e-5, 1e-6, 1e-1]),
        "no_ln_pre": st.booleans(),
        "ls_init_value": st.sampled_from([None, 0.1]),
        "pool_type": st.sampled_from(["tok", "avg"]),
        "final_ln_after_pool": st.booleans(),
        "mlp_ratio": st.sampled_from([1.5, 4.0]),
    }
).filter(lambda settings: settings["heads"] * settings["d_head"] > 2)


def hooked(visual, dtype=torch.float64):
    return hl.HookedVisionTransformer.from_open_clip(visual).to(dtype)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@given(options=SETTINGS, seed=st.integers(0, 99), per_token=st.booleans(), spread=st.booleans(), unit=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_parts_sum_to_the_embedding(dtype, bound, options, seed, per_token, spread, unit):
    visual = random_tower(seed, **options)
    vision, images = hooked(visual, dtype), random_images(visual, count=2, seed=seed).to(dtype)
    embedding = visual.to(dtype)(images).detach()
    if unit:
        embedding = embedding / embedding.norm(dim=-1, keepdim=True)
    parts = hl.decompose(vision, images, per_token, "spread" if spread else "separate", unit)
    shape = (2, vision.cfg.n_layers, vision.cfg.n_heads, *[vision.cfg.n_tokens] * per_token, vision.cfg.d_embed)
    assert parts.heads.shape == shape
    # Rounding is in units of the largest summand where summands cancel.
    scale = max(embedding.norm(dim=-1).max().item(), parts.stem.norm(dim=-1).max().item())
    assert (parts.total() - embedding).norm(dim=-1).max() <= bound * scale
    if spread:
        assert parts.constant.abs().max() == 0


@given(options=SETTINGS, seed=st.integers(0, 99), spread=st.booleans(), unit=st.booleans())
@settings(max_examples=20, deadline=None)
def test_tokens_sum_to_heads(options, seed, spread, unit):
    visual = random_tower(seed, **options)
    vision, images = hooked(visual), random_images(visual, count=3, seed=seed).double()
    constants = "spread" if spread else "separate"
    whole = hl.decompose(vision, images, False, constants, unit)
    split = hl.decompose(vision, images, True, constants, unit)
    scale = whole.heads.abs().max()
    assert (split.heads.sum(3) - whole.heads).abs().max() <= 1e-12 * scale
    for name in ("mlps", "stem", "constant"):
        torch.testing.assert_close(getattr(split, name), getattr(whole, name), rtol=1e-10, atol=1e-10)


@given(options=SETTINGS, seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_compact_form_loses_nothing(options, seed):
    visual = random_tower(seed, **options)
    vision, images = hooked(visual), random_images(visual, count=3, seed=seed).double()
    states, basis, parts = vision.head_states(images), HeadBasis.from_vision(vision), hl.decompose(vision, images)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(torch.einsum("ilhd,lhde->ilhe", states.z, basis.B), parts.heads, **close)
    torch.testing.assert_close(states.scale @ basis.bias + basis.beta, parts.constant, **close)
    torch.testing.assert_close(states.mlps, parts.mlps, **close)
    torch.testing.assert_close(states.stem, parts.stem, **close)
    torch.testing.assert_close(states.embedding, vision(images).detach(), **close)
    torch.testing.assert_close(basis.layer_bias.sum(0), basis.bias, **close)
    assert len(states) == 3

    directions = torch.randn(2, vision.cfg.d_embed, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    scores = torch.einsum("ilhd,lhdt->ilht", states.z, basis.fold(directions))
    torch.testing.assert_close(scores, parts.heads @ directions.T, **close)

    # The uncentred basis of constants='spread' is the centred one and the means that centring took away.
    spread = hl.decompose(vision, images, constants="spread")
    raw = torch.einsum("ilhd,lhde->ilhe", states.z, basis.B + basis.head_mean[..., None] * basis.ones[0])
    biases = (basis.layer_bias + basis.bias_mean[..., None] * basis.ones)[:, 0]
    share = (basis.beta - states.shift * basis.ones) / (2 * vision.cfg.n_layers + 1)
    shared = (states.scale[:, None] * biases + share[:, None]) / vision.cfg.n_heads
    torch.testing.assert_close(raw + shared[:, :, None], spread.heads, **close)


def test_contributions_equal_the_published_ones(golden):
    arrays = golden("decomposition")
    cfg = json.loads(str(arrays["cfg"]))
    transformer = open_clip().transformer
    visual = transformer.VisionTransformer(
        image_size=cfg["image"],
        patch_size=cfg["patch"],
        width=cfg["width"],
        layers=cfg["layers"],
        heads=cfg["heads"],
        mlp_ratio=4.0,
        output_dim=cfg["embed"],
        act_layer=transformer.QuickGELU if cfg["quick_gelu"] else nn.GELU,
    )
    visual.load_state_dict({k.removeprefix("sd."): torch.tensor(v) for k, v in arrays.items() if k.startswith("sd.")})
    vision, images = hooked(visual, torch.float32), torch.tensor(arrays["images"])
    parts = hl.decompose(vision, images, per_token=True, constants="spread", normalize=True)
    heads = torch.tensor(arrays["heads_tokens"]).transpose(2, 3)
    exact = {"rtol": 0, "atol": 2e-6}
    torch.testing.assert_close(parts.heads, heads, **exact)
    torch.testing.assert_close(parts.stem, torch.tensor(arrays["mlps"][:, 0]), **exact)
    torch.testing.assert_close(parts.mlps, torch.tensor(arrays["mlps"][:, 1:]), **exact)
    whole = hl.decompose(vision, images, constants="spread", normalize=True)
    torch.testing.assert_close(whole.heads, heads.sum(3), **exact)
    # The embedding is not of unit length, and its rounding is that of numbers some units large.
    embedding = torch.tensor(arrays["embedding"])
    assert (vision(images) - embedding).abs().max() < 1e-6 * embedding.norm(dim=-1).max()


def test_an_ablation_in_the_last_layer_does_what_the_decomposition_predicts():
    """With the last MLP silent and σ corrected, the total effect of a head at the class token is its direct effect."""
    visual = random_tower(31, layers=3)
    last = visual.transformer.resblocks[-1].mlp
    with torch.no_grad():
        last.c_proj.weight.zero_()
        last.c_proj.bias.zero_()
    vision, images = hooked(visual), random_images(visual).double()
    parts = hl.decompose(vision, images)

    def zero(z, hook):
        z = z.clone()
        z[:, 0, 3] = 0
        return z

    name, scale = "blocks.2.attn.hook_z", "ln_final.hook_scale"
    with torch.no_grad(), vision.hooks(fwd_hooks=[(name, zero)]):
        total, after = vision.run_with_cache(images, names_filter=[scale])
    with torch.no_grad():
        before, untouched = vision.run_with_cache(images, names_filter=[scale])
    direct = parts.total() - parts.heads[:, 2, 3]
    beta = HeadBasis.from_vision(vision).beta
    # Only σ reacts: the direct edit keeps the old one.
    predicted = (direct - beta) * untouched[scale][:, 0] / after[scale][:, 0] + beta
    torch.testing.assert_close(total, predicted, rtol=1e-10, atol=1e-10)
    assert (total - before).abs().max() > 1e-3


def test_a_token_contributes_only_through_what_is_attended_to():
    """Values of one patch replaced in a head move that head's contribution by that token's share, and no other's."""
    visual = random_tower(32, layers=1)
    vision, images = hooked(visual), random_images(visual).double()
    tokens = hl.decompose(vision, images, per_token=True).heads
    with torch.no_grad():
        _, cache = vision.run_with_cache(images, names_filter=["blocks.0.attn.hook_pattern", "blocks.0.attn.hook_v"])
        sigma = vision.head_states(images).scale[:, 0].reciprocal()
    expected = torch.einsum("ihk,ikhd->ihkd", cache["pattern", 0][:, :, 0], cache["v", 0]) / sigma.view(-1, 1, 1, 1)
    written = torch.einsum("ihkd,hde->ihke", expected, HeadBasis.from_vision(vision).B[0])
    torch.testing.assert_close(tokens[:, 0], written, rtol=1e-10, atol=1e-10)


def test_extraction_refuses_to_run_past_hooks():
    visual = random_tower(33)
    vision, images = hooked(visual), random_images(visual).double()
    with vision.hooks(fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: 0 * z)]):
        for work in (vision.head_states, lambda x: hl.decompose(vision, x), lambda x: hl.decompose(vision, x, True)):
            with pytest.raises(ModelError, match=r"blocks\.1\.attn\.hook_z"):
                work(images)
    vision.head_states(images)


def test_gradients_are_kept_only_where_the_pixels_ask_for_them():
    visual = random_tower(34)
    vision, images = hooked(visual), random_images(visual).double()
    assert not hl.decompose(vision, images).heads.requires_grad
    assert not vision.head_states(images).z.requires_grad
    images.requires_grad_()
    for constants in ("separate", "spread"):
        for per_token in (False, True):
            parts = hl.decompose(vision, images, per_token, constants)
            (asked,) = torch.autograd.grad(parts.total().sum(), images)
            (expected,) = torch.autograd.grad(vision(images).sum(), images)
            torch.testing.assert_close(asked, expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        assert not hl.decompose(vision, images).heads.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_towers_are_decomposed_in_float32(dtype):
    visual = random_tower(35)
    vision, images = hooked(visual, dtype), random_images(visual)
    parts = hl.decompose(vision, images)
    assert parts.heads.dtype == torch.float32
    embedding = vision(images).float()
    assert (parts.total() - embedding).norm() < 0.03 * embedding.norm()
    assert vision.head_states(images).z.dtype == torch.float32


def test_autocast_keeps_the_sum():
    visual = random_tower(36)
    vision, images = hooked(visual, torch.float32), random_images(visual)
    with torch.autocast("cpu", torch.bfloat16):
        parts = hl.decompose(vision, images)
        embedding = vision(images).float()
    assert (parts.total() - embedding).norm() < 0.03 * embedding.norm()
    torch.testing.assert_close(parts.total(), vision(images).detach(), rtol=0.1, atol=0.1)


def test_unknown_conventions_and_sizes_are_errors():
    visual = random_tower(37)
    vision = hooked(visual)
    with pytest.raises(ModelError, match="'shared'"):
        hl.decompose(vision, random_images(visual), constants="shared")
    with pytest.raises(ModelError, match=r"\[image, 3, 6, 6\]"):
        hl.decompose(vision, torch.zeros(1, 3, 6, 8))
