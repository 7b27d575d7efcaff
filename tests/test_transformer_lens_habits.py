"""What users of TransformerLens call works on a vision tower of any family, exactly, or is refused."""

import copy
from functools import partial

import pytest
import torch
from clip_configs import CONFIG
from families import tower as family_tower
from test_models_save import clip_of
from torch.testing import assert_close
from tower_factory import random_tower

import headlens as hl
from headlens.errors import ModelError
from headlens.models.patching import patch_heads

close = partial(assert_close, rtol=1e-9, atol=1e-10)
TOWERS = {
    "pre-norm and LayerScale": lambda: random_tower(11, ls_init_value=0.1),
    "no pre-norm": lambda: random_tower(12, no_ln_pre=True),
    "post-norm": lambda: family_tower("EVA-02 E"),
    "sub-norms, gated, rotated": lambda: family_tower("EVA-02"),
    "attention pool": lambda: family_tower("SigLIP"),
}


@pytest.fixture(scope="module", params=TOWERS)
def run(request):
    vision = hl.HookedVisionTransformer.from_open_clip(TOWERS[request.param]()).double()
    images = torch.randn(2, 3, *vision.cfg.image_size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedding, cache = vision.run_with_cache(images)
        yield vision, images, embedding, cache


def test_the_stream_is_the_sum_of_what_was_added(run):
    vision, _, _, cache = run
    last = vision.cfg.n_layers - 1
    close(cache.decompose_resid().sum(0), cache["resid_post", last])
    close(cache.decompose_resid(1, mlp_input=True).sum(0), cache["resid_mid", 1])
    stack, labels = cache.decompose_resid(1, pos_slice=0, return_labels=True)
    assert len(stack) == len(labels) and labels[0] == "embed"
    close(stack.sum(0), cache["resid_pre", 1][:, 0])


def test_neurons_sum_to_the_mlp(run):
    vision, _, _, cache = run
    for layer, block in enumerate(vision.layers):
        bias = block.mlp.b_out if block.mlp.scale is None else block.mlp.b_out * block.mlp.scale
        if block.post_norm:
            bias = (bias - bias.mean()) / cache[f"blocks.{layer}.ln2.hook_scale"] * block.ln2.w + block.ln2.b
        neurons = cache.get_neuron_results(layer)
        close(neurons.sum(-2) + bias, cache["mlp_out", layer])
        close(cache.get_neuron_results(layer, project_output_onto=bias[..., :1].new_ones(vision.cfg.d_model)),
              neurons.sum(-1))  # fmt: skip


def test_heads_neurons_and_biases_sum_to_the_stream(run):
    vision, _, _, cache = run
    if vision.cfg.post_norm:
        with pytest.raises(ModelError, match="image by image"):
            cache.get_full_resid_decomposition()
        return
    for expand in (True, False):
        stack, labels = cache.get_full_resid_decomposition(expand_neurons=expand, return_labels=True)
        assert (
            len(stack) == len(labels) and labels[: vision.cfg.n_heads] == vision.all_head_labels()[: vision.cfg.n_heads]
        )
        close(stack.sum(0), cache["resid_post", vision.cfg.n_layers - 1])


def test_head_results_come_from_z_too(run):
    vision, images, _, cache = run
    names = [name for name in cache if "result" not in name]
    _, without = vision.run_with_cache(images, names_filter=names)
    close(without.stack_head_results(), cache.stack_head_results())
    remainder = cache.stack_head_results(1, incl_remainder=True).sum(0)
    close(remainder, cache["resid_post", 0])


def test_logit_attributions_sum_to_the_logit(run):
    vision, _, embedding, cache = run
    text = torch.linspace(-1, 1, vision.cfg.d_embed, dtype=torch.float64)
    stack = cache.decompose_resid(pos_slice=0)
    if vision.pool is not None:
        with pytest.raises(ModelError, match="attention pool"):
            cache.logit_attrs(stack, text, pos_slice=0)
        return
    found = cache.logit_attrs(stack, text, pos_slice=0).sum(0)
    constant = vision.project(vision.ln_final.b[None])[0] @ text
    if vision.cfg.pool == "tok":
        close(found + constant, embedding @ text)
    with pytest.raises(ModelError, match="no vocabulary"):
        cache.logit_attrs(stack, "heron")


def test_norms_of_summands_sum_to_the_norm(run):
    vision, _, _, cache = run
    if vision.cfg.post_norm:
        with pytest.raises(ModelError, match="no norm"):
            cache.decompose_resid(1, apply_ln=True)
        return
    stack = cache.decompose_resid(1, mlp_input=True, apply_ln=True).sum(0)
    close(stack + vision.layers[1].ln2.b, cache["blocks.1.ln2.hook_normalized"])


def test_accumulated_stream(run):
    vision, _, _, cache = run
    stack = cache.accumulated_resid()
    close(stack[-1], cache["resid_post", vision.cfg.n_layers - 1])


def test_the_run_stops_before_a_layer(run):
    vision, images, _, cache = run
    close(vision(images, stop_at_layer=0), cache["resid_pre", 0])
    close(vision(images, stop_at_layer=-1), cache["resid_post", vision.cfg.n_layers - 2])


def test_weights_are_stacked(run):
    vision = run[0]
    cfg = vision.cfg
    assert vision.W_Q.shape == (cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_head)
    assert vision.b_O.shape == (cfg.n_layers, cfg.d_model)
    assert vision.W_in.shape == (cfg.n_layers, cfg.d_model, cfg.d_mlp)
    assert vision.QK.shape == vision.OV.shape == (cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_model)
    block = vision.layers[1].attn
    close(vision.QK.AB[1, 2], block.W_Q[2] @ block.W_K[2].T)
    assert (cfg.n_ctx, cfg.act_fn) == (cfg.n_tokens, cfg.act)
    assert (cfg.device, cfg.dtype) == (torch.device("cpu"), torch.float64)
    moved = copy.deepcopy(vision)
    assert torch.nn.Sequential(moved).bfloat16()[0].cfg.dtype == torch.bfloat16 == moved.dtype
    assert moved.cfg == cfg and cfg.dtype == torch.float64  # where a tower is decides nothing about what it is
    if not cfg.gated:
        with pytest.raises(ModelError, match=r"no mlp\.W_gate"):
            _ = vision.W_gate
    with pytest.raises(AttributeError):
        _ = vision.W_U


def test_a_patched_head_is_what_its_hook_gives(run):
    vision, images, embedding, cache = run
    text = torch.linspace(-1, 1, vision.cfg.d_embed, dtype=torch.float64)

    def metric(x):
        return (x @ text).sum()

    same = patch_heads(vision, images, cache, metric)
    assert_close(same, metric(embedding).float().expand_as(same), rtol=1e-4, atol=1e-4)
    other = patch_heads(vision, images.flip(0), cache, metric, by_position=True)
    assert other.shape == (vision.cfg.n_layers, vision.cfg.n_heads, vision.cfg.n_tokens)
    assert other.std() > 1e-4


def test_hooks_of_the_whole_model_are_the_towers():
    clip = clip_of(CONFIG)
    pixels = torch.randn(2, 3, *clip.vision.cfg.image_size)
    name = "blocks.1.attn.hook_z"
    _, cache = clip.run_with_cache(pixels, names_filter=name)
    assert list(cache) == [name] and name in clip.hook_dict
    zeroed = clip.run_with_hooks(pixels, fwd_hooks=[(name, lambda x, hook: x * 0)]).detach()
    with clip.hooks(fwd_hooks=[(name, lambda x, hook: x * 0)]):
        assert_close(clip.encode_image(pixels), zeroed)
    clip.add_hook(name, lambda x, hook: x * 0)
    clip.reset_hooks()
    assert not clip.vision.list_hooks()
