"""A token map is the patches' part of what the decomposition gives a head, along each image's own direction."""

import pytest
import torch
from einops import einsum, rearrange
from tower_factory import random_images, random_tower

import headlens as hl
from headlens.errors import LocateError
from headlens.heads import HeadId

HEADS = [HeadId(2, 4), HeadId(0, 1)]


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_maps_are_the_decompositions_patches(pool: str) -> None:
    tower = random_tower(3, pool_type=pool).double()
    vision = hl.HookedVisionTransformer.from_open_clip(tower)
    images = random_images(tower, 2).double()
    directions = torch.randn(2, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    maps = hl.explain.token_maps(vision, images, HEADS, directions)
    parts = hl.decompose(vision, images, per_token=True, normalize=True)
    for i, (layer, head) in enumerate(HEADS):
        along = einsum(parts.heads[:, layer, head], directions, "image token embed, image embed -> image token")
        expected = rearrange(along[:, 1:], "image (row column) -> image row column", row=2, column=3)
        torch.testing.assert_close(maps[:, i], expected, rtol=0, atol=1e-12)


def test_a_head_outside_the_tower_is_refused() -> None:
    tower = random_tower(3)
    vision = hl.HookedVisionTransformer.from_open_clip(tower)
    with pytest.raises(LocateError, match="head L7H0"):
        hl.explain.token_maps(vision, random_images(tower, 1), [(7, 0)], torch.randn(1, 11))
