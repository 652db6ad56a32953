"""Pictures: opened with care, brought to one form, kept under a hash of their pixels.

A picture enters a domain as a short text, ``picture:`` and the 32 hexadecimal digits of the hash:
it names a file in embkit's cache. The domain's content hash so covers its pictures as well.
"""

import base64
import hashlib
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..errors import not_installed
from ..files import readable, write_atomic
from ..session import paths

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".svg")
KEPT = 224  # pixels of the longer side that is kept: what CLIP's towers read
SMALLEST = 8  # pixels of a side: less shows nothing
MOST_PIXELS = 50_000_000  # more are not decoded: a small file can claim any size
LONGEST = 20  # times its other side, at most
MOST_BYTES = 50 * 2**20
_REFERENCE = re.compile(r"picture:[0-9a-f]{32}")
_OUTSIDE = re.compile(  # what an SVG says when it wants more than its own shapes
    r"<!\s*(?:DOCTYPE|ENTITY)|<\?xml-stylesheet|<\s*(?:\w+:)?(?:script|image|feImage|foreignObject)\b"
    r"|@import|(?:href|src)\s*=\s*[\"']\s*(?!#)[^\"'\s]|url\s*\(\s*[\"']?\s*(?!#|[\"'])[^)\s]",
    re.IGNORECASE,
)


class PictureFault(Exception):
    """A picture that cannot be used; the text says why."""


def is_picture(text: Any) -> bool:
    """Whether a text stands for a picture that embkit keeps: nothing else is ever read as one."""
    known = isinstance(text, str) and _REFERENCE.fullmatch(text)
    return bool(known) and picture_file(text).is_file()


def picture_file(reference: str) -> Path:
    """Where the picture lies; the file may be missing."""
    digest = reference.removeprefix("picture:")
    return paths().cache / "pictures" / digest[:2] / f"{digest}.png"


def open_picture(reference: str) -> Image.Image:
    """The picture as RGB, its longer side ``KEPT`` pixels or fewer."""
    file, hint = picture_file(reference), "load the domain again in a new process: it renders it"
    with readable(file, OSError, hint=hint), Image.open(file) as image:
        return image.convert("RGB")


def keep_picture(image: Image.Image) -> str:
    """Puts an RGB picture into the cache; the text that stands for it."""
    size = f"{image.width}x{image.height} ".encode()
    digest = hashlib.sha256(size + image.tobytes()).hexdigest()[:32]
    reference = f"picture:{digest}"
    if not (file := picture_file(reference)).is_file():
        write_atomic(file, lambda stream: image.save(stream, format="PNG"), synced=False)
    return reference


def read_picture(file: Path) -> Image.Image:
    """A picture, opened with care: RGB on white, its longer side ``KEPT`` pixels or fewer.

    What is transparent becomes white, and a camera's note on how it was held is followed. A
    ``PictureFault`` says that it is missing, damaged, cut off, moving, too large, too small or too
    long, or an SVG that refers to anything outside itself.
    """
    if not file.is_file():
        raise PictureFault("no such file")
    with file.open("rb") as stream:
        raw = stream.read(MOST_BYTES + 1)
    svg = file.suffix.lower() == ".svg" and len(raw) <= MOST_BYTES
    return decode(render_svg(raw, KEPT) if svg else raw)


def decode(raw: bytes) -> Image.Image:
    """A picture from a file's bytes, as ``read_picture`` gives it; no SVG."""
    if len(raw) > MOST_BYTES:
        raise PictureFault(f"file of more than {MOST_BYTES // 2**20} MB")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(raw)) as image:
            short, long = sorted(image.size)  # from the header alone, before anything is decoded
            if short * long > MOST_PIXELS:
                raise PictureFault(f"more than {MOST_PIXELS:,} pixels")
            if short < 1 or long > LONGEST * short:
                raise PictureFault(f"longer than {LONGEST} times its other side")
            if short < SMALLEST:
                raise PictureFault(f"smaller than {SMALLEST} pixels")
            if getattr(image, "n_frames", 1) > 1:
                raise PictureFault("moving picture: several frames")
            image.load()
            return _one_form(ImageOps.exif_transpose(image))
    except PictureFault:
        raise
    except Image.DecompressionBombError as error:
        raise PictureFault(f"more than {MOST_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's decoders have many for a damaged file
        raise PictureFault("damaged, cut off, or no picture") from error


def _one_form(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel: convert() would cut, not scale
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I;16") else max(float(values.max()), 1.0)
        image = Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    image.thumbnail((KEPT, KEPT), Image.Resampling.LANCZOS)  # a smaller one stays as it is
    return image


def render_svg(svg: bytes, size: int) -> bytes:
    """An SVG as PNG on white, its longer side ``size`` pixels; no font of the system is used.

    Refuses, and loads nothing of, what is outside itself: other files, addresses, embedded
    pictures, style sheets, scripts, entities.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise not_installed(
            "SVG pictures need the renderer resvg (resvg-py), which is not installed", "pictures"
        ) from error
    try:
        text = svg.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PictureFault("SVG that is not UTF-8") from error
    if _OUTSIDE.search(_plain(text)):
        raise PictureFault("SVG that refers to something outside itself")
    try:
        return svg_to_bytes(
            svg_string=text, width=size, height=size, skip_system_fonts=True, background="#ffffff"
        )
    except Exception as error:  # a ValueError, or whatever the renderer makes of a broken file
        raise PictureFault("damaged, cut off, or no picture") from error


def _plain(text: str) -> str:
    """XML without the ways to hide a character: numbers of characters and CSS escapes."""
    text = re.sub(r"&#(x?)0*(\w{1,8};?)", lambda m: html.unescape(f"&#{m[1]}{m[2]}"), text)
    text = re.sub(r"\\([0-9a-fA-F]{1,6})\s?", lambda m: html.unescape(f"&#x{m[1]};"), text)
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def pixels(references: Sequence[str], size: int) -> np.ndarray:
    """Pictures as numbers, (pictures, size, size, 3) of uint8: whole, on a white square."""
    middle = 0.499, 0.499  # of an odd margin, the larger half lies right or below
    found = np.empty((len(references), size, size, 3), dtype=np.uint8)
    for place, reference in enumerate(references):
        form = (size, size), Image.Resampling.BILINEAR, "white", middle
        found[place] = np.asarray(ImageOps.pad(open_picture(reference), *form))
    return found


def data_url(reference: str) -> str:
    """The picture's file as a ``data:`` address, for a page that shows it."""
    open_picture(reference).close()  # fails with a reason where the file is gone
    coded = base64.b64encode(picture_file(reference).read_bytes()).decode()
    return f"data:image/png;base64,{coded}"


def in_parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """The items in slices of at most ``size``, in their order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
