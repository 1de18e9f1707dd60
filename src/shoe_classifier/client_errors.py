"""What a caller of the service is told when a call does not succeed: the commands here, and the page."""

from typing import Any


class ApiError(Exception):
    """The service refused a call: its message (`detail`), its error `code` and the HTTP `status`."""

    def __init__(self, detail: str, code: str, status: int):
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status


class Unreachable(ApiError):
    """Nothing answers at the service's address, or it is not ready."""


class Busy(ApiError):
    """A call that may succeed in a moment: the store does not answer, or the service is overloaded."""


class NothingAccepted(ApiError):
    """An upload of which nothing was accepted; `report` says why."""

    def __init__(self, detail: str, code: str, status: int, report: dict[str, Any]):
        super().__init__(detail, code, status)
        self.report = report


def check(response: Any) -> None:
    """Raise the `ApiError` that fits an `httpx.Response`, unless the call succeeded."""
    if response.status_code < 300:
        return
    try:
        body = response.json()
        detail, code = str(body["detail"]), str(body["code"])
    except (ValueError, KeyError, TypeError):  # a proxy's own page
        body, detail, code = {}, f"The service answered with status {response.status_code}.", "http_error"
    if code == "nothing_accepted" and "report" in body:
        raise NothingAccepted(detail, code, response.status_code, body["report"])
    if code == "not_ready" or (not body and response.status_code in (502, 503, 504)):
        raise Unreachable(detail, code, response.status_code)
    raise (Busy if response.status_code == 503 else ApiError)(detail, code, response.status_code)
