"""Pictures as the page shows them: thumbnails of stored ones, and small copies of others."""

import base64
import io
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import streamlit as st
from PIL import Image, ImageOps

from client import ApiError, Unreachable
from components import api

PICTURE_TYPES = ["jpg", "jpeg", "png", "webp", "heic", "heif", "avif", "bmp", "gif"]
_MAX_PIXELS = 50_000_000  # of a picture that this page decodes
_FETCH_THREADS = 8
_MAX_THUMBNAILS = 3000  # of 5 to 10 kB each

Thumbnails = dict[str, bytes | None]


@st.cache_resource(max_entries=1, show_spinner=False)
def _thumbnail_cache() -> OrderedDict[tuple[str, str, int], bytes]:
    return OrderedDict()  # shared by all visitors, who see the same pictures


def thumbnails(hashes: Sequence[str], width: int = 240) -> Thumbnails:
    """JPEGs of at most `width` pixels by SHA-256, fetched in parallel; None for those that cannot be shown."""
    client, cache = api(), _thumbnail_cache()

    def fetch(sha256: str) -> bytes | None:
        try:
            return client.thumbnail(sha256, width)
        except Unreachable:
            raise
        except ApiError:  # deleted, or unavailable at the moment
            return None

    missing = [sha256 for sha256 in dict.fromkeys(hashes) if (client.url, sha256, width) not in cache]
    with ThreadPoolExecutor(_FETCH_THREADS) as executor:
        fetched = dict(zip(missing, executor.map(fetch, missing), strict=True))
    for sha256, data in fetched.items():
        if data:
            cache[client.url, sha256, width] = data
    found = {sha256: cache.get((client.url, sha256, width)) for sha256 in hashes}
    while len(cache) > _MAX_THUMBNAILS:
        cache.popitem(last=False)
    return found


def drop_thumbnails(hashes: Iterable[str]) -> None:
    """Remove deleted pictures from the cache of all visitors."""
    cache, deleted = _thumbnail_cache(), set(hashes)
    for key in [key for key in cache if key[1] in deleted]:
        cache.pop(key, None)


def picture(data: bytes | None, alt_text: str, width: Literal["stretch", "content"] | int = "stretch") -> None:
    """Show an encoded picture with its description for screen readers."""
    if data is None:
        st.caption("cannot be shown")
        return
    st.image(data, width=width, alt=alt_text)


def large_picture(data: bytes | None, alt_text: str, key: str = "page") -> None:
    """Show the picture that a page asks about; style.css leaves room for the answers on the same screen."""
    with st.container(key=f"asked-{key}"):
        picture(data, alt_text, "content")


def small_jpeg(data: bytes, side: int) -> bytes | None:
    """A JPEG of a picture whose longest edge has at most `side` pixels; None when it cannot be decoded."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        image.draft("RGB", (side, side))
        if image.width * image.height > _MAX_PIXELS:
            return None
        image = ImageOps.exif_transpose(image)
        image.thumbnail((side, side))
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG")
    except Exception:  # decoders raise many types of errors, and the service says what is wrong with the picture
        return None
    return out.getvalue()


def data_url(jpeg: bytes | None) -> str | None:
    """A JPEG as an address that table cells can show."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else None


def sha256_of(path: str) -> str:
    """The hash by which `/files` knows a stored picture, out of its path or its address."""
    return path.rsplit("/", 1)[-1].split(".", maxsplit=1)[0]
