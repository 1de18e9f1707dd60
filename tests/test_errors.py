import pytest

from shoe_classifier import errors
from shoe_classifier.errors import AppError, Overloaded, StoreUnavailable

FAMILY = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, AppError)]


def test_each_error_has_a_status_and_a_code_of_its_own() -> None:
    assert all(400 <= kind.status < 600 for kind in FAMILY)
    assert len({kind.code for kind in FAMILY}) == len(FAMILY)


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_carries_its_message(kind: type[AppError]) -> None:
    error = kind("Expected x; received y.", **({"reason": "memory"} if kind is Overloaded else {}))
    assert (str(error), error.detail, error.extra) == ("Expected x; received y.", "Expected x; received y.", {})


def test_extra_fields_and_headers() -> None:
    error = AppError("x", extra={"report": 1}, headers={"Connection": "close"})
    assert (error.extra, error.headers) == ({"report": 1}, {"Connection": "close"})


@pytest.mark.parametrize("again", [True, False])
def test_an_unavailable_store_names_the_time_to_retry(again: bool) -> None:
    error = StoreUnavailable("x", again=again)
    assert (error.again, error.headers) == (again, {"Retry-After": "5"})
