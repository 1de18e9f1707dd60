"""Translates the errors of Supabase's client library into those of this package."""

import logging
from collections.abc import Callable
from typing import TypeVar

import httpx
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError

from shoe_classifier.errors import AppError, NotFound, StoreRefused, StoreUnavailable

logger = logging.getLogger(__name__)

MIGRATE = "Run supabase/migrations in the project's SQL editor, or `supabase db push`."
_SET_KEY = "Set SUPABASE_KEY to the project's service (secret) key."
_BUSY = ("PGRST000", "PGRST001", "PGRST002", "PGRST003", "57P03", "53300", "40001", "40P01", "23505", "")
_BAD_KEY = ("PGRST300", "PGRST301", "PGRST302", "PGRST303", "42501", "401", "403")
_NO_SCHEMA = ("PGRST202", "PGRST203", "PGRST204", "PGRST205", "42P01", "42703", "42883", "404")
_NO_SUCH_ROW = "P0002"  # raised by functions of the migrations

Result = TypeVar("Result")


def translated(action: Callable[[], Result]) -> Result:
    """Run an action of the client library and return its result.

    Raises:
        StoreUnavailable: there was no answer, the project is busy (`again` is true then), or it is set up wrong.
        NotFound: the row, file or bucket does not exist.
        StoreRefused: Supabase rejected the request for another reason.
    """
    try:
        return action()
    except httpx.TransportError as error:
        raise no_answer(error) from error
    except APIError as error:
        raise table_error(str(error.code or ""), error.message or "") from error
    except StorageApiError as error:
        raise storage_error(str(error.status), error.message) from error


def no_answer(error: httpx.TransportError) -> StoreUnavailable:
    """Translate an error of the connection."""
    logger.debug("Supabase does not answer.", exc_info=error)
    return StoreUnavailable(f"Expected Supabase to answer; received none ({type(error).__name__}).", again=True)


def table_error(code: str, message: str) -> AppError:
    """Translate an error of the tables.

    Args:
        code: of PostgREST, of Postgres, or an HTTP status; empty when the answer had none.
        message: for people; written to the log.
    """
    logger.info("Supabase answered with error %s: %s", code or "without a code", message)
    if code in _BAD_KEY or (not code and "api key" in message.lower()):  # a hosted gateway's 401 has no code
        return StoreUnavailable(
            f"SUPABASE_KEY: expected a service key; Supabase refuses it ({code or 401}). {_SET_KEY}"
        )
    if code in _BUSY or (code.startswith("5") and code.isdigit()):
        return StoreUnavailable(
            f"Expected Supabase to be ready; received error {code or 'without a code'}.", again=True
        )
    if code in _NO_SCHEMA:
        return StoreUnavailable(
            f"Expected the tables and functions of the migrations; Supabase lacks one of them ({code}). {MIGRATE}"
        )
    if code == _NO_SUCH_ROW:
        return NotFound(f"Expected an existing row; received: {message}")
    return StoreRefused(f"Expected Supabase to accept the request; it refused ({code}).")


def storage_error(status: str, message: str) -> AppError:
    """Translate an error of Storage.

    Args:
        status: the HTTP status that the body of the answer names.
        message: for people; written to the log.
    """
    logger.info("Supabase Storage answered with status %s: %s", status, message)
    if status == "404":
        return NotFound("Expected a file in Supabase Storage; it has none of that name.")
    if status in ("401", "403"):
        return StoreUnavailable(f"SUPABASE_KEY: expected a service key; Supabase Storage refuses it. {_SET_KEY}")
    if status in ("400", "413", "415", "422"):
        return StoreRefused(f"Expected Supabase Storage to accept a file; it refused ({status}).")
    return StoreUnavailable(f"Expected Supabase Storage to be ready; received status {status}.", again=True)
