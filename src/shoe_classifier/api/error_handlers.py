"""One envelope for all errors: `{"detail": ..., "code": ...}` with the right status."""

import logging
from http import HTTPStatus

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shoe_classifier.errors import AppError, disk_error

logger = logging.getLogger(__name__)

CLOSE = {"Connection": "close"}  # for errors that leave a body unread: it must not be read as the next request


async def handle_error(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that failed; whatever an endpoint raises ends here."""
    match error:
        case AppError():
            return answer_to(error)
        case RequestValidationError():
            return _response(422, _describe(error), "invalid_request")
        case HTTPException():
            return _http_error(request, error)
    if told := disk_error(error):
        logger.error("%s %s failed: %s", request.method, request.url.path, error)
        return await handle_error(request, told)
    logger.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    return _response(500, "The service failed internally; its log says why.", "internal_error")


def answer_to(error: AppError) -> JSONResponse:
    """The envelope of one of this service's errors."""
    return _response(error.status, error.detail, error.code, error.headers, **error.extra)


def raw(response: Response) -> bytes:
    """A response as it is sent, for what is answered below HTTP; it ends the connection."""
    response.headers.update(CLOSE)
    status, headers = HTTPStatus(response.status_code), (b"%b: %b\r\n" % header for header in response.raw_headers)
    return f"HTTP/1.1 {status} {status.phrase}\r\n".encode() + b"".join(headers) + b"\r\n" + bytes(response.body)


def _response(
    status: int, detail: str, code: str, headers: dict[str, str] | None = None, **extra: object
) -> JSONResponse:
    return JSONResponse({"detail": detail, "code": code, **extra}, status, headers)


def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    headers, path = dict(error.headers or {}), request.url.path[:200]
    if error.status_code == 404:
        return _response(404, f"Expected a path listed in /docs; received {path!r}.", "not_found")
    if error.status_code == 405:
        detail = f"Expected {headers.get('Allow', 'another method')} for {path!r}; received {request.method}."
        return _response(405, detail, "method_not_allowed", headers)
    return _response(error.status_code, str(error.detail), "http_error", headers)


def _describe(error: RequestValidationError) -> str:
    problems = [
        f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}; received {str(problem.get('input'))[:80]!r}"
        for problem in error.errors()
    ]
    return f"Expected valid parameters. {'. '.join(problems)}."
