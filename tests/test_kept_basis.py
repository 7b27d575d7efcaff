"""A basis that is kept is folded again as soon as the weights under it are others."""

import copy
import gc
import weakref

import pytest
import torch
from tower_factory import random_images, random_tower

import headlens as hl
from headlens.states import kept_basis as module
from headlens.states.basis import HeadBasis
from headlens.states.kept_basis import kept_basis


@pytest.fixture
def vision():
    return hl.HookedVisionTransformer.from_open_clip(random_tower(3, layers=2, heads=8, d_head=40, embed=257))


def double(weight):
    with torch.no_grad():
        weight.mul_(2)


def one_row_through_data(weight):
    weight.data[..., 0] += 1


def another_tensor(weight):
    weight.data = weight.data + 1


CHANGES = {
    "in place": lambda v: double(v.blocks[1].attn.W_O),
    "the bias": lambda v: double(v.blocks[0].attn.b_O),
    "the projection": lambda v: double(v.W_P),
    "the last norm": lambda v: double(v.ln_final.w),
    "a column through .data": lambda v: one_row_through_data(v.W_P),
    "a head through .data": lambda v: v.blocks[0].attn.W_O.data[2].mul_(3),
    "another tensor": lambda v: another_tensor(v.W_P),
    "weights that are loaded": lambda v: v.load_state_dict({k: 2 * w for k, w in v.state_dict().items()}),
    "another type": lambda v: v.double(),
    "a step of an optimizer": lambda v: (v.W_P.sum().backward(), torch.optim.SGD([v.W_P], 1.0).step()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(vision, change):
    first = kept_basis(vision)
    assert kept_basis(vision) is first
    CHANGES[change](vision)
    now, fresh = kept_basis(vision), HeadBasis.from_vision(vision)
    assert now is not first
    for name, value in vars(fresh).items():
        torch.testing.assert_close(getattr(now, name), value, rtol=0, atol=0)


def test_it_is_not_folded_again_for_every_image(vision, monkeypatch):
    folded = []
    fold = HeadBasis.from_vision
    monkeypatch.setattr(module.HeadBasis, "from_vision", lambda one, whole: folded.append(one) or fold(one, whole))
    images = torch.randn(2, 3, *vision.cfg.image_size)
    for options in ({}, {"per_token": True}, {"constants": "spread"}):
        hl.decompose(vision, images, **options)
    assert folded == [vision]


def test_a_copy_has_its_own(vision):
    first = kept_basis(vision)
    other = copy.deepcopy(vision)
    double(other.W_P)
    assert kept_basis(vision) is first
    torch.testing.assert_close(kept_basis(other).beta, 2 * first.beta)


def test_it_goes_with_the_tower():
    vision = hl.HookedVisionTransformer.from_open_clip(random_tower(3, layers=1, heads=2, d_head=3, embed=5))
    basis = weakref.ref(kept_basis(vision))
    assert basis() is not None
    del vision
    gc.collect()
    assert basis() is None


def test_gradients_after_inference():
    visual = random_tower(1, layers=2, heads=2, d_head=3, embed=5)
    vision, images = hl.HookedVisionTransformer.from_open_clip(visual), random_images(visual, count=2, seed=0)
    with torch.inference_mode():
        hl.decompose(vision, images)
    images.requires_grad_()
    hl.decompose(vision, images).heads[:, 1, 1].sum().backward()
    assert images.grad.abs().sum() > 0


def test_weights_that_torch_does_not_watch():
    with torch.inference_mode():
        vision = hl.HookedVisionTransformer.from_open_clip(random_tower(3, layers=1, heads=2, d_head=3, embed=5))
        first = kept_basis(vision)
        vision.W_P.mul_(2)
        torch.testing.assert_close(kept_basis(vision).beta, 2 * first.beta)
