"""The fingerprint names weights, settings and preprocessing; stores of early versions know its first part alone."""

import copy
import hashlib
import re

import pytest
import torch
from families import tower
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from tower_factory import random_tower

from headlens.fingerprint import fingerprint, same_model, weights_state
from headlens.models import HookedVisionTransformer
from headlens.models.open_clip_import import open_clip

HEX = st.text("0123456789abcdef", min_size=16, max_size=16)


def _hooked(**settings):
    return HookedVisionTransformer.from_open_clip(random_tower(1, layers=2, **settings))


def _early(module, preprocess):
    """What the first versions wrote."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    digest.update(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(preprocess)).encode())
    return digest.hexdigest()[:16]


SETTINGS = {
    "nonlinearity": {"quick_gelu": True},
    "eps": {"eps": 1e-2},
    "pooling": {"pool_type": "avg"},
    "norm after the pool": {"final_ln_after_pool": True},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_that_weights_do_not_show_are_part_of_it(settings):
    plain, other = _hooked(), _hooked(**settings)
    first, second = (fingerprint(one, one.cfg, "steps") for one in (plain, other))
    assert first != second and not same_model(first, second)
    assert first.partition("-")[0] == second.partition("-")[0]  # their weights are the same
    assert re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{8}", first)


STEMS = {
    "eps of a norm": lambda stem: setattr(stem.bn1, "eps", 0.1),
    "stride": lambda stem: setattr(stem.conv2, "stride", (2, 2)),
    "nonlinearity": lambda stem: setattr(stem, "act1", nn.GELU()),
}


@pytest.mark.parametrize("change", STEMS.values(), ids=STEMS.keys())
def test_settings_of_a_stem_that_is_kept_whole_are_part_of_it(change):
    hooked = HookedVisionTransformer.from_open_clip(tower("ResNet"))
    first, same = (fingerprint(one, one.cfg, "steps") for one in (hooked, copy.deepcopy(hooked)))
    change(hooked.stem)
    second = fingerprint(hooked, hooked.cfg, "steps")
    assert first == same != second and first.partition("-")[0] == second.partition("-")[0]


def test_what_a_step_of_open_clip_does_not_show_is_part_of_it():
    transforms = [open_clip().image_transform(12, False, resize_mode="longest", fill_color=c) for c in (0, 0, 128)]
    module = nn.Linear(2, 3)
    first, same, other = (fingerprint(module, None, one) for one in transforms)
    assert first == same != other


def test_its_first_part_is_what_early_versions_wrote():
    hooked = _hooked()
    transform = open_clip().image_transform(12, is_train=False)
    early = _early(hooked, transform)
    assert fingerprint(hooked, hooked.cfg, transform).startswith(f"{early}-")
    assert same_model(early, fingerprint(hooked, hooked.cfg, transform))


@given(HEX, HEX, HEX)
def test_early_fingerprints_match_by_weights_and_others_only_as_a_whole(one, other, rest):
    assert same_model(one, one) and same_model(one, f"{one}-{rest}") and same_model(f"{one}-{rest}", one)
    assert same_model(f"{one}-{rest}", f"{one}-{other}") == (rest == other)
    assert same_model(one, f"{other}-{rest}") == (one == other)


class Step:
    def __init__(self, mean):
        self.mean = mean

    def __call__(self, image):
        return image


def _closure(mean):
    def step(image):
        return image - mean

    return step


@pytest.mark.parametrize("make", [Step, _closure, lambda mean: Step(mean).__call__])
def test_values_inside_a_step_count_and_addresses_do_not(make):
    tower = nn.Linear(2, 3)
    settings = _hooked().cfg
    same = [fingerprint(tower, settings, make(0.5)) for _ in range(2)]
    assert same[0] == same[1] != fingerprint(tower, settings, make(0.4))


def test_inference_tensors_have_one_and_their_changes_are_seen():
    expected = _hooked()
    with torch.inference_mode():
        hooked = copy.deepcopy(expected)
    assert hooked.W_P.is_inference()
    assert fingerprint(hooked, hooked.cfg, "steps") == fingerprint(expected, expected.cfg, "steps")
    before = weights_state(hooked)
    assert before == weights_state(hooked)
    with torch.inference_mode():
        hooked.W_P[2, 3] += 1
    assert weights_state(hooked) != before


def test_changes_through_data_are_seen():
    hooked = _hooked()
    before = weights_state(hooked)
    hooked.W_P.data[2, 3] += 1
    assert weights_state(hooked) != before
