"""The client of a Supabase project: repeats failed calls, and translates errors."""

import random
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from supabase import Client, ClientOptions, create_client
from supabase.client import SupabaseException

from shoe_classifier.errors import ConfigurationError, StoreUnavailable
from shoe_classifier.storage.supabase.api_errors import no_answer, translated

_ATTEMPTS = 3
_API_PATH = re.compile("/(rest|storage|auth)/v1/*$")

Result = TypeVar("Result")


class SupabaseClient:
    """The client of one project. Safe to use from several threads.

    Args:
        url: the project's address, without the path of an API.
        key: the service key.
        timeout: seconds that any answer may take.

    Raises:
        ConfigurationError: the address or the key cannot be one.
    """

    def __init__(self, url: str, key: str, timeout: float):
        if _API_PATH.search(url):
            raise ConfigurationError(
                f"SUPABASE_URL: expected the address of a project, such as {_API_PATH.sub('', url)!r};"
                f" received {url!r}, which ends in the path of one of its APIs."
            )
        key = key.strip()
        self._http = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 3.0)), follow_redirects=True)
        options = ClientOptions(
            httpx_client=self._http, postgrest_client_retry=False, auto_refresh_token=False, persist_session=False
        )
        try:
            self.client: Client = create_client(url, key, options)
            # Both are created on first use, which is not safe in several threads at once: so use them here.
            self.client.postgrest  # noqa: B018
            self.client.storage  # noqa: B018
        except (SupabaseException, ValueError) as error:  # the latter for characters that no address or key has
            self._http.close()
            raise ConfigurationError(f"Expected SUPABASE_URL and SUPABASE_KEY of a project; {error}.") from None
        self._ping = (f"{url.rstrip('/')}/rest/v1/System_Metrics?select=id&limit=1", _headers(key))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def table(self, name: str) -> Any:
        """Return a query builder; pass its `execute` to `call`."""
        return self.client.table(name)

    def rpc(self, function: str, **arguments: Any) -> Any:
        """Call a function of the migrations and return its result. Raises as `call` does."""
        return self.call(self.client.rpc(function, arguments).execute).data

    def bucket(self, name: str) -> Any:
        """Return the files of a bucket; pass what you do with them to `call`."""
        return self.client.storage.from_(name)

    def call(self, action: Callable[[], Result], attempts: int = _ATTEMPTS) -> Result:
        """Run an idempotent action, several times if Supabase is busy or does not answer.

        Raises:
            StoreUnavailable, NotFound, StoreRefused: see `api_errors.translated`.
        """
        for attempt in range(1, attempts + 1):
            try:
                return translated(action)
            except StoreUnavailable as error:
                if attempt == attempts or not error.again:
                    raise
                time.sleep(0.2 * 2**attempt * (0.5 + random.random() / 2))
        raise AssertionError("Expected at least one attempt.")

    def ping(self, timeout: float) -> float:
        """Return the milliseconds in which the tables answer. Raises `StoreUnavailable`."""
        started, (url, headers) = time.perf_counter(), self._ping
        try:
            answer = self._http.get(url, headers=headers, timeout=timeout)
        except httpx.TransportError as error:
            raise no_answer(error) from error
        if answer.status_code >= 400:
            raise StoreUnavailable(f"Expected Supabase to answer; received status {answer.status_code}.")
        return round((time.perf_counter() - started) * 1e3, 1)


def _headers(key: str) -> dict[str, str]:
    return {"apikey": key, "Authorization": f"Bearer {key}"}
