"""Every family of vision towers: parity with its library, an exact decomposition, and all that is built on it."""

import copy
import warnings

import families
import pytest
import torch

import headlens as hl
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
    torch.testing.assert_close(vision.token_states(images).sum(3), states.z, **close)
    if cfg.pool == "tok":
        torch.testing.assert_close(states.scale[:, :1] * basis.stem, states.stem, **close)


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
