"""Towers that were changed since open_clip built them: converted where that is exact, else refused by name."""

import functools
import types

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize, prune
from tower_factory import random_images, random_tower, randomize

import headlens as hl
from headlens.errors import ModelError
from headlens.models import HookedVisionTransformer
from headlens.models.open_clip_import import open_clip

T = open_clip().transformer
VISION = {"image_size": 12, "layers": 2, "width": 10, "head_width": 5, "patch_size": 4}
TEXT = {"context_length": 11, "vocab_size": 53, "width": 6, "heads": 2, "layers": 1}


def block(tower, index=0):
    return tower.transformer.resblocks[index]


def _halved(module, inputs, output=None):
    return None if output is None else output * 0.5


def _patched(self, x):
    return x * 0.5


def set_to(*path_and_value):
    *path, value = path_and_value

    def edit(tower):
        target = functools.reduce(getattr, path[:-1], tower)
        setattr(target, path[-1], value)

    return edit


REFUSED = {
    "padding of the stem": (lambda t: set_to("conv1", "padding", (1, 1))(t), r"padding=\(1, 1\) at conv1"),
    "stride of the stem": (lambda t: set_to("conv1", "stride", (1, 2))(t), r"stride=\(1, 2\) at conv1"),
    "dilation of the stem": (lambda t: set_to("conv1", "dilation", (2, 2))(t), r"dilation=\(2, 2\) at conv1"),
    "forward hook": (lambda t: block(t).register_forward_hook(_halved), r"hook on transformer\.resblocks\.0 \(_halved"),
    "pre-hook": (lambda t: t.ln_pre.register_forward_pre_hook(_halved), r"hook on ln_pre"),
    "forward replaced": (
        lambda t: set_to("forward", types.MethodType(_patched, block(t)))(block(t)),
        r"method transformer\.resblocks\.0\.forward was replaced",
    ),
    "another method replaced": (lambda t: set_to("attention", _patched)(block(t, 1)), r"resblocks\.1\.attention"),
    "the tower's own method replaced": (lambda t: set_to("_pool", _patched)(t), r"method _pool"),
    "a module in the MLP": (
        lambda t: block(t).mlp.add_module("adapter", nn.Linear(35, 35)),
        r"further module transformer\.resblocks\.0\.mlp\.adapter \(Linear\)",
    ),
    "a module without weights": (lambda t: block(t).mlp.add_module("clip", nn.ReLU()), r"mlp\.clip \(ReLU\)"),
    "a parameter": (
        lambda t: t.register_parameter("prompt", nn.Parameter(torch.zeros(3, 35))),
        "further tensor prompt",
    ),
    "batch_first": (lambda t: set_to("batch_first", False)(block(t).attn), "batch_first=False"),
    "batch_first of the whole": (lambda t: set_to("transformer", "batch_first", False)(t), "batch_first=False"),
    "one block's heads": (lambda t: set_to("head_dim", 5)(block(t).attn), "head_dim=5"),
    "positions of another grid": (
        lambda t: set_to("positional_embedding", nn.Parameter(torch.zeros(17, 35)))(t),
        r"\[17, 35\] as shape of positional_embedding",
    ),
    "another kind of layer": (lambda t: set_to("c_fc", nn.Identity())(block(t).mlp), "Identity"),
    "whole numbers": (
        lambda t: set_to("weight", nn.Parameter(block(t).mlp.c_fc.weight.detach().to(torch.int8), requires_grad=False))(
            block(t).mlp.c_fc
        ),
        r"int8 numbers for blocks\.0\.mlp\.W_in.*quantised",
    ),
    "a block in half precision": (
        lambda t: block(t, 1).to(torch.bfloat16),
        r"several types.*bfloat16 numbers for blocks\.1\.attn\.W_Q and 15 more, where most are float32",
    ),
    "norms in half precision": (lambda t: t.ln_post.half(), r"float16 numbers for ln_final\.w and 1 more"),
    "a projection of another type": (lambda t: set_to("data", t.proj.data.double())(t.proj), "float64 numbers for W_P"),
    "sparse weights": (
        lambda t: set_to("proj", nn.Parameter(t.proj.detach().to_sparse()))(t),
        r"weight proj is a Tensor \(torch\.sparse_coo\)",
    ),
    "no numbers yet": (lambda t: t.to("meta"), "on the device 'meta'"),
    "a stem with a bias": (lambda t: set_to("bias", nn.Parameter(torch.zeros(35)))(t.conv1), "bias"),
}


@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_be_lost_is_refused_by_name(edit, message):
    tower = random_tower(1)
    edit(tower)
    with pytest.raises(ModelError, match=message) as caught:
        HookedVisionTransformer.from_open_clip(tower)
    assert caught.value.remedy


def test_a_method_replaced_in_the_class_is_refused_and_a_subclass_too(monkeypatch):
    tower = random_tower(2)
    with monkeypatch.context() as patch:
        patch.setattr(T.ResidualAttentionBlock, "forward", _patched)
        with pytest.raises(ModelError, match=r"ResidualAttentionBlock\.forward was replaced"):
            HookedVisionTransformer.from_open_clip(tower)
    HookedVisionTransformer.from_open_clip(tower)

    class Own(T.VisionTransformer):
        pass

    tower.__class__ = Own
    with pytest.raises(ModelError, match="Own"):
        HookedVisionTransformer.from_open_clip(tower)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Lora(nn.Module):
    """An adapter with peft's interface."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer, self.merged = base_layer, False
        self.lora_A, self.lora_B = nn.Linear(base_layer.in_features, 3), nn.Linear(3, base_layer.out_features)
        randomize(self, seed=9)

    def forward(self, x):
        added = 0 if self.merged else x @ self.lora_A.weight.T @ self.lora_B.weight.T
        return self.base_layer(x) + added

    def merge(self):
        self.base_layer.weight.data += self.lora_B.weight @ self.lora_A.weight
        self.merged = True

    def get_base_layer(self):
        return self.base_layer


class ForgetfulLora(Lora):
    def merge(self):
        self.merged = True


class OpaqueLora(nn.Module):
    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer

    def forward(self, x):
        return self.base_layer(x) + x.mean()


class LinearLora(nn.Linear):
    """An adapter with loralib's interface: evaluation mode merges it."""

    def __init__(self, layer):
        super().__init__(layer.in_features, layer.out_features)
        self.weight, self.bias, self.merged = layer.weight, layer.bias, False
        self.lora_A = nn.Parameter(torch.randn(3, layer.in_features))
        self.lora_B = nn.Parameter(torch.randn(layer.out_features, 3) / 9)

    def train(self, mode=True):
        super().train(mode)
        if not mode and not self.merged:
            self.weight.data += self.lora_B @ self.lora_A
            self.merged = True
        return self

    def forward(self, x):
        return super().forward(x) + (0 if self.merged else x @ self.lora_A.T @ self.lora_B.T)


def _pruned_part(tower):
    prune.l1_unstructured(block(tower).mlp.c_fc, "weight", amount=0.3)


def _old_weight_norm(tower):
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(block(tower).mlp.c_proj)
    with torch.no_grad():
        block(tower).mlp.c_proj.weight_g *= 1.5


def _new_weight_norm(tower):
    parametrizations.weight_norm(block(tower, 1).mlp.c_fc)
    with torch.no_grad():
        block(tower, 1).mlp.c_fc.parametrizations.weight.original0 *= 1.5


MERGED = {
    "parametrised": lambda t: parametrize.register_parametrization(block(t).mlp.c_fc, "weight", Doubled()),
    "parametrised in attention": lambda t: parametrize.register_parametrization(
        block(t).attn, "in_proj_weight", Doubled()
    ),
    "weight norm": _old_weight_norm,
    "weight norm as a parametrisation": _new_weight_norm,
    "spectral norm": lambda t: nn.utils.spectral_norm(block(t).mlp.c_fc),
    "pruned": _pruned_part,
    "LoRA": lambda t: set_to("c_fc", Lora(block(t).mlp.c_fc))(block(t).mlp),
    "LoRA of loralib": lambda t: set_to("c_fc", LinearLora(block(t).mlp.c_fc).train())(block(t).mlp),
    "activation checkpointing around a block": lambda t: set_to("1", checkpoint_wrapper(block(t, 1)))(
        t.transformer.resblocks
    ),
    "a block that serves twice": lambda t: set_to("1", block(t))(t.transformer.resblocks),
    "a block taken out": lambda t: set_to("resblocks", t.transformer.resblocks[:-1])(t.transformer),
    "a block compiled in place": lambda t: block(t).compile(backend="eager"),
    "no bias of the output": lambda t: set_to("bias", None)(block(t).attn.out_proj),
    "no bias of the MLP": lambda t: set_to("bias", None)(block(t).mlp.c_fc),
    "no bias of queries, keys and values": lambda t: set_to("in_proj_bias", None)(block(t).attn),
}


@pytest.mark.parametrize("edit", MERGED.values(), ids=MERGED.keys())
def test_what_can_be_merged_exactly_is_merged_and_the_original_stays(edit):
    tower = random_tower(3)
    edit(tower)
    images = random_images(tower)
    with torch.no_grad():
        expected = tower(images)
        got = HookedVisionTransformer.from_open_clip(tower)(images)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(tower(images), expected)


def test_adapters_that_cannot_be_merged_are_refused_by_name():
    for adapter, message in ((OpaqueLora, "OpaqueLora.*cannot be merged"), (ForgetfulLora, "changes what it computes")):
        tower = random_tower(4)
        block(tower).mlp.c_fc = adapter(block(tower).mlp.c_fc)
        with pytest.raises(ModelError, match=message):
            HookedVisionTransformer.from_open_clip(tower)
    tower = random_tower(4)
    block(tower).attn.out_proj = Lora(block(tower).attn.out_proj)
    with pytest.raises(ModelError, match=r"adapter at transformer\.resblocks\.0\.attn\.out_proj"):
        HookedVisionTransformer.from_open_clip(tower)


@pytest.fixture
def model():
    return randomize(open_clip().CLIP(7, VISION, TEXT), seed=5)


def _tokens(texts):
    return torch.ones(len(texts), 11, dtype=torch.long)


def _compiled(module):
    return torch.compile(module, backend="eager")  # the usual backend takes seconds to import


def _wrapped_inside(model):
    model.visual.transformer.resblocks[1] = _compiled(model.visual.transformer.resblocks[1])
    model.visual = _compiled(model.visual)
    return model


class Peft(nn.Module):
    """The outside of a model of peft."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def __getattr__(self, name):
        return super().__getattr__(name) if name in ("inner", "_modules") else getattr(self.inner, name)

    def merge_and_unload(self):
        return self.inner


@pytest.mark.parametrize("wrap", [nn.DataParallel, _compiled, _wrapped_inside, Peft])
def test_wrappers_are_taken_off(model, wrap):
    images = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.encode_image(images)
    clip = hl.HookedCLIP.from_open_clip(wrap(model), str, _tokens)
    torch.testing.assert_close(clip.encode_image(images), expected, rtol=1e-5, atol=1e-6)
    assert clip.encode_text(["a heron"]).shape == (1, 7)


def test_torchscript_and_quantised_modules_are_refused_by_name(model):
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(nn.Linear(2, 3))
    with pytest.raises(ModelError, match="TorchScript"):
        hl.HookedCLIP.from_open_clip(scripted, str, _tokens)

    class Packed(torch.Tensor):
        pass

    attn = model.visual.transformer.resblocks[0].attn
    attn.out_proj.weight = nn.Parameter(attn.out_proj.weight.detach().as_subclass(Packed))
    with pytest.raises(ModelError, match=r"resblocks\.0\.attn\.out_proj\.weight is a Packed"):
        hl.HookedCLIP.from_open_clip(model, str, _tokens)


def test_an_encode_image_that_adds_something_is_refused_and_one_that_adds_nothing_is_not(model):
    class Adding(open_clip().CLIP):
        def encode_image(self, image, normalize=False):
            return super().encode_image(image, normalize) + 1

    class Passing(open_clip().CLIP):
        def encode_image(self, image, normalize=False):
            return super().encode_image(image, normalize)

    model.__class__ = Adding
    with pytest.raises(ModelError, match=r"Adding\.encode_image computes something else"):
        hl.HookedCLIP.from_open_clip(model, str, _tokens)
    model.__class__ = Passing
    assert hl.HookedCLIP.from_open_clip(model, str, _tokens).logit_bias is None


def test_a_transform_for_training_is_refused(model):
    for is_train in (True, False):
        transform = open_clip().image_transform(12, is_train=is_train)
        if is_train:
            with pytest.raises(ModelError, match=r"random steps \(RandomResizedCrop\)"):
                hl.HookedCLIP.from_open_clip(model, transform, _tokens)
        else:
            assert hl.HookedCLIP.from_open_clip(model, transform, _tokens).description.preprocessing.size == (12, 12)
