"""A tower whose every number can be worked out by hand.

One layer, two heads of width 1, a residual stream of two features, an image of 1 × 2 pixels with one patch a pixel.
A normalised pair (a, b) is (1, −1) where a > b and (−1, 1) where a < b, so that nothing has to be rounded. Queries
are zero: every token attends to all three alike.
"""

import pytest
import torch

import headlens as hl
from headlens.models import HookedVisionTransformer, VisionConfig

CONFIG = VisionConfig(
    n_layers=1,
    n_heads=2,
    d_model=2,
    d_head=1,
    d_mlp=1,
    d_embed=2,
    image_size=(1, 2),
    patch_size=(1, 1),
    ln_pre=False,
    act="quick_gelu",
    eps=0.0,
)


@pytest.fixture
def micro():
    tower = HookedVisionTransformer(CONFIG)
    attn, mlp = tower.layers[0].attn, tower.layers[0].mlp
    with torch.no_grad():
        tower.W_E.copy_(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]).view(2, 3, 1, 1))  # red r becomes (r, −r)
        tower.class_token.copy_(torch.tensor([4.0, 2.0]))
        tower.W_pos.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0], [5.0, 5.0]]))
        attn.W_V.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(2, 2, 1))  # first feature; twice the second
        attn.b_V.copy_(torch.tensor([[0.0], [1.0]]))
        attn.W_O.copy_(torch.tensor([[3.0, 0.0], [1.0, 4.0]]).view(2, 1, 2))
        attn.b_O.copy_(torch.tensor([0.0, 2.0]))
        mlp.b_out.copy_(torch.tensor([-2.0, 1.0]))
        tower.ln_final.w.copy_(torch.tensor([2.0, 1.0]))
        tower.ln_final.b.copy_(torch.tensor([0.0, 0.5]))
        tower.W_P.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    return tower


def picture(*red):
    pixels = torch.zeros(1, 3, 1, 2)
    pixels[0, 0, 0] = torch.tensor(red)
    return pixels


def test_every_number_of_a_forward_pass(micro):
    """Red 3 and −2: the stream starts at (5, 2), (3, −3), (3, 7), which normalises to (1, −1), (1, −1), (−1, 1)."""
    embedding, cache = micro.run_with_cache(picture(3.0, -2.0))
    assert cache["resid_pre", 0][0].tolist() == [[5, 2], [3, -3], [3, 7]]
    assert cache["blocks.0.ln1.hook_scale"][0].tolist() == [[1.5], [3], [2]]
    assert cache["v", 0][0, :, :, 0].tolist() == [[1, -1], [1, -1], [-1, 3]]
    torch.testing.assert_close(cache["pattern", 0], torch.full((1, 2, 3, 3), 1 / 3))
    # Heads mix (1 + 1 − 1)/3 and (−1 − 1 + 3)/3 and add (1, 0) and (1/3, 4/3); the bias adds (0, 2).
    torch.testing.assert_close(cache["z", 0][0, 0, :, 0], torch.tensor([1 / 3, 1 / 3]))
    torch.testing.assert_close(cache["result", 0][0, 0], torch.tensor([[1.0, 0.0], [1 / 3, 4 / 3]]))
    torch.testing.assert_close(cache["attn_out", 0][0, 0], torch.tensor([4 / 3, 10 / 3]))
    # (5, 2) + (4/3, 10/3) + (−2, 1) = (13/3, 19/3): mean 16/3, deviation 1, normalised (−1, 1).
    torch.testing.assert_close(cache["resid_post", 0][0, 0], torch.tensor([13 / 3, 19 / 3]))
    # (2 · −1 + 0, 1 · 1 + 1/2) = (−2, 3/2); times P: (−2 + 3/2, 3/2).
    torch.testing.assert_close(embedding, torch.tensor([[-0.5, 1.5]]))


def test_every_number_of_its_decomposition(micro):
    """σ = 1. Centred, (a, b) is (a − b)/2 · (1, −1); γ makes it (2, −1), P (1, −1): C = (a − b)/2 · (1, −1)."""
    parts = hl.decompose(micro, picture(3.0, -2.0))
    unit = torch.tensor([1.0, -1.0])
    torch.testing.assert_close(parts.heads[0, 0], torch.stack([0.5 * unit, -0.5 * unit]))  # (1, 0) and (1/3, 4/3)
    torch.testing.assert_close(parts.mlps[0, 0], -1.5 * unit)  # (−2, 1)
    torch.testing.assert_close(parts.stem[0], 1.5 * unit)  # (5, 2)
    torch.testing.assert_close(parts.constant[0], -1.0 * unit + 0.5)  # b_O = (0, 2), and βP = (1/2, 1/2)
    torch.testing.assert_close(parts.total(), torch.tensor([[-0.5, 1.5]]))


def test_every_number_of_its_tokens_and_of_the_spread_convention(micro):
    per_token = hl.decompose(micro, picture(3.0, -2.0), per_token=True)
    unit = torch.tensor([1.0, -1.0])
    # Token values (1, 1, −1)/3 through (3, 0), and (−1, −1, 3)/3 through (1, 4).
    expected = torch.stack([torch.tensor([0.5, 0.5, -0.5]), torch.tensor([0.5, 0.5, -1.5])])
    torch.testing.assert_close(per_token.heads[0, 0], expected[..., None] * unit)

    # Uncentred, (a, b) becomes (2a, b), times P (2a + b, b). Three components share μ and β:
    # −16/3 · (3, 1) + (1/2, 1/2) = (−31/2, −29/6), a third each; the heads halve theirs, and b_O's (2, 2).
    spread = hl.decompose(micro, picture(3.0, -2.0), constants="spread")
    share = torch.tensor([-31 / 6, -29 / 18])
    torch.testing.assert_close(spread.stem[0], torch.tensor([12.0, 2.0]) + share)
    torch.testing.assert_close(spread.mlps[0, 0], torch.tensor([-3.0, 1.0]) + share)
    torch.testing.assert_close(spread.heads[0, 0, 0], torch.tensor([2.0, 0.0]) + (share + 2) / 2)
    torch.testing.assert_close(spread.heads[0, 0, 1], torch.tensor([2.0, 4 / 3]) + (share + 2) / 2)
    assert spread.constant.abs().max() == 0
    torch.testing.assert_close(spread.total(), torch.tensor([[-0.5, 1.5]]))


def test_ablating_a_head_by_hand(micro):
    """Without head 1 the stream ends at (4, 5): normalised (−1, 1) again, so that the embedding stays, while the
    direct meaning takes the head's −(1, −1)/2 away at the old σ."""

    def zero(z, hook):
        return z * torch.tensor([[1.0], [0.0]])

    total = micro.run_with_hooks(picture(3.0, -2.0), fwd_hooks=[("blocks.0.attn.hook_z", zero)])
    torch.testing.assert_close(total, torch.tensor([[-0.5, 1.5]]))
    parts = hl.decompose(micro, picture(3.0, -2.0))
    torch.testing.assert_close(parts.total() - parts.heads[:, 0, 1], torch.tensor([[0.0, 1.0]]))
