"""Every family of vision towers: parity with its library, an exact decomposition, and all that is built on it."""

import copy
import importlib
import subprocess
import sys
import warnings

import families
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import write_images

import headlens as hl
from headlens.correct.total import mean_z, total_ablation_hooks
from headlens.errors import ModelError, StoreError, StoreWarning
from headlens.models.families.conversion import original_output, to_original
from headlens.states.basis import HeadBasis

NAMES = list(families.RELEASED)


@pytest.fixture(scope="module", params=NAMES)
def pair(request):
    """The original, the hooked tower in float64, and images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about what they build
        original = families.tower(request.param)
        vision = hl.HookedVisionTransformer.from_open_clip(original)
    images = torch.randn(3, 3, *vision.cfg.image_size, generator=torch.Generator().manual_seed(7))
    return original, vision, images


def distance(one, other):
    return float((one - other).norm(dim=-1).max() / other.norm(dim=-1).max())


@torch.no_grad()
def test_parity(pair):
    original, vision, images = pair
    assert distance(vision(images), original_output(original, images)) < 1e-5
    original = copy.deepcopy(original).double()  # converted again: timm widens its table of rotations by itself
    wide = hl.HookedVisionTransformer.from_open_clip(original)
    assert distance(wide(images.double()), original_output(original, images.double())) < 1e-12


@torch.no_grad()
def test_norms_may_be_wider_than_half_precision_maps_and_other_mixtures_are_refused(pair):
    original, _, images = pair
    mixed = copy.deepcopy(original).bfloat16()
    for module in mixed.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.float()
    images = images.bfloat16()
    got = hl.HookedVisionTransformer.from_open_clip(mixed)(images)
    assert distance(got.float(), original_output(mixed, images).float()) < 2e-2
    linear = {name: one for name, one in mixed.named_modules() if isinstance(one, torch.nn.Linear)}
    next(one for name, one in linear.items() if not name.startswith("text")).double()
    with pytest.raises(ModelError, match="several types"):
        hl.HookedVisionTransformer.from_open_clip(mixed)


@pytest.mark.parametrize("constants", ["separate", "spread"])
@pytest.mark.parametrize("per_token", [False, True])
@torch.no_grad()
def test_the_parts_sum_to_the_embedding(pair, constants, per_token):
    _, vision, images = pair
    vision, images = copy.deepcopy(vision).double(), images.double()
    parts = hl.decompose(vision, images, per_token, constants)
    assert distance(parts.total(), vision(images)) < 1e-12
    whole = hl.decompose(vision, images, constants=constants)
    if per_token:
        assert (parts.heads.sum(3) - whole.heads).abs().max() < 1e-12 * whole.heads.abs().max()
    unit = hl.decompose(vision, images, per_token, constants, normalize=True)
    torch.testing.assert_close(unit.total().norm(dim=-1), torch.ones(3, dtype=torch.float64))
    if constants == "spread":
        assert not parts.constant.any()


@torch.no_grad()
def test_the_compact_form(pair):
    _, vision, images = pair
    vision, images = copy.deepcopy(vision).double(), images.double()
    states, basis, parts = vision.head_states(images), HeadBasis.from_vision(vision), hl.decompose(vision, images)
    cfg = vision.cfg
    assert states.z.shape == (3, cfg.n_layers, cfg.n_heads, cfg.d_state)
    assert basis.shape == (*states.z.shape[1:], cfg.d_embed)
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(basis.contributions(states.z), parts.heads, **close)
    torch.testing.assert_close(states.scale @ basis.bias + basis.beta, parts.constant, **close)
    torch.testing.assert_close(
        torch.einsum("ihd,hde->ihe", states.z[:, -1], torch.stack([basis.of(-1, h) for h in range(cfg.n_heads)])),
        parts.heads[:, -1],
        **close,
    )
    for name in ("mlps", "stem", "pool"):
        torch.testing.assert_close(getattr(states, name), getattr(parts, name), **close)
    directions = torch.randn(2, cfg.d_embed, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    scores = torch.einsum("ilhd,lhdt->ilht", states.z, basis.fold(directions))
    torch.testing.assert_close(scores, parts.heads @ directions.T, **close)
    if cfg.pool == "tok":
        torch.testing.assert_close(states.scale[:, :1] * basis.stem, states.stem, **close)


@torch.no_grad()
def test_the_heads_of_some_layers_alone(pair):
    """What a corrected model runs: the same numbers, and nothing of other layers."""
    _, vision, images = pair
    whole, last = vision.residual_parts(images), vision.cfg.n_layers - 1
    some = vision.residual_parts(images, layers=[last])
    torch.testing.assert_close(some.z, whole.z[:, last:])
    torch.testing.assert_close(some.embedding, whole.embedding)
    assert some.mlps.shape[1] == 0


@torch.no_grad()
def test_the_way_back(pair):
    original, vision, _ = pair
    wanted = original.state_dict()
    if vision.cfg.family == "transformers":
        pytest.skip("there is no folder of transformers to write")
    back = to_original(vision, wanted)
    missing = [name for name in wanted if name not in back and "num_batches" not in name]
    assert not missing
    for name, tensor in back.items():
        assert torch.equal(tensor, wanted[name]), name


# --- what is built on the decomposition -------------------------------------------------------------------------------


def test_hooks_see_and_change(pair):
    _, vision, images = pair
    with torch.no_grad():
        plain, cache = vision.run_with_cache(images)
        z = cache["z", 0]
        assert z.shape == (3, vision.cfg.n_tokens, vision.cfg.n_heads, vision.cfg.d_head)
        for layer in range(vision.cfg.n_layers):
            resid = cache["resid_pre", layer] if vision.cfg.residual else 0
            torch.testing.assert_close(
                cache["pattern", layer].sum(-1), torch.ones(z.shape[:1] + cache["pattern", layer].shape[1:3])
            )
            after = cache["resid_mid", layer] if vision.cfg.residual else cache["resid_post", layer]
            torch.testing.assert_close(resid + cache["attn_out", layer], after)
        if vision.pool is not None:
            assert cache["pool.attn.hook_pattern"].shape[1:3] == (vision.cfg.n_pool_heads, 1)
        edit = lambda z, hook: torch.zeros_like(z)  # noqa: E731
        changed = vision.run_with_hooks(images, fwd_hooks=[("blocks.0.attn.hook_z", edit)])
    torch.testing.assert_close(cache["hook_embedding"], plain)
    assert distance(changed, plain) > 1e-3


def test_gradients_reach_the_pixels(pair):
    _, vision, images = pair
    pixels = images[:1].clone().requires_grad_()
    (expected,) = torch.autograd.grad(vision(pixels)[0, 0], pixels)
    assert expected.any()
    parts = hl.decompose(vision, pixels)
    (got,) = torch.autograd.grad(parts.total()[0, 0], pixels)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_a_direct_edit_of_the_last_layer_is_the_total_one_but_for_what_reacts(pair):
    """Zero ablation in both meanings, and mean ablation at all tokens, run; the direct one changes the head alone."""
    _, vision, images = pair
    states = vision.head_states(images)
    basis = HeadBasis.from_vision(vision)
    head = (vision.cfg.n_layers - 1, 1)
    direct = states.embedding - basis.contributions(states.z)[:, head[0], head[1]]
    values = mean_z(vision, [images], [head], "all")
    total = vision.run_with_hooks(images, fwd_hooks=total_ablation_hooks(values, "all"))
    zero = {head: torch.zeros(vision.cfg.d_head)}
    without = vision.run_with_hooks(images, fwd_hooks=total_ablation_hooks(zero, "all"))
    assert torch.isfinite(direct).all() and torch.isfinite(total).all()
    if not vision.cfg.residual:  # nothing stands behind the only layer
        torch.testing.assert_close(direct, without, rtol=1e-4, atol=1e-5)
    assert distance(without, states.embedding) > 1e-3


class Tower:
    """What extraction needs of a model."""

    name, fingerprint, device = "family", "0123", torch.device("cpu")

    def __init__(self, vision):
        self.vision = vision

    def preprocess(self, image):
        pixels = np.asarray(image.resize(self.vision.cfg.image_size[::-1]), dtype=np.float32) / 127.5 - 1
        return torch.from_numpy(pixels).permute(2, 0, 1)


def test_the_store_and_what_reads_it(pair, tmp_path):
    _, vision, _ = pair
    clip, frame = Tower(vision), write_images(tmp_path / "images", 6)
    store = hl.extract(clip, frame, tmp_path / "states.zarr", batch_size=4)
    pixels = torch.stack(
        [clip.preprocess(Image.open(tmp_path / "images" / path).convert("RGB")) for path in frame["path"]]
    )
    close = {"rtol": 1e-3, "atol": 2e-4}
    parts = hl.decompose(vision, pixels, normalize=True)
    for name in ("mlps", "stem", "constant", "pool"):
        torch.testing.assert_close(getattr(store, name), getattr(parts, name), **close)
    torch.testing.assert_close(store.embedding, parts.total(), **close)
    last = vision.cfg.n_layers - 1
    torch.testing.assert_close(store.heads(last, 1), parts.heads[:, last, 1], **close)
    directions = torch.randn(5, vision.cfg.d_embed, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(store.project(directions), parts.heads @ directions.T, **close)
    if store.basis.is_identity:
        with pytest.raises(StoreError, match="separate"):
            store.project(directions, "spread")
    else:
        spread = hl.decompose(vision, pixels, constants="spread", normalize=True)
        torch.testing.assert_close(store.project(directions, "spread"), spread.heads @ directions.T, **close)
    again = store.save(tmp_path / "copy.zarr")
    torch.testing.assert_close(again.rest, store.rest)

    moments = hl.extract_moments(clip, frame, tmp_path / "moments", ["place"], batch_size=4)
    torch.testing.assert_close(moments.contribution_means(store.basis).float(), parts.heads.mean(0), **close)
    found = hl.explain.textspan_heads(store, directions, 2)
    assert len(found) == vision.cfg.n_layers * vision.cfg.n_heads
    rows = hl.explain.textspan(parts.heads[:, last, 1], directions, 2)
    assert found[last, 1].texts.tolist() == rows.texts.tolist()


def test_the_size_of_wide_moments_is_stated(tmp_path, monkeypatch):
    clip = Tower(hl.HookedVisionTransformer.from_open_clip(families.tower("SigLIP")))
    monkeypatch.setattr(importlib.import_module("headlens.extraction.extraction"), "_WIDE", 1000)
    with pytest.warns(StoreWarning, match="6 heads of width 24"):
        hl.extract_moments(clip, write_images(tmp_path / "images", 3), tmp_path / "moments", batch_size=2)


@torch.no_grad()
def test_token_maps(pair):
    _, vision, images = pair
    cfg = vision.cfg
    directions = torch.randn(3, cfg.d_embed, generator=torch.Generator().manual_seed(4))
    maps = hl.explain.token_maps(vision, images, [(0, 0), (cfg.n_layers - 1, 1)], directions)
    parts = hl.decompose(vision, images, per_token=True, normalize=True)
    along = torch.einsum("ilhne,ie->ilhn", parts.heads, directions)[..., cfg.n_prefix :].unflatten(-1, cfg.grid)
    torch.testing.assert_close(maps[:, 0], along[:, 0, 0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(maps[:, 1], along[:, -1, 1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("module", ["headlens.models.clip", "headlens.models.families.layout", "headlens.states.basis"])
def test_any_module_can_be_the_first_that_is_imported(module):
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True)
