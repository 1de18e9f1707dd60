"""Keyset pages: the next one starts after the last row's id, so each is as fast as the first; and filters of rows."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query, Response

from shoe_classifier.errors import InvalidRequest
from shoe_classifier.types import Decision, PredictionFilter, Split, TrainingFilter, to_iso

TOTAL = "X-Total-Count"
Limit = Annotated[int, Query(ge=1, le=1000, description="Most rows of one page.")]
Before = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        description="Id of the last row of the previous page; older rows follow.",
    ),
]
Label = Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$", description="Only rows of this label.")]
Version = Annotated[
    str | None, Query(max_length=64, pattern=r"^[^\x00]*$", description="Only answers of this model version.")
]
Since = Annotated[datetime | None, Query(description="Only rows from this time on; UTC unless it has a time zone.")]
Until = Annotated[datetime | None, Query(description="Only rows before this time.")]


def _predictions(
    label: Label = None,
    decision: Annotated[Decision | None, Query(description="Only predictions with this decision.")] = None,
    version: Version = None,
    since: Since = None,
    until: Until = None,
) -> PredictionFilter:
    return PredictionFilter(label, decision, version, _moment(since), _moment(until))


def _training_data(
    label: Label = None,
    split: Annotated[Split | None, Query(description="Only pictures that are learned, or held out.")] = None,
    learnt: Annotated[bool | None, Query(description="Only pictures that the live model has learned, or not.")] = None,
    since: Since = None,
    until: Until = None,
) -> TrainingFilter:
    return TrainingFilter(label, split, learnt, _moment(since), _moment(until))


PredictionFilterDep = Annotated[PredictionFilter, Depends(_predictions)]
TrainingFilterDep = Annotated[TrainingFilter, Depends(_training_data)]


def link_next_page(
    response: Response,
    path: str,
    limit: int,
    ids: Sequence[str],
    which: PredictionFilter | TrainingFilter | None = None,
) -> None:
    """Point to older rows in the `Link` header, if there may be any.

    Args:
        ids: of the rows of this page, newest first.
        which: the filter, which the next page has, too.
    """
    if len(ids) == limit:
        filters = {name: value for name, value in asdict(which).items() if value is not None} if which else {}
        query = urlencode({"limit": limit, "before": ids[-1], **filters})
        response.headers["Link"] = f'<{path}?{query}>; rel="next"'


def _moment(time: datetime | None) -> str | None:
    """A time in the format of the rows."""
    if time is None:
        return None
    try:
        return to_iso(time if time.tzinfo else time.replace(tzinfo=UTC))
    except OverflowError:  # in UTC it lies before the year 1 or after the year 9999
        raise InvalidRequest(f"Expected a time of the years 1 to 9999; received {time.isoformat()!r}.") from None
