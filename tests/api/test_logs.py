"""What the service writes to its log."""

import json
import logging
import re
import signal
from collections.abc import Callable

import pytest

from helpers.service import Process, make_settings
from shoe_classifier.api.logs import JsonFormatter, TextFormatter, log_config

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
FORGED = "x\r\n2026-01-01T00:00:00.000Z ERROR   forged\x1b[2J\u2028\u202e\x85\ud800"


def record(message: str, *values: object, failure: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(failure), failure, failure.__traceback__) if failure else None
    return logging.LogRecord("shoe_classifier.x", logging.WARNING, __file__, 1, message, values, exc_info)


def failure() -> Exception:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        return error


def test_an_event_is_a_line_that_a_client_cannot_end() -> None:
    text = TextFormatter().format(record("received %s", FORGED))
    assert re.fullmatch(
        TIME + r" WARNING received x\\r\\n2026-01-01T00:00:00.000Z ERROR   forged\\x1b\[2J\\u2028\\u202e\\x85\\ud800",
        text,
    )
    assert "Ö naïve 鞋" in TextFormatter().format(record("Ö naïve 鞋"))


def test_a_traceback_is_indented_so_that_its_text_is_no_event() -> None:
    first, *others = TextFormatter().format(record("It failed.", failure=failure())).split("\n")
    assert re.fullmatch(TIME + " WARNING It failed.", first)
    assert others[0].strip().startswith("Traceback")
    assert any("forged" in line for line in others)
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_json_is_one_object_in_ascii() -> None:
    text = JsonFormatter().format(record("received %s", FORGED, failure=failure()))
    assert text.isascii() and text.isprintable()
    event = json.loads(text)
    assert (event["level"], event["logger"]) == ("warning", "shoe_classifier.x")
    assert event["message"] == f"received {FORGED}".strip()
    assert event["details"].startswith("Traceback")
    assert re.fullmatch(TIME, event["time"])


def test_the_details_of_a_caller_follow_the_line() -> None:
    event = record("It failed.")
    event.details = "one\ntwo"
    assert TextFormatter().format(event).split("\n")[1:] == ["    one", "    two"]


@pytest.mark.parametrize(
    ("level", "ours", "libraries"), [("debug", 10, 30), ("info", 20, 30), ("warning", 30, 30), ("error", 40, 40)]
)
def test_libraries_log_from_warning_on(tmp_path: object, level: str, ours: int, libraries: int) -> None:
    config = log_config(make_settings(tmp_path, log_level=level))  # type: ignore[arg-type]
    levels = logging.getLevelNamesMapping()
    assert (
        levels[config["loggers"]["shoe_classifier"]["level"]] == levels[config["loggers"]["uvicorn"]["level"]] == ours
    )
    assert levels[config["root"]["level"]] == libraries


def lines_of(process: Process) -> list[str]:
    """The lines of the log, without the one that LiteRT's native code always writes by itself."""
    return [line for line in process.log.read_text().splitlines() if "XNNPACK delegate" not in line]


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_every_line_of_the_service_is_an_event(start: Callable[..., Process], workers: str) -> None:
    process = start(LOG_FORMAT="json", LOG_LEVEL="debug", UVICORN_WORKERS=workers)
    process.client.get("/x%0a%1b[2J?y=%0aforged")
    process.process.send_signal(signal.SIGTERM)
    process.process.wait(30)
    events = [json.loads(line) for line in lines_of(process)]
    assert {"shoe_classifier.api.server", "uvicorn.error", "uvicorn.access"} <= {event["logger"] for event in events}
    assert len({event["process"] for event in events}) == (1 if workers == "1" else 3)


def test_every_line_of_the_service_has_a_time(start: Callable[..., Process]) -> None:
    process = start(LOG_LEVEL="debug")
    process.client.get("/x%0aforged")
    process.close()
    invitation, *lines = lines_of(process)
    assert invitation.startswith("Open http://")
    assert len(lines) > 2
    assert [line for line in lines if not re.match(TIME + r" (DEBUG|INFO|WARNING) +\S", line)] == []
