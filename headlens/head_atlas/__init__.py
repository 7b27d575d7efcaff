"""The atlas: a static site of a model's heads, a page a head, that opens from a folder and asks no server."""

from headlens.head_atlas.build import atlas

__all__ = ["atlas"]
