"""What several pages show: the service's state, pictures, labels, charts."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from client import Api, ApiError, Row, Unreachable, from_environment

PICTURES = ["jpg", "jpeg", "png", "webp", "bmp", "gif"]
FEW = 20  # pictures of a label; from fewer, not much is learnt
_LOPSIDED = 5  # times as many pictures of one label as of another
_OTHER = "another label …"
_BACK_SECONDS = 2
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
    return escaped.replace("\\:", "\\:\u2060")  # or `:name:` would become a picture


@contextmanager
def patience() -> Iterator[None]:
    """Show the service's own words when it says no; wait and come back when it is away."""
    try:
        yield
    except Unreachable as error:
        st.warning(
            f"{plain(error.detail)} This page comes back by itself when the service does.",
            icon=":material/hourglass_top:",
        )
        _come_back()
    except ApiError as error:
        complain(error)


def complain(error: ApiError) -> None:
    """What the service said, and for a missing key, what to do."""
    hint = " Enter the key in the sidebar." if error.status in (401, 403) else ""
    st.error(plain(error.detail) + hint, icon=":material/block:")


@st.fragment(run_every=_BACK_SECONDS)
def _come_back() -> None:
    if api().ready():
        st.rerun()


@st.cache_data(max_entries=2000, show_spinner=False)
def thumbnail(_api: Api, url: str, sha256: str, width: int) -> bytes | None:
    """A small picture; None when it is gone. `url` is part of the key: another service has other pictures."""
    try:
        return _api.thumbnail(sha256, width)
    except Unreachable:
        raise
    except ApiError:
        return None


def small(sha256: str, width: int = 160) -> bytes | None:
    """A small picture of the service."""
    return thumbnail(api(), api().url, sha256, width)


def picture(data: bytes | None, alt_text: str, width: int | str = "stretch") -> None:
    """Show a picture to all, also to those who hear it."""
    if data is None:
        st.caption("picture deleted")
        return
    st.image(data, width=width, alt=alt_text)


def sha256_of(image_path: str | None) -> str | None:
    """The hash by which `/files` knows a picture."""
    return image_path.rsplit("/", 1)[-1].split(".")[0] if image_path else None


def choose_label(known: Sequence[str], key: str, chosen: str | None = None) -> str:
    """One of the known labels, or a new one that is typed."""
    options = [*known, _OTHER]
    index = options.index(chosen) if chosen in options else 0
    label = st.selectbox("Right label", options, index=index, key=f"{key}-known")
    if label == _OTHER:
        return st.text_input("New label", key=f"{key}-new", max_chars=64).strip()
    return str(label)


def labels_of(status: Row) -> list[str]:
    """The labels of the model, then those that were only uploaded yet."""
    names = list((status["model"] or {}).get("labels", []))
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
    st.altair_chart((chart.mark_bar(color=_ACCENT) + text).properties(height=alt.Step(28)))


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
    st.altair_chart(chart.properties(height=alt.Step(16)))


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
    st.altair_chart((heat + text).properties(height=alt.Step(44)))


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
