"""One family of errors. Each class carries the HTTP status and the code that a client receives."""

import errno
import sqlite3
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_SQLITE_READ_ONLY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN)


class AppError(Exception):
    """An error whose message may be shown to the client.

    The message says what was expected, then what was received.

    Args:
        extra: fields for the JSON answer beside `detail` and `code`.
        headers: for the HTTP response.
    """

    status = 400
    code = "bad_request"

    def __init__(self, detail: str, *, extra: dict[str, Any] | None = None, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.detail = detail
        self.extra = extra or {}
        self.headers = headers or {}


class InvalidRequest(AppError):
    status, code = 422, "invalid_request"


class InvalidImage(AppError):
    status, code = 422, "invalid_image"


class TooSmall(InvalidImage):
    code = "too_small"


class UnsupportedImage(AppError):
    status, code = 415, "unsupported_image"


class InvalidLabel(AppError):
    status, code = 422, "invalid_label"


class InvalidZip(AppError):
    status, code = 422, "invalid_zip"


class NothingAccepted(AppError):
    status, code = 422, "nothing_accepted"


class TooLarge(AppError):
    status, code = 413, "too_large"


class RequestTimeout(AppError):
    status, code = 408, "request_timeout"


class Unauthorized(AppError):
    status, code = 401, "unauthorized"


class Forbidden(AppError):
    status, code = 403, "forbidden"


class NotFound(AppError):
    status, code = 404, "not_found"


class RetrainRunning(AppError):
    status, code = 409, "retrain_running"


class NoNewData(AppError):
    status, code = 409, "no_new_data"


class NotCancellable(AppError):
    status, code = 409, "not_cancellable"


class Superseded(AppError):
    """A rejected candidate whose publication would lose what the live version has learned since."""

    status, code = 409, "superseded"


class TooFewLabels(AppError):
    """A model tells labels apart, so there must be two."""

    status, code = 409, "too_few_labels"


class NotOffered(AppError):
    """A plain Keras model, which was not trained by this service, cannot do this."""

    status, code = 409, "not_offered"


class ExportDiffers(AppError):
    """An export that would not name the same labels as the service."""

    status, code = 409, "export_differs"


class ExportFailed(AppError):
    """Making an export failed, took too long or was ended."""

    status, code = 503, "export_failed"


class ExportUnavailable(AppError):
    """A format of which this installation lacks a part."""

    status, code = 501, "export_unavailable"


class Overloaded(AppError):
    """Too much is in flight. `reason` says of what: a name for the metrics."""

    status, code = 503, "overloaded"

    def __init__(self, detail: str, reason: str):
        super().__init__(detail, headers={"Retry-After": "1", "Connection": "close"})
        self.reason = reason


class NotReady(AppError):
    status, code = 503, "not_ready"


class StoreUnavailable(AppError):
    """The records are locked, or Supabase does not answer, or not as expected. `again`: another try may help."""

    status, code = 503, "store_unavailable"

    def __init__(self, detail: str, *, again: bool = False):
        super().__init__(detail, headers={"Retry-After": "5"})
        self.again = again


class StoreRefused(AppError):
    """Supabase refuses a row or a file, however often it is sent."""

    status, code = 502, "store_refused"


class StorageFull(AppError):
    status, code = 507, "storage_full"


class StorageReadOnly(AppError):
    status, code = 507, "storage_read_only"


class ClusterUnavailable(AppError):
    """There is no Ray cluster that could do the work, or it failed."""

    status, code = 503, "cluster_unavailable"


class InvalidModel(AppError):
    """A model file that cannot be trusted or does not fit this service."""

    status, code = 422, "invalid_model"


class ConfigurationError(Exception):
    """The settings contradict each other: the service must not start."""


class Cancelled(Exception):
    """Raised inside a retrain that was cancelled."""


def disk_error(error: BaseException) -> AppError | None:
    """Return what clients are told of a disk that is full, read-only or locked; None for any other failure."""
    number = error.errno if isinstance(error, OSError) else None
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the bits that say more
    if number in _FULL or code == sqlite3.SQLITE_FULL:
        return StorageFull("Expected room on the service's disk; it is full. Nothing was kept.")
    if number in _READ_ONLY or code in _SQLITE_READ_ONLY:
        return StorageReadOnly(
            "Expected to write to the service's folders; they are read-only. Nothing was kept. Check their owner, their"
            " mode and their disk."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable("Expected the service's records; another program has locked them. Try again.")
    return None
