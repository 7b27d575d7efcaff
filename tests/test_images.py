"""Reading image files: every kind comes out as upright 8-bit RGB, or as an error that names the file."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headlens.errors import ImageError
from headlens.images import read_image

WIDTH, HEIGHT = 13, 7


def picture() -> Image.Image:
    red, blue = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    return Image.fromarray(np.stack([red, 0 * red + 90, blue], axis=-1).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "gif"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    picture().save(path)
    image = read_image(path)
    assert image.mode == "RGB"
    assert image.size == (WIDTH, HEIGHT)
    assert np.abs(pixels(image) - pixels(picture())).max() <= (3 if suffix == "gif" else 0)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    picture().save(path, format="PNG")
    np.testing.assert_array_equal(pixels(read_image(path)), pixels(picture()))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK").save(path, quality=100)
    np.testing.assert_allclose(pixels(read_image(path)), np.broadcast_to((200, 30, 60), (16, 16, 3)), atol=4)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    values = (np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) * 700).astype(np.uint16)
    Image.fromarray(values).save(path)
    image = read_image(path)
    np.testing.assert_array_equal(pixels(image)[..., 1], np.round(values / 257))


def test_32_bit_values_without_a_range_are_refused(tmp_path: Path) -> None:
    for values in (np.full((3, 5), 0.5, np.float32), np.full((3, 5), 1_000_000, np.int32)):
        Image.fromarray(values).save(tmp_path / "range.tiff")
        with pytest.raises(ImageError, match="32-bit"):
            read_image(tmp_path / "range.tiff")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "mode.png"
    source = picture().convert(mode)
    source.save(path)
    np.testing.assert_array_equal(pixels(read_image(path)), pixels(source.convert("RGB")))


def test_a_palette_with_transparency_reads_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = picture().quantize(5)
    image.save(path, transparency=bytes([0, 100, 255]))
    np.testing.assert_array_equal(pixels(read_image(path)), pixels(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_of_an_animation_the_first_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    first, second = (Image.new("RGB", (11, 5), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(pixels(read_image(path)), np.broadcast_to((255, 0, 0), (5, 11, 3)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    stored_as = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored_as(np.asarray(picture())))).save(tmp_path / "t.png", exif=exif)
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "t.png")), pixels(picture()))


def test_unreadable_exif_is_ignored(tmp_path: Path) -> None:
    picture().save(tmp_path / "odd.png", exif=b"Exif\x00\x00nonsense")
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "odd.png")), pixels(picture()))


def test_box(tmp_path: Path) -> None:
    picture().save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png", box=(2, 1, 5, 3))
    np.testing.assert_array_equal(pixels(image), pixels(picture())[1:4, 2:7])
    beyond = read_image(tmp_path / "image.png", box=(2, 1, 500, 300))
    np.testing.assert_array_equal(pixels(beyond), pixels(picture())[1:, 2:])
    for box in ((WIDTH, 0, 3, 3), (0, HEIGHT + 1.0, 3, 3), (0, 0, 0.2, 3)):
        with pytest.raises(ImageError, match="outside of the 13 × 7 image"):
            read_image(tmp_path / "image.png", box=box)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.png\' is not there"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match=str(tmp_path)):
        read_image(tmp_path)


@pytest.mark.parametrize("content", [b"", b"this is no image", b"\x89PNG\r\n\x1a\n" + bytes(30), b"\xff\xd8\xff\xe0"])
def test_a_broken_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png"):
        read_image(tmp_path / "broken.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif"])
def test_a_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"whole.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (61, 67, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"cut\.{suffix}"):
        read_image(cut)


def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture().save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(ImageError, match=r"large\.png\' is too large .*at most 90"):
        read_image(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT // 3)
    with pytest.raises(ImageError, match=r"at most 30"):
        read_image(tmp_path / "large.png")


def test_a_bomb_that_only_claims_to_be_large(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + bytes(4)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(ImageError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")
