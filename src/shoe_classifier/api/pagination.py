"""Keyset pages: the next one starts after the last row's id, so each is as fast as the first."""

from collections.abc import Sequence

from fastapi import Response


def next_page(response: Response, path: str, limit: int, ids: Sequence[str]) -> None:
    """Say in the `Link` header where older rows are, when there may be any."""
    if len(ids) == limit:
        response.headers["Link"] = f'<{path}?limit={limit}&before={ids[-1]}>; rel="next"'
