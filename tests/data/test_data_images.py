from __future__ import annotations

import io
import os
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from robointervlm.core.errors import DataError, RefusedError, RoboInterError
from robointervlm.core.sample import ImageRef
from robointervlm.data import images


def saved(folder: Path, name: str, image: Image.Image, **options: object) -> ImageRef:
    image.save(folder / name, **options)
    return ImageRef(folder, name)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_a_picture_is_read_as_rgb_rows_first(tmp_path: Path, name: str) -> None:
    image = Image.new("RGB", (3, 2), (0, 0, 255))
    image.putpixel((2, 0), (255, 0, 0))
    picture = images.load(saved(tmp_path, name, image, lossless=True))
    assert picture.shape == (2, 3, 3)
    assert picture.dtype == np.uint8
    assert picture[0, 2].tolist() == [255, 0, 0]
    assert picture[1, 0].tolist() == [0, 0, 255]


def test_a_jpeg_is_read_whatever_its_name_says(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (10, 200, 10)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert abs(images.load(ImageRef(tmp_path, "a.png")).astype(int) - [10, 200, 10]).max() <= 2


def test_the_size_is_width_and_height_from_the_header(tmp_path: Path) -> None:
    assert images.size(saved(tmp_path, "a.jpg", Image.new("RGB", (32, 20)))) == (32, 20)


def test_a_rotation_in_exif_is_not_applied_because_boxes_refer_to_the_stored_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    reference = saved(tmp_path, "a.jpg", Image.new("RGB", (32, 20)), exif=exif)
    assert images.size(reference) == (32, 20)
    assert images.load(reference).shape == (20, 32, 3)


@pytest.mark.parametrize(
    "mode,colour,name,expected",
    [
        ("L", 77, "a.png", [77, 77, 77]),
        ("1", 1, "a.png", [255, 255, 255]),
        ("RGBA", (10, 20, 30, 255), "a.png", [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), "a.png", [255, 255, 255]),
        ("LA", (50, 255), "a.png", [50, 50, 50]),
        ("I;16", 0x8000, "a.png", [128, 128, 128]),
        ("I;16", 0xFFFF, "a.png", [255, 255, 255]),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(
    tmp_path: Path, mode: str, colour: object, name: str, expected: list[int]
) -> None:
    picture = images.load(saved(tmp_path, name, Image.new(mode, (5, 4), colour)))  # type: ignore[arg-type]
    assert picture.shape == (4, 5, 3)
    assert picture[0, 0].tolist() == expected


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    picture = images.load(saved(tmp_path, "a.jpg", Image.new("CMYK", (8, 8), (255, 0, 0, 0))))
    assert picture[0, 0].tolist() == pytest.approx([0, 255, 255], abs=3)


def test_a_palette_with_a_transparent_colour_is_read_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([9, 9, 9, 200, 0, 0])
    image.putpixel((0, 0), 1)
    picture = images.load(saved(tmp_path, "a.png", image, transparency=0))
    assert picture[0, 0].tolist() == [200, 0, 0]
    assert picture[1, 1].tolist() == [255, 255, 255]


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (4, 4), (1, 2, 3)), Image.new("RGB", (4, 4), (9, 9, 9))
    reference = saved(tmp_path, "a.png", first, save_all=True, append_images=[second])
    assert images.load(reference)[0, 0].tolist() == [1, 2, 3]


def test_a_missing_picture_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/none.jpg cannot be opened: No such file"):
        images.load(ImageRef(tmp_path, "none.jpg"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_a_truncated_picture_is_an_error_with_its_path(tmp_path: Path, name: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    reference = saved(tmp_path, name, Image.fromarray(noise))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=name):
        images.load(reference)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"GIF89a\x01\x00\x01\x00", b"II*\0", b"8BPS"])
def test_a_file_that_is_no_jpeg_png_or_webp_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match="JPEG, PNG and WebP are read"):
        images.load(ImageRef(tmp_path, "a.jpg"))


@pytest.mark.parametrize("size", [(13000, 13000), (20000, 20000), (65535, 65535), (2_000_000_000, 1)])
def test_a_picture_that_would_not_fit_is_refused_from_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    began = time.monotonic()
    with pytest.raises(RefusedError, match="the limit is 50 million"):
        images.load(ImageRef(tmp_path, "bomb.png"))
    assert time.monotonic() - began < 1


def test_a_webp_that_claims_a_huge_canvas_is_refused(tmp_path: Path) -> None:
    second = Image.new("RGBA", (64, 64))
    saved(tmp_path, "bomb.webp", Image.new("RGBA", (64, 64), (1, 2, 3, 9)), save_all=True, append_images=[second])
    content = bytearray((tmp_path / "bomb.webp").read_bytes())
    canvas = content.index(b"VP8X") + 12
    content[canvas : canvas + 6] = b"\xfe\x3f\x00" * 2  # 16383 x 16383
    (tmp_path / "bomb.webp").write_bytes(content)
    with pytest.raises(RefusedError, match="too large|the limit is 50 million"):
        images.load(ImageRef(tmp_path, "bomb.webp"))


def test_a_file_over_the_size_limit_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(RefusedError, match="50 MB; the limit is 50"):
        images.load(ImageRef(tmp_path, "big.png"))


@pytest.mark.parametrize(
    "path",
    [
        "../outside.png",
        "a/../../outside.png",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/environ",
        "http://169.254.169.254/a.png",
        "https://127.0.0.1/a.png",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "data:image/png;base64,AAAA",
        "a\0.png",
        "",
        "x" * 10_000,
        "link.png",
        "folder/outside.png",
        "../root_evil/a.png",
    ],
)
def test_a_path_that_leads_out_of_the_root_is_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    (tmp_path / "root_evil").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "root_evil" / "a.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "folder").symlink_to(tmp_path)
    with pytest.raises(RefusedError):
        images.load(ImageRef(root, path))


def test_an_absolute_path_inside_the_root_is_read(tmp_path: Path) -> None:
    saved(tmp_path, "a.png", Image.new("RGB", (4, 3)))
    assert images.size(ImageRef(tmp_path, str(tmp_path / "a.png"))) == (4, 3)


def test_a_link_inside_the_root_is_followed(tmp_path: Path) -> None:
    saved(tmp_path, "a.png", Image.new("RGB", (4, 3)))
    (tmp_path / "link.png").symlink_to("a.png")
    assert images.size(ImageRef(tmp_path, "link.png")) == (4, 3)


def test_a_pipe_in_the_place_of_a_picture_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(RefusedError, match="not a regular file"):
        images.load(ImageRef(tmp_path, "a.png"))


def test_a_folder_in_the_place_of_a_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(RefusedError, match="not a regular file"):
        images.load(ImageRef(tmp_path, "a.png"))


@pytest.mark.parametrize("name", ["with space.png", "Łódź.png", 'quo"te.png', "key#12.png", "%50.png"])
def test_an_unusual_name_is_a_name(tmp_path: Path, name: str) -> None:
    assert images.size(saved(tmp_path, name, Image.new("RGB", (4, 3)))) == (4, 3)


_SEEDS = []
for _format in ("JPEG", "PNG", "WEBP"):
    _buffer = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(_buffer, _format)
    _SEEDS.append(_buffer.getvalue())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.sampled_from(_SEEDS), changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8))
def test_a_damaged_picture_is_read_or_an_error_of_ours_and_nothing_else(
    tmp_path: Path, seed: bytes, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(seed)
    for position, value in changes:
        content[position % len(content)] = value
    (tmp_path / "a.png").write_bytes(content)
    try:
        picture = images.load(ImageRef(tmp_path, "a.png"))
    except RoboInterError:
        return
    assert picture.ndim == 3
    assert picture.shape[2] == 3


def test_the_content_hash_is_that_of_the_files_bytes_wherever_they_lie(tmp_path: Path) -> None:
    first = saved(tmp_path, "a.png", Image.new("RGB", (3, 2), (0, 0, 255)))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    other = saved(tmp_path, "c.png", Image.new("RGB", (3, 2), (0, 0, 254)))
    assert images.content_and_size(first) == images.content_and_size(ImageRef(tmp_path, "b.png"))
    assert images.content_and_size(first)[0] != images.content_and_size(other)[0]


def test_a_missing_picture_has_no_content_hash(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.png cannot be opened"):
        images.content_and_size(ImageRef(tmp_path, "nothing.png"))


def linked(folder: Path) -> Path:
    """A picture folder in which `linked` is a link to one beside it, as where pictures lie on another disk."""
    (folder / "disk" / "deep").mkdir(parents=True)
    Image.new("RGB", (7, 5)).save(folder / "disk" / "deep" / "a.png")
    Image.new("RGB", (3, 3)).save(folder / "disk" / "secret.png")
    (folder / "root").mkdir()
    (folder / "root" / "linked").symlink_to(folder / "disk" / "deep")
    return folder / "root"


def test_a_link_that_leads_out_is_refused_and_the_error_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="through a symbolic link.*--follow-links.*follow_links: true"):
        images.size(ImageRef(linked(tmp_path), "linked/a.png"))


def test_a_link_that_leads_out_is_followed_where_that_is_declared(tmp_path: Path) -> None:
    assert images.size(ImageRef(linked(tmp_path), "linked/a.png", follow_links=True)) == (7, 5)


@pytest.mark.parametrize("path", ["../disk/secret.png", "linked/../../disk/secret.png", "/etc/hostname", "a/../../x"])
def test_a_path_that_leads_out_stays_refused_with_declared_links(tmp_path: Path, path: str) -> None:
    with pytest.raises(RefusedError, match="only files under it are read"):
        images.size(ImageRef(linked(tmp_path), path, follow_links=True))


def test_behind_a_link_dots_lead_back_into_the_root(tmp_path: Path) -> None:
    # The system would look beside the link's target, where secret.png is.
    with pytest.raises(DataError, match="cannot be opened: No such file"):
        images.size(ImageRef(linked(tmp_path), "linked/../secret.png", follow_links=True))


def test_an_archive_behind_a_declared_link_is_read(tmp_path: Path) -> None:
    root = linked(tmp_path)
    with zipfile.ZipFile(tmp_path / "disk" / "deep" / "b.zip", "w") as archive:
        archive.write(tmp_path / "disk" / "deep" / "a.png", "a.png")
    assert images.size(ImageRef(root, "linked/b.zip/a.png", follow_links=True)) == (7, 5)
    with pytest.raises(RefusedError, match="symbolic link"):
        images.size(ImageRef(root, "linked/b.zip/a.png"))
