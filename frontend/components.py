"""What several pages share: the service's state, errors, labels, and how numbers and names are written."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import streamlit as st

from client import Api, ApiError, Busy, Row, Unreachable, from_environment

MODES = ["One by one", "As a grid"]  # of a list of pictures that people go through
_KEY, _OTHER_KEY = "This needs the service's API key.", "This needs another key than the one that was entered."
_USUAL_LIMITS = {"max_image_bytes": 15 << 20, "max_zip_bytes": 1 << 30}  # until the service has said its own
PERCENT = "%.1f %%"
AIM = 20  # pictures of a label, at least
_METRIC = 168  # pixels
_RECONNECT_SECONDS = 2
_RETRY_SECONDS = 5


def api() -> Api:
    """The service, called with this visitor's key."""
    key = st.session_state.get("key") or None
    cached: tuple[str | None, Api] | None = st.session_state.get("api")
    if cached is None or cached[0] != key:
        cached = st.session_state["api"] = (key, from_environment(key))
    return cached[1]


def escape_markdown(text: object) -> str:
    """Make text that users typed appear literally: no links, pictures, colours or formulas."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split()))
    # Emoji names, www. and e-mail addresses are recognised after escapes are removed; a word joiner breaks them up.
    escaped = escaped.replace("\\:", "\\:\u2060").replace("\\@", "\u2060\\@")
    return re.sub(r"(?i)(www)(\\\.)", "\\1\u2060\\2", escaped)


def cell(text: object) -> str:
    """Text that users typed as a cell of a table, whose CSV makes no formula of it in a spreadsheet."""
    return f"'{text}" if str(text)[:1] in tuple("=+-@\t\r") else str(text)


def local_time(timestamp: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """An ISO 8601 timestamp of the service in the visitor's time zone, as charts show it, too."""
    moment = datetime.fromisoformat(timestamp)
    return moment.astimezone(ZoneInfo(st.context.timezone) if st.context.timezone else UTC).strftime(form)


@contextmanager
def handle_api_errors() -> Iterator[None]:
    """Show the service's refusals; when it is away or busy, redraw the page once it answers again."""
    try:
        yield
    except Unreachable as error:
        st.warning(offline_message(error), icon=":material/hourglass_top:")
        _reconnect()
    except Busy as error:
        st.warning(f"{escape_markdown(error.detail)} Trying again.", icon=":material/hourglass_top:")
        _retry(time.monotonic())
    except ApiError as error:
        show_error(error)


def offline_message(error: Unreachable) -> str:
    """Markdown that says why nothing can be shown, and what to do."""
    if error.code == "unreachable":
        return "The service is not running. Start it with `make run`; this page reconnects."
    return f"{escape_markdown(error.detail)} This page reconnects."


def show_error(error: ApiError, place: str = "page") -> None:
    """What the service answered and, where a key is missing, a field for it; `place` tells several fields apart."""
    if error.status != 401:
        st.error(escape_markdown(error.detail), icon=":material/block:")
        return
    st.warning(_OTHER_KEY if st.session_state.get("key") else _KEY, icon=":material/key:")
    name = f"key-{place}"
    st.text_input("API key", type="password", key=name, on_change=_keep_key, args=(name,))


def _keep_key(name: str) -> None:
    st.session_state["key"] = st.session_state[name]  # what belongs to a field is forgotten with the field
    st.session_state.pop("problem", None)


@st.fragment(run_every=_RECONNECT_SECONDS)
def _reconnect() -> None:
    if api().ready():
        st.rerun()


@st.fragment(run_every=_RETRY_SECONDS)
def _retry(drawn: float) -> None:
    if time.monotonic() - drawn > _RETRY_SECONDS / 2:  # a fragment also runs when it is first drawn
        st.rerun()


def live_model(status: Row) -> Row:
    """The live model's part of `GET /status`. Raises `Unreachable` while there is none."""
    model: Row | None = status["model"]
    if model is None:
        raise Unreachable(status["detail"], "not_ready", 503)
    return model


def known_labels(status: Row) -> list[str]:
    """The model's labels, then those that have only been uploaded so far."""
    names = list(live_model(status)["labels"])
    return names + [name for name in status["training_data"]["labels"] or {} if name not in names]


def choose_label(known: Sequence[str], key: str, hint: str = "Choose a label, or type a new one") -> str | None:
    """A select box for one of the known labels, or a new one that is typed."""
    label = st.selectbox(
        "Label",
        known,
        index=None,
        key=key,
        accept_new_options=True,
        placeholder=hint,
        label_visibility="collapsed",
    )
    return label.strip() if label else None


def choose_mode() -> str | None:
    """One of `MODES`."""
    return st.segmented_control("Show", MODES, default=MODES[0], required=True, label_visibility="collapsed")


def limit(name: str) -> int:
    """A limit of the service in bytes."""
    limits: dict[str, int] = st.session_state.get("limits", _USUAL_LIMITS)
    return limits[name]


def megabytes(size: int) -> int:
    """Bytes as the unit in which a field for files takes its limit."""
    return max(1, size >> 20)


def in_units(size: int) -> str:
    """Bytes in words: `15 MB`, `1.5 GB`."""
    return f"{size / (1 << 30):.3g} GB" if size >= 1 << 30 else f"{size / (1 << 20):.3g} MB"


def service_url(path: str) -> str:
    """The address of a part of the service for the visitor's browser, which may not be on this machine."""
    if public := os.environ.get("PUBLIC_API_URL"):
        return public.rstrip("/") + path
    inside, page = urlsplit(api().url), urlsplit(st.context.url or api().url)
    port = f":{inside.port}" if inside.port else ""
    return f"{inside.scheme}://{page.hostname}{port}{path}"


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 picture`, `1,024 pictures`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def in_percent(share: float | None) -> float | None:
    """A share of 0..1 for a table's column of the format `PERCENT`."""
    return None if share is None else share * 100


def metrics(figures: Sequence[tuple[str, str, str | None]]) -> None:
    """Figures with their titles and a remark each, beside each other; two in a row on a phone."""
    with st.container(horizontal=True):
        for title, value, remark in figures:
            st.metric(title, value, remark, delta_color="off", delta_arrow="off", width=_METRIC)


def percent(share: float | None, digits: int = 0) -> str:
    """A share of 0..1 in percent; a dash when there is none."""
    return "–" if share is None else f"{share * 100:.{digits}f} %"
