"""What several pages show: the service's state, pictures, labels, charts."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from client import Api, ApiError, Busy, Row, Unreachable, from_environment

PICTURES = ["jpg", "jpeg", "png", "webp", "bmp", "gif"]
FEW = 20  # pictures of a label; from fewer, not much is learnt
_LOPSIDED = 5  # times as many pictures of one label as of another
_BACK_SECONDS = 2
_BUSY_SECONDS = 5
_HANDS = 8  # thumbnails fetched at once
_KEPT = 3000  # thumbnails, of 5 to 10 kB
_ACCENT = "#3a8fb0"  # seen on light and on dark


def api() -> Api:
    """The service, with the key of this visitor."""
    key = st.session_state.get("api_key") or None
    kept = st.session_state.get("api")
    if kept is None or kept[0] != key:
        kept = st.session_state["api"] = (key, from_environment(key))
    return kept[1]


def plain(text: object) -> str:
    """Text that users typed, so that Markdown shows it as it is: no links, pictures, colours or formulas."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split()))
    # Names between colons, www. and addresses of mail would be recognized after the escapes are gone.
    escaped = escaped.replace("\\:", "\\:\u2060").replace("\\@", "\u2060\\@")
    return re.sub(r"(?i)(www)(\\\.)", "\\1\u2060\\2", escaped)


@contextmanager
def patience() -> Iterator[None]:
    """Show the service's own words when it says no; wait and come back when it is away."""
    try:
        yield
    except Unreachable as error:
        words = f"{plain(error.detail)} This page comes back by itself when the service does."
        st.warning(words, icon=":material/hourglass_top:")
        _come_back()
    except Busy as error:
        st.warning(f"{plain(error.detail)} Trying again.", icon=":material/hourglass_top:")
        _try_again(time.monotonic())
    except ApiError as error:
        complain(error)


def complain(error: ApiError) -> None:
    """What the service said, and for a missing key, what to do."""
    hint = " Enter the key in the sidebar." if error.status == 401 else ""
    st.error(plain(error.detail) + hint, icon=":material/block:")


@st.fragment(run_every=_BACK_SECONDS)
def _come_back() -> None:
    if api().ready():
        st.rerun()


@st.fragment(run_every=_BUSY_SECONDS)
def _try_again(drawn: float) -> None:
    if time.monotonic() - drawn > _BUSY_SECONDS / 2:  # not while it is drawn the first time
        st.rerun()


def model_of(status: Row) -> Row:
    """What is told of the live model. Raises `Unreachable` while there is none."""
    if status["model"] is None:
        raise Unreachable(status["detail"], "not_ready", 503)
    return status["model"]


@st.cache_resource(max_entries=1, show_spinner=False)
def _thumbnails() -> OrderedDict[tuple[str, str, int], bytes]:
    return OrderedDict()  # of all visitors: they see the same pictures


def small(hashes: Sequence[str], width: int = 160) -> dict[str, bytes | None]:
    """Small pictures of the service by their hashes, fetched side by side; None for those that cannot be shown."""
    client, cache = api(), _thumbnails()

    def fetch(sha256: str) -> bytes | None:
        try:
            return client.thumbnail(sha256, width)
        except Unreachable:
            raise
        except ApiError:  # deleted, or not to be had now
            return None

    missing = [sha256 for sha256 in dict.fromkeys(hashes) if (client.url, sha256, width) not in cache]
    with ThreadPoolExecutor(_HANDS) as hands:
        fetched = dict(zip(missing, hands.map(fetch, missing), strict=True))
    for sha256, data in fetched.items():
        if data:
            cache[client.url, sha256, width] = data
    found = {sha256: cache.get((client.url, sha256, width)) for sha256 in hashes}
    while len(cache) > _KEPT:
        cache.popitem(last=False)
    return found


def forget(sha256: str) -> None:
    """A picture was deleted: nobody shall see it any more."""
    cache = _thumbnails()
    for key in [key for key in cache if key[1] == sha256]:
        cache.pop(key, None)


def picture(data: bytes | None, alt_text: str, width: int | str = "stretch") -> None:
    """Show a picture to all, also to those who hear it."""
    if data is None:
        st.caption("cannot be shown")
        return
    st.image(data, width=width, alt=alt_text)


def sha256_of(image_path: str) -> str:
    """The hash by which `/files` knows a picture."""
    return image_path.rsplit("/", 1)[-1].split(".", maxsplit=1)[0]


def choose_label(known: Sequence[str], key: str, chosen: str | None = None) -> str | None:
    """One of the known labels, or a new one that is typed."""
    index = known.index(chosen) if chosen in known else None
    hint = "Choose one, or type a new one"
    label = st.selectbox("Right label", known, index=index, key=key, accept_new_options=True, placeholder=hint)
    return label.strip() if label else None


def labels_of(status: Row) -> list[str]:
    """The labels of the model, then those that were only uploaded yet."""
    names = list(model_of(status)["labels"])
    return names + [name for name in status["training_data"]["labels"] or {} if name not in names]


def bars(values: dict[str, float], axis: str, form: str = ".0%", top: float | None = 1.0) -> None:
    """Horizontal bars with their figures."""
    table = pd.DataFrame({"label": list(values), "value": list(values.values())})
    scale = alt.Scale(domain=[0, top]) if top else alt.Scale(zero=True)
    chart = alt.Chart(table).encode(
        x=alt.X("value:Q", title=axis, scale=scale, axis=alt.Axis(format=form, tickCount=4)),
        y=alt.Y("label:N", title=None, sort="-x", axis=alt.Axis(labelOverlap=False)),
        tooltip=["label:N", alt.Tooltip("value:Q", format=form)],
    )
    text = chart.mark_text(align="left", dx=4, color="gray").encode(text=alt.Text("value:Q", format=form))
    said = ", ".join(f"{label} {value:{form if form != 'd' else '.0f'}}" for label, value in values.items())
    st.altair_chart((chart.mark_bar(color=_ACCENT) + text).properties(height=alt.Step(28)), alt=f"{axis}: {said}")


def side_by_side(figures: dict[str, dict[str, float]], title: str) -> None:
    """Grouped bars: for each label one bar of each column, 0..1."""
    table = pd.DataFrame(
        [
            {"label": label, "of": column, "value": value}
            for column, row in figures.items()
            for label, value in row.items()
        ]
    )
    order = list(figures)
    chart = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("value:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")),
            y=alt.Y("label:N", title=None),
            yOffset=alt.YOffset("of:N", sort=order),
            color=alt.Color(
                "of:N",
                title=None,
                scale=alt.Scale(domain=order, range=["#9aa5b1", _ACCENT]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["label:N", "of:N", alt.Tooltip("value:Q", format=".1%")],
        )
    )
    said = "; ".join(
        f"{column}: " + ", ".join(f"{label} {value:.0%}" for label, value in row.items())
        for column, row in figures.items()
    )
    st.altair_chart(chart.properties(height=alt.Step(16)), alt=f"{title}, {said}")


def confusion(metrics: Row, title: str) -> None:
    """What was called what: a row for each true label."""
    names = metrics["labels"]
    table = pd.DataFrame(
        [
            {"is": truth, "was called": guess, "pictures": count}
            for truth, row in zip(names, metrics["confusion_matrix"], strict=True)
            for guess, count in zip(names, row, strict=True)
        ]
    )
    base = alt.Chart(table, title=title).encode(
        x=alt.X("was called:N", sort=names, axis=alt.Axis(labelAngle=-30)),
        y=alt.Y("is:N", sort=names),
        tooltip=["is", "was called", "pictures"],
    )
    most = max(1, int(table["pictures"].max()))
    heat = base.mark_rect().encode(color=alt.Color("pictures:Q", legend=None, scale=alt.Scale(scheme="blues")))
    text = base.mark_text().encode(
        text="pictures:Q",
        color=alt.condition(alt.datum.pictures > most / 2, alt.value("white"), alt.value("black")),
    )
    said = ", ".join(
        f"{row['pictures']} of {row['is']} called {row['was called']}"
        for row in table.to_dict("records")
        if row["pictures"]
    )
    st.altair_chart((heat + text).properties(height=alt.Step(44)), alt=f"{title}: {said}")


def label_counts(counts: dict[str, int]) -> None:
    """How many pictures of each label there are, and whether that is enough to learn from."""
    bars({name: float(count) for name, count in counts.items()}, "pictures", "d", None)
    few = [f"{plain(name)} ({count})" for name, count in counts.items() if count < FEW]
    if few:
        st.warning(
            f"Few pictures to learn from: {', '.join(few)}. {FEW} of each are a good start.", icon=":material/warning:"
        )
    if counts and max(counts.values()) > _LOPSIDED * min(counts.values()):
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        st.warning(
            f"Lopsided: {counts[most]} pictures of {plain(most)}, {counts[least]} of {plain(least)}.",
            icon=":material/balance:",
        )


def grid(items: Sequence[Any], show: Callable[[Any], None], across: int = 4) -> None:
    """Items in rows; on a phone they stand below each other."""
    for start in range(0, len(items), across):
        for column, item in zip(st.columns(across), items[start : start + across], strict=False):
            with column, st.container(border=True):
                show(item)
