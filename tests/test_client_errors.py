"""One family of errors for the commands and the page, whatever stands between them and the service."""

import httpx
import pytest

from shoe_classifier.client_errors import ApiError, Busy, NothingAccepted, Unreachable, check


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"detail": "Expected a job.", "code": "not_found"}, ApiError),
        (503, {"detail": "Expected Supabase.", "code": "store_unavailable"}, Busy),
        (503, {"detail": "Expected a model.", "code": "not_ready"}, Unreachable),
        (422, {"detail": "None.", "code": "nothing_accepted", "report": {"accepted": 0}}, NothingAccepted),
    ],
)
def test_a_refusal_of_the_service(status: int, body: dict[str, object], kind: type[ApiError]) -> None:
    with pytest.raises(ApiError) as raised:
        check(httpx.Response(status, json=body))
    error = raised.value
    assert (type(error), error.detail, error.code, error.status) == (kind, body["detail"], body["code"], status)


@pytest.mark.parametrize(("status", "kind"), [(502, Unreachable), (504, Unreachable), (413, ApiError), (302, ApiError)])
@pytest.mark.parametrize("page", ["<html>", '["a list"]', '{"detail": "half"}'])
def test_a_page_of_a_proxy(status: int, kind: type[ApiError], page: str) -> None:
    with pytest.raises(kind, match=f"status {status}"):
        check(httpx.Response(status, text=page))


def test_an_answer_is_no_error() -> None:
    check(httpx.Response(201, json={}))
