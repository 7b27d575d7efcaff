"""Read an image file the one way that every part of headlens reads it: as RGB, upright, and with clear errors.

Steps: recognise the format by content (a file's name is never believed), refuse what is too large or too thin to be a
picture before anything is decoded, decode the first frame, turn it upright by its EXIF orientation, bring every mode to
8-bit RGB, cut out the box.

| stored as | read as |
|---|---|
| 8 bits a channel, grey, RGB, CMYK, YCbCr or LAB; a palette; 1 bit | RGB by Pillow's conversion |
| transparency of any kind | dropped: the colours under it show, as in open_clip's own preprocessing |
| 16 bits a channel | scaled, 65535 is white |
| 32-bit integers or floats | refused: there is no agreed black and white |

A file may lie on a disk or at an address that fsspec reaches (`s3://bucket/image.jpg`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from headlens.cells import other_kind
from headlens.errors import HeadlensError, ImageError, ManifestError

# Chosen by name, since some of Pillow's other readers run external programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
MAX_RATIO = 300
"""The longest side of a picture over its shortest: scaled to a short side of 224 pixels, it has 15 million pixels."""

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
_SIDEWAYS = (5, 6, 7, 8)


def read_image(path: str | os.PathLike[str], box: Sequence[float | int] | None = None) -> Image.Image:
    """An image file as an upright RGB image of its first frame.

    Args:
        path: the file, or its address.
        box: x, y, width, height in pixels of the upright image; the part of it inside the image is kept.

    Raises:
        ImageError: the file is missing, unreadable, truncated, not an image, of a kind without an agreed range of
            values, larger than `PIL.Image.MAX_IMAGE_PIXELS`, longer than `MAX_RATIO` times its width (or the other
            way round; of a box, the box), or the box lies outside of it.
        ManifestError: an address whose storage does not answer, which says nothing about the image.
    """
    source: Path | str = os.fspath(path) if is_url(path) else Path(path)
    where = repr(str(source))
    try:
        if isinstance(source, Path) and not source.is_file():
            kind = "is not a file" if source.exists() else "is not there"
            raise ImageError(f"The image {where} {kind}.", "Correct the path, or leave its row out.")
        if isinstance(source, Path) and not source.stat().st_size:
            raise ImageError(f"The image {where} is empty.", "Get the file again, or leave its row out.")
        with Image.open(fetch(source) if isinstance(source, str) else source, formats=FORMATS) as image:
            _check_size(image.size, where, ratio=box is None)
            image.load()
            rgb = _as_rgb(_upright(image), image.format, where)
        if box is not None:
            rgb = _cut(rgb, box, where)
            _check_size(rgb.size, where)
        return rgb
    except HeadlensError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"There is nothing at {where}.", "Correct the path, or leave its row out.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(where, str(error).split(",")[0]) from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        if isinstance(source, Path) and (found := _other_kind(source)):
            raise ImageError(f"The image {where} is {found[0]}.", found[1]) from error
        raise ImageError(
            f"The image {where} cannot be read: {str(error) or type(error).__name__}.",
            f"Replace the file, save it again as PNG or JPEG, or leave its row out. (Read are {', '.join(FORMATS)}.)",
        ) from error


def _other_kind(path: Path) -> tuple[str, str] | None:
    try:
        with path.open("rb") as file:
            return other_kind(file.read(512))
    except OSError:
        return None


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """The width and height of an image file as `read_image` will return it, from its header; None where it has none."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)
    except Exception:  # as in `read_image`, which will say what is wrong with it
        return None


def is_url(path: object) -> bool:
    """Whether a path is an address that fsspec reaches, rather than a file of this machine."""
    return isinstance(path, str) and bool(_URL.match(path)) and not path.startswith("file://")


def fetch(address: str) -> BytesIO:
    """The bytes at an address. Raises `FileNotFoundError`, and `ManifestError` where the storage does not answer."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(address)
        return BytesIO(system.cat_file(path))
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise ManifestError(
            f"To reach {address!r}, a package is missing: {str(error).rstrip('.')}.",
            "Install it with: pip install 'headlens[remote]' (S3), or the fsspec package of that storage.",
        ) from error
    except Exception as error:  # every storage has errors of its own
        raise ManifestError(
            f"The storage at {address!r} does not answer: {str(error).rstrip('.') or type(error).__name__}.",
            "Check the address, the network, and the credentials that this storage takes from the environment.",
        ) from error


def _check_size(size: tuple[int, int], where: str, ratio: bool = True) -> None:
    short, long = sorted(size)
    if Image.MAX_IMAGE_PIXELS is not None and short * long > Image.MAX_IMAGE_PIXELS:
        raise _too_large(where, f"{size[0]} × {size[1]} pixels")
    if ratio and long > MAX_RATIO * short:
        raise ImageError(
            f"The image {where} is {size[0]} × {size[1]} pixels: one side is more than {MAX_RATIO} times the other.",
            "Scaled to a model's input its long side would fill the memory: cut it, or leave its row out.",
        )


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # EXIF comes in any quality; a viewer ignores what it cannot read, and so does this
        return None


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image.copy() if turn is None else image.transpose(turn)


def _as_rgb(image: Image.Image, file_format: str | None, where: str) -> Image.Image:
    # In a PNG or PPM file Pillow's 32-bit mode holds 16 bits. Its own conversion would clip them and return white.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        image = Image.fromarray(np.round(np.asarray(image) / (_SIXTEEN_BIT / 255)).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageError(
            f"The image {where} has 32-bit values (mode {image.mode}), which have no agreed black and white.",
            "Save it as an 8-bit or 16-bit PNG.",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(
            f"The image {where} does not convert to RGB from mode {image.mode}.", "Save it as an RGB PNG or JPEG."
        ) from error


def _cut(image: Image.Image, box: Sequence[float | int], where: str) -> Image.Image:
    x, y, width, height = box
    edges = (x, y, min(x + width, image.width), min(y + height, image.height))
    left, top, right, bottom = (round(edge) for edge in edges)
    if not (0 <= left < right and 0 <= top < bottom):
        raise ImageError(
            f"The box x={x:g}, y={y:g}, width={width:g}, height={height:g} lies outside of the {image.width} × "
            f"{image.height} image {where}.",
            "A box is x, y, width, height in pixels from the top left of the upright image.",
        )
    return image.crop((left, top, right, bottom))


def _too_large(where: str, size: str) -> ImageError:
    return ImageError(
        f"The image {where} is too large ({size}; at most {Image.MAX_IMAGE_PIXELS:,} are read).",
        "Scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file.",
    )
