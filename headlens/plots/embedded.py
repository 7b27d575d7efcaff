"""Pictures inside a figure: small, and as text that a page can hold."""

from __future__ import annotations

import base64
import io

from PIL import Image


def picture_uri(picture: Image.Image, largest_png: int, quality: int) -> str:
    """A picture as a data URI: PNG where that takes at most `largest_png` bytes, else JPEG of that quality."""
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", optimize=True)
    kind = "png"
    if encoded.tell() > largest_png:
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=quality, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded.getvalue()).decode()}"
