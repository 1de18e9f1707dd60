"""A Supabase project: calls that are repeated when they fail, errors in our words, and whether it is set up right."""

import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import Client, ClientOptions, create_client
from supabase.client import SupabaseException

from shoe_classifier.errors import ConfigurationError, NotFound, StoreRefused, StoreUnavailable

logger = logging.getLogger(__name__)

MODELS_BUCKET = "models"
REVISION = 1  # of supabase/migrations
_COLUMNS = {
    "Predict": "id image_path predicted_class confidence_score decision probabilities model_version response_time"
    " created_at",
    "Training_Data": "id image_path sha256 shoe_class is_processed split source upload_id uploaded_at",
    "Model_Versions": "version sha256 labels metrics parent state file_path created_at",
    "Retrain_Jobs": "job_id state mode phase progress message samples labels metrics baseline model_version error force"
    " seconds_left created_at started_at finished_at claimed_by heartbeat_at",
    "System_Metrics": "id timestamp request_count avg_response_time model_uptime_status",
}
_INDEXES = {
    "Predict": "Predict_pkey",
    "Training_Data": "Training_Data_pkey Training_Data_sha256_key training_data_unprocessed training_data_processed"
    " training_data_class",
    "Model_Versions": "Model_Versions_pkey model_versions_sha256 model_versions_created model_versions_one_live",
    "Retrain_Jobs": "Retrain_Jobs_pkey retrain_jobs_one_running",
    "System_Metrics": "System_Metrics_pkey system_metrics_timestamp",
}
_MIGRATE = "Run supabase/migrations in the project's SQL editor, or `supabase db push`."
_KEY = "Set SUPABASE_KEY to the project's service (secret) key."
_TRIES = 3
_BUSY = ("PGRST000", "PGRST001", "PGRST002", "PGRST003", "57P03", "53300", "40001", "40P01", "23505", "None", "")
_BAD_KEY = ("PGRST300", "PGRST301", "PGRST302", "PGRST303", "42501", "401", "403")
_NO_SCHEMA = ("PGRST202", "PGRST204", "PGRST205", "42P01", "42703", "42883", "404")

Prediction = TypeVar("Prediction")


class SupabaseClient:
    """The client of one project. Safe to use from several threads.

    Args:
        timeout: seconds that any answer may take.

    Raises:
        ConfigurationError: the address or the key cannot be one.
    """

    def __init__(self, url: str, key: str, timeout: float):
        key = key.strip()
        self._http = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 3.0)), follow_redirects=True)
        options = ClientOptions(
            httpx_client=self._http, postgrest_client_retry=False, auto_refresh_token=False, persist_session=False
        )
        try:
            self.client: Client = create_client(url, key, options)
            self.client.postgrest  # noqa: B018 - made now, because making it is not safe in several threads at once
            self.client.storage  # noqa: B018
        except (SupabaseException, ValueError) as error:  # the latter for letters that no address or key has
            self._http.close()
            raise ConfigurationError(f"Expected SUPABASE_URL and SUPABASE_KEY of a project; {error}.") from None
        self._ping = (f"{url.rstrip('/')}/rest/v1/System_Metrics?select=id&limit=1", _headers(key))

    def close(self) -> None:
        self._http.close()

    def table(self, name: str) -> Any:
        """Build a query; give its `execute` to `call`."""
        return self.client.table(name)

    def rpc(self, function: str, **arguments: Any) -> Any:
        """Call a function of the migrations and return what it returns."""
        return self.call(self.client.rpc(function, arguments).execute).data

    def bucket(self, name: str) -> Any:
        """Files of a bucket; give what you do with them to `call`."""
        return self.client.storage.from_(name)

    def call(self, action: Callable[[], Prediction]) -> Prediction:
        """Do something that may be done twice, up to three times.

        Raises:
            StoreUnavailable: there is no answer, or one that says that the project is not set up right.
            NotFound: there is no such file or bucket.
            StoreRefused: anything else that Supabase says no to.
        """
        for tries in range(1, _TRIES + 1):
            try:
                return _translated(action)
            except StoreUnavailable as error:
                if tries == _TRIES or not error.again:
                    raise
                time.sleep(0.2 * 2**tries * (0.5 + random.random() / 2))
        raise AssertionError

    def ping(self, timeout: float) -> float:
        """Milliseconds that the tables take to answer. Raises `StoreUnavailable`."""
        started, (url, headers) = time.perf_counter(), self._ping
        try:
            answer = self._http.get(url, headers=headers, timeout=timeout)
        except httpx.TransportError as error:
            raise _silent(error) from error
        if answer.status_code >= 400:
            raise StoreUnavailable(f"Expected Supabase to answer; received status {answer.status_code}.")
        return round((time.perf_counter() - started) * 1e3, 1)

    # ------------------------------------------------------------ set up right?

    def check(self, pictures: str) -> list[tuple[bool, str]]:
        """What was looked at, whether it is right, and what is to do where it is not.

        Args:
            pictures: name of the bucket for pictures; that for models is always the same.

        Raises:
            StoreUnavailable: the project does not answer.
        """
        try:
            found: Any = _translated(self.client.rpc("describe_shoe_classifier", {}).execute).data
        except StoreUnavailable as error:
            if error.again:
                raise
            return [(False, error.detail)]
        lines = [(True, "SUPABASE_URL answers, and SUPABASE_KEY is a service key.")]
        if found["revision"] != REVISION:
            lines.append(
                (False, f"Expected revision {REVISION} of the migrations; received {found['revision']}. {_MIGRATE}")
            )
        lines += [_check_table(name, (found["tables"] or {}).get(name)) for name in _COLUMNS]
        return lines + [self._check_bucket(name) for name in (pictures, MODELS_BUCKET)]

    def _check_bucket(self, name: str) -> tuple[bool, str]:
        try:
            bucket = self.call(lambda: self.client.storage.get_bucket(name))
        except NotFound:
            return False, f"Bucket {name}: expected it to exist; received none. {_MIGRATE}"
        except StoreUnavailable as error:
            if error.again:
                raise
            return False, f"Bucket {name}: {error.detail}"
        if bucket.public:
            return False, f"Bucket {name}: expected it to be private; received a public one. Make it private."
        return True, f"Bucket {name}: there, and private."


def _headers(key: str) -> dict[str, str]:
    return {"apikey": key, "Authorization": f"Bearer {key}"}


def _check_table(name: str, found: dict[str, Any] | None) -> tuple[bool, str]:
    if found is None:
        return False, f"Table {name}: expected it to exist; received none. {_MIGRATE}"
    for kind, wanted in (("columns", _COLUMNS[name]), ("indexes", _INDEXES[name])):
        missing = sorted(set(wanted.split()) - set(found[kind] or []))
        if missing:
            return False, f"Table {name}: expected the {kind} {', '.join(missing)}; received none. {_MIGRATE}"
    if not found["writable"]:
        return False, f"Table {name}: expected that the service key may read and write it; it may not. {_MIGRATE}"
    if not found["row_level_security"]:
        return False, f"Table {name}: expected row level security; received none, so that all may read it. {_MIGRATE}"
    if found["policies"]:
        return False, f"Table {name}: expected no policies; received {found['policies']}. Remove them."
    return True, f"Table {name}: columns, indexes and row level security are right."


def _translated(action: Callable[[], Prediction]) -> Prediction:
    try:
        return action()
    except httpx.TransportError as error:
        raise _silent(error) from error
    except APIError as error:
        raise _table_error(str(error.code or ""), error.message or "") from error
    except StorageApiError as error:
        raise _storage_error(str(error.status), error.message) from error


def _silent(error: Exception) -> StoreUnavailable:
    logger.debug("Supabase does not answer.", exc_info=error)
    return StoreUnavailable(f"Expected Supabase to answer; received none ({type(error).__name__}).", again=True)


def _table_error(code: str, message: str) -> Exception:
    logger.info("Supabase says %s: %s", code, message)
    if code in _BUSY or (code.startswith("5") and code.isdigit()):
        return StoreUnavailable(
            f"Expected Supabase to be ready; received error {code or 'without a code'}.", again=True
        )
    if code in _BAD_KEY:
        return StoreUnavailable(f"SUPABASE_KEY: expected a service key; Supabase refuses it ({code}). {_KEY}")
    if code in _NO_SCHEMA:
        return StoreUnavailable(
            f"Expected the tables and functions of the migrations; Supabase does not know one ({code}). {_MIGRATE}"
        )
    return StoreRefused(f"Expected Supabase to do it; it refused ({code}).")


def _storage_error(status: str, message: str) -> Exception:
    logger.info("Supabase Storage says %s: %s", status, message)
    if status == "404":
        return NotFound("Expected a file that Supabase Storage holds; it holds none of that name.")
    if status in ("401", "403"):
        return StoreUnavailable(f"SUPABASE_KEY: expected a service key; Supabase Storage refuses it. {_KEY}")
    if status in ("400", "413", "415", "422"):
        return StoreRefused(f"Expected Supabase Storage to take a file; it refused ({status}).")
    return StoreUnavailable(f"Expected Supabase Storage to be ready; received status {status}.", again=True)
