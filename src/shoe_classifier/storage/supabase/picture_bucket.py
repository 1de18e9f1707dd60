"""The pictures of a Supabase project: in a bucket, with this machine's outbox and cache in front of it."""

import hashlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from shoe_classifier.errors import AppError, NotFound, StoreUnavailable
from shoe_classifier.storage.supabase.cache import PictureCache
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.supabase.outbox import Outbox
from shoe_classifier.types import TYPE_OF_EXTENSION, picture_url

logger = logging.getLogger(__name__)

_TRANSFER_THREADS = 8  # pictures sent or fetched at once
_REMOVED_AT_ONCE = 500  # pictures
_AHEAD = 32  # pictures fetched before the caller needs them
_COMPARED = 1000  # cached pictures compared with the rows in one call
_MAX_AGE = "31536000"  # seconds that clients may cache a picture: the file of a hash never changes


class PictureBucket:
    """Pictures under their `image_path`.

    Args:
        url_seconds: how long signed addresses are valid.

    Attributes:
        error: why Storage signed no addresses the last time; None if it did.
    """

    def __init__(self, client: SupabaseClient, name: str, outbox: Outbox, cache: PictureCache, url_seconds: int):
        self._client = client
        self._name = name
        self._outbox = outbox
        self._cache = cache
        self._url_seconds = url_seconds
        self._executor = ThreadPoolExecutor(_TRANSFER_THREADS, "supabase")
        self.error: str | None = None

    def close(self) -> None:
        """Wait for the transfers that have begun."""
        self._executor.shutdown()

    def _files(self) -> Any:
        return self._client.bucket(self._name)

    def send(self, image_path: str, data: bytes | Path) -> None:
        """Put a picture into the bucket. Raises `StoreUnavailable` and `StoreRefused`."""
        options = {
            "content-type": TYPE_OF_EXTENSION[PurePath(image_path).suffix],
            "upsert": "true",
            "cache-control": _MAX_AGE,
        }
        self._client.call(lambda: self._files().upload(image_path, data, options))

    def send_all(self, pictures: Iterable[tuple[str, Path]]) -> None:
        """Put files into the bucket, several at once. Raises as `send` does, when all transfers have ended."""
        sending = [self._executor.submit(self.send, image_path, file) for image_path, file in pictures]
        errors = [error for sent in sending if (error := sent.exception())]
        if errors:
            raise errors[0]

    def heal(self, pictures: Sequence[tuple[str, Path]]) -> set[str]:
        """See `PictureStore`. Fetches each picture from the bucket, several at once. Raises as `send` does."""
        healing = [(path, self._executor.submit(self._heal, path, file)) for path, file in pictures]
        return {image_path for image_path, healed in healing if healed.result()}

    def _heal(self, image_path: str, file: Path) -> bool:
        cached = self._cache.get(image_path)
        if cached is not None and not _is_whole(image_path, cached):
            self._cache.forget(image_path)
        try:
            if _is_whole(image_path, self._client.call(lambda: self._files().download(image_path))):
                return False
        except NotFound:
            pass
        self.send(image_path, file)
        return True

    def keep(self, image_path: str, file: Path) -> None:
        """Move the file of a picture that was sent into the cache."""
        self._cache.keep(image_path, file)

    def delete(self, image_paths: Sequence[str]) -> None:
        """Delete pictures from the outbox, the bucket and this machine's cache."""
        for image_path in image_paths:
            self._outbox.forget(image_path)
        for start in range(0, len(image_paths), _REMOVED_AT_ONCE):
            remove = partial(self._files().remove, list(image_paths[start : start + _REMOVED_AT_ONCE]))
            self._client.call(remove)
        for image_path in image_paths:
            self._cache.forget(image_path)

    def delete_unused(self, image_paths: Sequence[str]) -> None:
        """Delete those pictures that no row uses."""
        unused = self._unused(image_paths)
        if unused:
            self._client.call(lambda: self._files().remove(unused))
        for image_path in unused:
            self._cache.forget(image_path)

    def forget_unused(self) -> None:
        """Delete pictures that no row uses from this machine's cache: another machine has deleted them."""
        paths = iter(self._cache.paths())
        while chunk := list(islice(paths, _COMPARED)):
            for image_path in self._unused(chunk):
                self._cache.forget(image_path)

    def _unused(self, image_paths: Sequence[str]) -> list[str]:
        used = self._client.rpc("pictures_in_use", image_paths=list(image_paths)) if image_paths else []
        return sorted(set(image_paths) - set(used))

    def find_picture(self, sha256: str) -> tuple[str, bytes]:
        """See `PictureStore`."""
        path = self._outbox.find_picture(sha256) or self._find_stored(sha256)
        return path, self._picture(path)

    def _find_stored(self, sha256: str) -> str:
        """Ask the bucket even for a cached picture, which another machine may have deleted."""
        folder, cached = f"images/{sha256[:2]}", self._cache.find(sha256)
        try:
            found = self._client.call(lambda: self._files().list(folder, {"search": sha256, "limit": 1}))
        except StoreUnavailable:
            if cached is None:
                raise
            return cached
        if found:
            return f"{folder}/{found[0]['name']}"
        if cached:
            self._cache.forget(cached)
        raise NotFound(f"Expected the SHA-256 of a stored picture; received {sha256[:80]!r}.")

    def _picture(self, image_path: str) -> bytes:
        data = self._outbox.unsent(image_path) or self._cache.get(image_path)
        if data is None:
            data = self._client.call(lambda: self._files().download(image_path))
            self._cache.keep(image_path, data)
        return data

    def pictures(self, image_paths: Sequence[str]) -> Iterator[bytes]:
        """See `PictureStore`. Fetches some pictures ahead, several at once."""
        paths = iter(image_paths)
        fetching: deque[Future[bytes]] = deque(
            self._executor.submit(self._picture, path) for path in islice(paths, _AHEAD)
        )
        while fetching:
            yield fetching.popleft().result()
            fetching.extend(self._executor.submit(self._picture, path) for path in islice(paths, 1))

    def urls(self, image_paths: Sequence[str]) -> dict[str, str]:
        """See `PictureStore`. A picture without a signed address has one of this service."""
        paths = sorted(set(image_paths))
        signed = self._signed(paths) if paths else {}
        return {path: signed.get(path) or picture_url(path) for path in paths}

    def _signed(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Signed addresses; None for a picture that is still in an outbox. Empty when Storage does not sign."""
        try:
            # A single attempt: the rows must not wait for Storage.
            signed = self._client.call(lambda: self._files().create_signed_urls(paths, self._url_seconds), attempts=1)
        except AppError as error:
            logger.warning("Storage signs no addresses: %s", error.detail)
            self.error = error.detail
            return {}
        self.error = None
        return {item["path"]: item["signedURL"] for item in signed}


def _is_whole(image_path: str, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == PurePath(image_path).stem
