import httpx
import pytest
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError

from shoe_classifier.errors import AppError, NotFound, StoreRefused, StoreUnavailable
from shoe_classifier.storage.supabase.api_errors import storage_error, table_error, translated


def test_a_result_is_returned() -> None:
    assert translated(lambda: 1) == 1


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (httpx.ConnectError("refused"), StoreUnavailable, "received none (ConnectError)"),
        (httpx.ReadTimeout("slow"), StoreUnavailable, "received none (ReadTimeout)"),
        (APIError({"code": "42P01", "message": "no table"}), StoreUnavailable, "Run supabase/migrations"),
        (APIError({"message": "Invalid API key"}), StoreUnavailable, "Set SUPABASE_KEY"),
        (StorageApiError("Object not found", "not_found", "404"), NotFound, "none of that name"),
    ],
)
def test_errors_of_the_client_library_are_translated(error: Exception, kind: type[AppError], said: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(kind) as caught:
        translated(fail)
    assert said in caught.value.detail
    assert caught.value.__cause__ is error


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(KeyError):
        translated(lambda: {}["none"])


@pytest.mark.parametrize("code", ["PGRST000", "57P03", "40P01", "502", "503", ""])
def test_a_busy_project_is_worth_another_attempt(code: str) -> None:
    error = table_error(code, "")
    assert isinstance(error, StoreUnavailable) and error.again and "ready" in error.detail


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("PGRST301", "JWSError"),
        ("42501", "permission denied"),
        ("401", "Unauthorized"),
        ("", "Invalid API key"),  # a hosted project's answer to a revoked key
        ("", "No API key found in request"),
    ],
)
def test_a_bad_key_is_not(code: str, message: str) -> None:
    error = table_error(code, message)
    assert isinstance(error, StoreUnavailable) and not error.again and "SUPABASE_KEY" in error.detail


@pytest.mark.parametrize("code", ["PGRST202", "PGRST203", "PGRST205", "42703"])
def test_nor_is_a_project_without_the_migrations(code: str) -> None:
    error = table_error(code, "")
    assert isinstance(error, StoreUnavailable) and not error.again and "supabase/migrations" in error.detail


def test_anything_else_is_refused() -> None:
    assert isinstance(table_error("22P02", "invalid input syntax"), StoreRefused)
    assert isinstance(table_error("P0002", "version x does not exist"), NotFound)


@pytest.mark.parametrize(
    ("status", "kind", "again"),
    [
        ("404", NotFound, None),
        ("401", StoreUnavailable, False),
        ("403", StoreUnavailable, False),
        ("413", StoreRefused, None),
        ("500", StoreUnavailable, True),
        ("502", StoreUnavailable, True),
    ],
)
def test_errors_of_storage(status: str, kind: type[AppError], again: bool | None) -> None:
    error = storage_error(status, "")
    assert type(error) is kind and getattr(error, "again", None) == again
