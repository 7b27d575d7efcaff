"""What a head does: where in an image it reads."""

from headlens.explain.token_maps import token_maps

__all__ = ["token_maps"]
