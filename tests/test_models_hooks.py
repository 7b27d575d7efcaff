"""Every activation can be read and replaced under TransformerLens' names."""

import pytest
import torch
from tower_factory import random_images, random_tower

from headlens.errors import ModelError
from headlens.models import HookedVisionTransformer

# 3 layers, 5 heads of 7, width 35, MLP width 52, 1 + 2·3 tokens, 11 embedding axes, 2 images
IMAGES, TOKENS, HEADS, D_HEAD, WIDTH, HIDDEN, EMBED = 2, 7, 5, 7, 35, 52, 11
STREAM = (IMAGES, TOKENS, WIDTH)
SHAPES = {
    "hook_embed": STREAM,
    "hook_pos_embed": STREAM,
    "ln_pre.hook_scale": (IMAGES, TOKENS, 1),
    "ln_pre.hook_normalized": STREAM,
    "ln_final.hook_scale": (IMAGES, TOKENS, 1),
    "ln_final.hook_normalized": STREAM,
    "hook_embedding": (IMAGES, EMBED),
}
for _layer in range(3):
    for _name in ("hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post"):
        SHAPES[f"blocks.{_layer}.{_name}"] = STREAM
    for _norm in ("ln1", "ln2"):
        SHAPES[f"blocks.{_layer}.{_norm}.hook_scale"] = (IMAGES, TOKENS, 1)
        SHAPES[f"blocks.{_layer}.{_norm}.hook_normalized"] = STREAM
    for _name in ("q", "k", "v", "z"):
        SHAPES[f"blocks.{_layer}.attn.hook_{_name}"] = (IMAGES, TOKENS, HEADS, D_HEAD)
    for _name in ("attn_scores", "pattern"):
        SHAPES[f"blocks.{_layer}.attn.hook_{_name}"] = (IMAGES, HEADS, TOKENS, TOKENS)
    SHAPES[f"blocks.{_layer}.attn.hook_result"] = (IMAGES, TOKENS, HEADS, WIDTH)
    for _name in ("pre", "post"):
        SHAPES[f"blocks.{_layer}.mlp.hook_{_name}"] = (IMAGES, TOKENS, HIDDEN)


@pytest.fixture(scope="module")
def tower():
    return HookedVisionTransformer.from_open_clip(random_tower(11, ls_init_value=0.1)).double()


@pytest.fixture(scope="module")
def images():
    return random_images(random_tower(11)).double()


@pytest.fixture(scope="module")
def cached(tower, images):
    with torch.no_grad():
        return tower.run_with_cache(images)


def test_every_name_of_the_contract_is_there_with_its_shape_and_no_other(cached):
    _, cache = cached
    assert {name: tuple(tensor.shape) for name, tensor in cache.items()} == SHAPES


def test_listening_changes_nothing(tower, images, cached):
    torch.testing.assert_close(cached[0], tower(images), rtol=1e-12, atol=1e-12)
    assert not tower.list_hooks()


def test_short_names_reach_the_same_tensors(cached):
    _, cache = cached
    assert cache["resid_post", 2] is cache["blocks.2.hook_resid_post"]
    assert cache["z", -1] is cache["blocks.2.attn.hook_z"]
    assert cache["pattern", 0] is cache["blocks.0.attn.hook_pattern"]
    assert cache["scale", 1, "ln2"] is cache["blocks.1.ln2.hook_scale"]
    assert cache["normalized"] is cache["ln_final.hook_normalized"]


def test_activations_are_related_as_their_names_say(tower, cached):
    _, cache = cached
    for layer, block in enumerate(tower.layers):
        torch.testing.assert_close(cache["resid_mid", layer], cache["resid_pre", layer] + cache["attn_out", layer])
        torch.testing.assert_close(cache["resid_post", layer], cache["resid_mid", layer] + cache["mlp_out", layer])
        summands = cache["result", layer].sum(2) + block.attn.b_O * block.attn.scale
        torch.testing.assert_close(cache["attn_out", layer], summands)
        torch.testing.assert_close(cache["pattern", layer], cache["attn_scores", layer].softmax(-1))
        mixed = torch.einsum("ihqk,ikhd->iqhd", cache["pattern", layer], cache["v", layer])
        torch.testing.assert_close(cache["z", layer], mixed)
        scale = cache["resid_mid", layer].var(-1, correction=0, keepdim=True).add(tower.cfg.eps).sqrt()
        torch.testing.assert_close(cache["scale", layer, "ln2"], scale)
    stream = cache["embed"] + cache["pos_embed"]
    torch.testing.assert_close(cache["ln_pre.hook_normalized"], tower.ln_pre(stream))
    torch.testing.assert_close(cache["resid_pre", 0], cache["ln_pre.hook_normalized"])


@pytest.mark.parametrize("name", ["attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_result", "ln1.hook_scale"])
def test_the_open_computation_agrees_with_the_fused_one(tower, images, cached, name):
    embedding = tower.run_with_hooks(images, fwd_hooks=[(f"blocks.1.{name}", lambda x, hook: x)])
    torch.testing.assert_close(embedding, cached[0], rtol=1e-12, atol=1e-12)


def test_a_filter_takes_a_name_a_list_or_a_condition(tower, images):
    name = "blocks.1.attn.hook_z"
    for names_filter in (name, [name], (name,), {name}, lambda one: one == name):
        _, cache = tower.run_with_cache(images, names_filter=names_filter)
        assert list(cache.keys()) == [name]
    _, cache = tower.run_with_cache(images[:1], names_filter=name, remove_batch_dim=True)
    assert cache[name].shape == (TOKENS, HEADS, D_HEAD)


def test_results_are_computed_only_when_something_listens(tower, images, monkeypatch):
    seen = []
    monkeypatch.setattr(tower.layers[0].attn.hook_result, "forward", lambda x: seen.append(1) or x)
    tower(images)
    assert not seen
    tower.run_with_cache(images, names_filter="blocks.0.attn.hook_result")
    assert seen


@pytest.mark.parametrize("where", ["blocks.1.attn.hook_zz", "blocks.3.attn.hook_z", "blocks.1.attn", ""])
def test_an_unknown_name_is_an_error_wherever_it_is_given(tower, images, where):
    with pytest.raises(ModelError, match="hook point"):
        tower.run_with_hooks(images, fwd_hooks=[(where, lambda x, hook: x)])
    with pytest.raises(ModelError, match="hook point"):
        tower.run_with_cache(images, names_filter=where)
    with pytest.raises(ModelError, match="hook point"):
        tower.run_with_cache(images, names_filter=["hook_embed", where])
    with pytest.raises(ModelError, match="hook point"):
        tower.add_hook(where, lambda x, hook: x)
    with pytest.raises(ModelError, match="a condition that none meets"):
        tower.run_with_cache(images, names_filter=lambda name: name == where)
    assert not tower.list_hooks() and not tower.is_caching


def test_a_near_name_is_suggested(tower, images):
    with pytest.raises(ModelError, match=r"blocks\.1\.attn\.hook_z"):
        tower.run_with_hooks(images, fwd_hooks=[("blocks.1.attn.hook_zz", lambda x, hook: x)])


def test_hooks_go_when_the_call_fails(tower, images):
    def fail(x, hook):
        raise RuntimeError("from inside a hook")

    with pytest.raises(RuntimeError, match="from inside"):
        tower.run_with_hooks(images, fwd_hooks=[("blocks.0.hook_resid_pre", fail)])
    assert not tower.list_hooks()


def test_an_image_of_another_size_is_refused(tower):
    with pytest.raises(ModelError, match=r"\[image, 3, 6, 6\]"):
        tower(torch.zeros(2, 3, 6, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    "name",
    ["hook_embed", "hook_pos_embed", "blocks.1.hook_resid_mid", "blocks.2.attn.hook_z", "blocks.0.mlp.hook_post"],
)
def test_what_a_hook_returns_or_writes_is_what_goes_on(tower, images, cached, name):
    def halve(x, hook):
        return x * 0.5

    def halve_in_place(x, hook):
        x *= 0.5

    with torch.no_grad():
        returned = tower.run_with_hooks(images, fwd_hooks=[(name, halve)])
        written = tower.run_with_hooks(images, fwd_hooks=[(name, halve_in_place)])
    torch.testing.assert_close(returned, written, rtol=1e-12, atol=1e-12)
    assert (returned - cached[0]).abs().max() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(tower(images), cached[0], rtol=1e-12, atol=1e-12)


def test_replacing_a_z_is_replacing_what_the_head_adds(tower, images):
    def zero_head(x, hook):
        return torch.where(torch.arange(HEADS)[:, None] == 3, 0, x)

    with torch.no_grad():
        _, cache = tower.run_with_cache(images, names_filter="blocks.1.attn.hook_result")
        at_z = tower.run_with_hooks(images, fwd_hooks=[("blocks.1.attn.hook_z", zero_head)])
        at_out = tower.run_with_hooks(
            images, fwd_hooks=[("blocks.1.hook_attn_out", lambda x, hook: x - cache["result", 1][:, :, 3])]
        )
    torch.testing.assert_close(at_z, at_out, rtol=1e-12, atol=1e-12)


def test_gradients_flow_through_hooks(tower, images):
    kept = {}

    def keep(x, hook):
        x.retain_grad()
        kept[hook.name] = x

    direction = torch.linspace(-1, 1, EMBED, dtype=torch.float64)
    with tower.hooks(fwd_hooks=[("blocks.1.attn.hook_z", keep)]):
        (tower(images) @ direction).sum().backward()
    gradient = kept["blocks.1.attn.hook_z"].grad
    step = torch.zeros_like(gradient)
    step[1, 4, 2, 5] = 1e-6

    def score(sign):
        moved = tower.run_with_hooks(images, fwd_hooks=[("blocks.1.attn.hook_z", lambda x, hook: x + sign * step)])
        return (moved @ direction).sum()

    with torch.no_grad():
        measured = (score(1) - score(-1)) / 2e-6
    torch.testing.assert_close(gradient[1, 4, 2, 5], measured, rtol=1e-6, atol=1e-9)
    assert gradient.abs().sum() > 0


def test_where_the_norm_follows_the_pooling_it_sees_one_token():
    tower = HookedVisionTransformer.from_open_clip(random_tower(12, pool_type="avg", final_ln_after_pool=True))
    _, cache = tower.run_with_cache(random_images(random_tower(12)))
    assert cache["ln_final.hook_normalized"].shape == (IMAGES, 1, WIDTH)
    without = HookedVisionTransformer.from_open_clip(random_tower(12, no_ln_pre=True))
    assert not any(name.startswith("ln_pre") for name in without.hook_dict)
