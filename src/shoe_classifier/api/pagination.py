"""Keyset pages: the next one starts after the last row's id, so each is as fast as the first."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Response

Limit = Annotated[int, Query(ge=1, le=1000, description="Most rows of one page.")]
Before = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        description="Id of the last row of the previous page; older rows follow.",
    ),
]


def link_next_page(response: Response, path: str, limit: int, ids: Sequence[str]) -> None:
    """Point to older rows in the `Link` header, if there may be any.

    Args:
        ids: of the rows of this page, newest first.
    """
    if len(ids) == limit:
        response.headers["Link"] = f'<{path}?limit={limit}&before={ids[-1]}>; rel="next"'
