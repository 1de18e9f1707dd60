"""One envelope for all errors: `{"detail": ..., "code": ...}` with the right status."""

import errno
import logging
import sqlite3

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shoe_classifier.errors import AppError, StorageFull

logger = logging.getLogger(__name__)


def _answer(
    status: int, detail: str, code: str, headers: dict[str, str] | None = None, **extra: object
) -> JSONResponse:
    return JSONResponse({"detail": detail, "code": code, **extra}, status, headers)


async def app_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    return _answer(error.status, error.detail, error.code, error.headers, **error.extra)


async def http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(404, f"Expected a path that /docs lists; received {request.url.path[:200]!r}.", "not_found")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"Expected {allowed} for {request.url.path[:200]!r}; received {request.method}."
        return _answer(405, detail, "method_not_allowed", dict(error.headers or {}))
    return _answer(error.status_code, str(error.detail), "http_error", dict(error.headers or {}))


async def validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}; received {str(problem.get('input'))[:80]!r}"
        for problem in error.errors()
    ]
    return _answer(422, f"Expected valid parameters. {'. '.join(problems)}.", "invalid_request")


async def disk_error(request: Request, error: Exception) -> JSONResponse:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or (isinstance(error, sqlite3.OperationalError) and "full" in str(error)):
        return await app_error(
            request, StorageFull("Expected room on the service's disk; it is full. Nothing was kept.")
        )
    logger.exception("%s %s failed.", request.method, request.url.path, exc_info=error)
    return await unknown_error(request, error)


async def unknown_error(request: Request, error: Exception) -> JSONResponse:
    return _answer(500, "The service failed on its side; its log says why.", "internal_error")
