"""History and health: what was predicted, how fast, and how the service is."""

from datetime import UTC, datetime

import altair as alt
import pandas as pd
import streamlit as st

from client import Row
from components import (
    api,
    data_url,
    escape_markdown,
    handle_api_errors,
    local_time,
    sha256_of,
    thumbnails,
)

_ROWS = 100
_SIDE = 64  # pixels of a thumbnail
_DECISIONS = ("accepted", "uncertain", "unknown")


def health(status: Row) -> None:
    """Four figures, and what needs attention."""
    model, store, requests = status["model"], status["store"], status["requests"]
    latency = f"{store['latency_ms']:.0f} ms" if store.get("latency_ms") else None
    figures: list[tuple[str, str | int, str | None]] = [
        ("Service", status["status"], f"up {_duration(status['uptime_seconds'])}"),
        ("Requests", int(requests["count"]), f"{requests['average_ms']:.1f} ms on average"),
        ("Store", store["kind"], latency),
        ("Model's age", "none", None),
    ]
    if model:
        live_for = f"live for {_duration(model['live_for_seconds'])}"
        figures[-1] = ("Model's age", _duration(_seconds_since(model["created_at"])), live_for)
    for column, (title, value, detail) in zip(st.columns(4), figures, strict=True):
        column.metric(title, value, detail, delta_color="off", delta_arrow="off")
    store_problems(store)


def store_problems(store: Row) -> None:
    """What the store could not save, and what still waits to be sent."""
    if store.get("error"):
        st.error(escape_markdown(store["error"]))
    outbox = store.get("outbox")
    if outbox and outbox["rows"]:
        st.warning(
            f"{outbox['rows']} rows and {outbox['pictures']} pictures wait to be sent, "
            f"the oldest for {_duration(outbox['oldest_seconds'])}. {escape_markdown(outbox['waits_because'] or '')}"
        )
    if outbox and (outbox["dropped_rows"] or outbox["dropped_pictures"]):
        st.error(f"Dropped from the outbox: {outbox['dropped_rows']} rows, {outbox['dropped_pictures']} pictures.")
    if store["unrecorded_predictions"]:
        st.error(f"{store['unrecorded_predictions']} predictions were answered, but could not be recorded.")


def traffic(minutes: list[Row]) -> None:
    """Requests and response times by minute; charts show the visitor's time zone."""
    if not minutes:
        st.info("No minute with traffic has been recorded yet.")
        return
    table = pd.DataFrame(minutes).rename(columns={"request_count": "requests", "avg_response_time": "ms"})
    table["time"] = pd.to_datetime(table["timestamp"], format="ISO8601").dt.floor("min")
    days = (table["time"].max() - table["time"].min()).days
    if not days:  # minutes without traffic have no row
        minute = table.set_index("time").resample("1min")
        table = pd.DataFrame({"requests": minute["requests"].sum(), "ms": minute["ms"].mean()}).reset_index()
    axis = alt.Axis(format="%d %b %H:%M" if days else "%H:%M")
    left, right = st.columns(2)
    for column, name, title in ((left, "requests", "requests a minute"), (right, "ms", "average response time, ms")):
        lines = alt.Chart(table).mark_line(point=True)
        chart = lines.encode(x=alt.X("time:T", title=None, axis=axis), y=alt.Y(f"{name}:Q", title=title))
        with column:
            st.altair_chart(chart, height=220, alt=f"{title}, most recently {table[name].iloc[-1]:.1f}")


def predictions() -> None:
    """The latest predictions, filtered by label and decision."""
    rows = api().predictions(_ROWS)
    left, right = st.columns(2)
    labels = left.multiselect("Label", sorted({row["predicted_class"] for row in rows}))
    decisions = right.multiselect("Decision", _DECISIONS)
    shown = [
        row
        for row in rows
        if (not labels or row["predicted_class"] in labels) and (not decisions or row["decision"] in decisions)
    ]
    st.caption(f"{len(shown)} of the last {len(rows)}")
    small = thumbnails([sha256_of(row["image_path"]) for row in shown if row["image_path"]], _SIDE)
    st.dataframe(
        [
            {
                "picture": data_url(small[sha256_of(row["image_path"])]) if row["image_path"] else None,
                "label": row["predicted_class"],
                "confidence": row["confidence_score"],
                "decision": row["decision"],
                "ms": row["response_time"],
                "version": row["model_version"],
                "time": local_time(row["created_at"]),
            }
            for row in shown
        ],
        column_config={
            "picture": st.column_config.ImageColumn("picture"),
            "confidence": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
        },
    )


def _seconds_since(timestamp: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


st.title("History and health")
with handle_api_errors():
    health(api().status())
    st.subheader("Traffic")
    traffic(api().minutes(240))
    st.subheader("Predictions")
    predictions()
