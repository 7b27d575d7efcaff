"""Read an image file the one way that every part of headlens reads it: as RGB, upright, and with clear
errors.

Steps: recognise the format by content (a file's name is never believed), refuse what is too large to be an
image, decode the first frame, turn it upright by its EXIF orientation, bring every mode to 8-bit RGB, cut
out the box.

A file may lie on a disk or at an address that fsspec reaches (`s3://bucket/image.jpg`).

Alpha is dropped as open_clip's own preprocessing drops it, so that numbers stay comparable with other
people's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from headlens.errors import ImageError, ManifestError

# Chosen by name, since some of Pillow's other readers run external programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
_SIXTEEN_BIT = 65535
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | os.PathLike[str], box: Sequence[float | int] | None = None) -> Image.Image:
    """An image file as an upright RGB image of its first frame.

    Args:
        path: the file, or its address.
        box: x, y, width, height in pixels of the upright image; the part of it inside the image is kept.

    Raises:
        ImageError: the file is missing, unreadable, truncated, not an image, of a kind without an agreed
            range of values (32-bit), larger than `PIL.Image.MAX_IMAGE_PIXELS`, or the box lies outside of
            it.
        ManifestError: an address whose storage does not answer, which says nothing about the image.
    """
    source: Path | str = os.fspath(path) if is_url(path) else Path(path)
    try:
        with Image.open(fetch(str(source)) if is_url(source) else source, formats=_FORMATS) as image:
            width, height = image.size
            if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
                raise _too_large(source, f"{width} × {height} pixels")
            image.load()
            upright = _upright(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(source, str(error)) from error
    except FileNotFoundError as error:
        raise ImageError("an image file", f"nothing at {str(source)!r}", "Correct the path.") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise ImageError(
            f"an image that can be read ({', '.join(_FORMATS)})",
            f"{str(source)!r}, which fails with: {str(error) or type(error).__name__}",
            "Replace the file, save it again as PNG or JPEG, or leave its row out.",
        ) from error
    rgb = _as_rgb(upright, source)
    return rgb if box is None else _cut(rgb, box, source)


def is_url(path: object) -> bool:
    """Whether a path is an address that fsspec reaches, rather than a file of this machine."""
    return isinstance(path, str) and bool(_URL.match(path)) and not path.startswith("file://")


def fetch(address: str) -> BytesIO:
    """The bytes at an address. Raises `FileNotFoundError`, and `ManifestError` where the storage does not answer."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
        return BytesIO(system.cat_file(path))
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise ManifestError(
            f"what is needed to reach {address!r}",
            str(error).rstrip("."),
            "Install it with: pip install 'headlens[remote]' (S3), or the fsspec package of that storage.",
        ) from error
    except Exception as error:  # every storage has errors of its own
        raise ManifestError(
            f"storage that answers at {address!r}",
            str(error).rstrip(".") or type(error).__name__,
            "Check the address, the network, and the credentials that this storage takes from the environment.",
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # EXIF comes in any quality; a viewer ignores what it cannot read, and so does this
        orientation = None
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image.copy() if turn is None else image.transpose(turn)


def _as_rgb(image: Image.Image, source: Path | str) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow's own conversion would clip 16 bits at 255 and return white
        values = np.asarray(image).astype(np.int64)
        if values.min() >= 0 and values.max() <= _SIXTEEN_BIT:
            image = Image.fromarray(np.round(values / (_SIXTEEN_BIT / 255)).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageError(
            "an image of 8 or 16 bits a channel",
            f"{str(source)!r} with 32-bit values (mode {image.mode})",
            "Such values have no agreed black and white: save it as an 8-bit PNG.",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(
            "an image that converts to RGB",
            f"{str(source)!r} in mode {image.mode}",
            "Save it as an RGB PNG or JPEG.",
        ) from error


def _cut(image: Image.Image, box: Sequence[float | int], source: Path | str) -> Image.Image:
    x, y, width, height = box
    edges = (x, y, min(x + width, image.width), min(y + height, image.height))
    left, top, right, bottom = (round(edge) for edge in edges)
    if not (0 <= left < right and 0 <= top < bottom):
        raise ImageError(
            f"a box inside the {image.width} × {image.height} image {str(source)!r}",
            f"x={x:g}, y={y:g}, width={width:g}, height={height:g}",
            "A box is x, y, width, height in pixels from the top left of the upright image.",
        )
    return image.crop((left, top, right, bottom))


def _too_large(source: Path | str, size: str) -> ImageError:
    return ImageError(
        f"an image of at most {Image.MAX_IMAGE_PIXELS:,} pixels",
        f"{str(source)!r} ({size})",
        "Scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file.",
    )
