"""History and health: what was predicted, how fast, and how the service is."""

import base64
from datetime import UTC, datetime

import altair as alt
import pandas as pd
import streamlit as st

from client import Row
from parts import api, patience, plain, sha256_of, small

_ROWS = 100
_SIDE = 64
_DECISIONS = ("accepted", "uncertain", "unknown")


def health(status: Row) -> None:
    model, store, requests = status["model"], status["store"], status["requests"]
    columns = st.columns(4)
    columns[0].metric(
        "Service", status["status"], f"up {_span(status['uptime_seconds'])}", delta_color="off", delta_arrow="off"
    )
    columns[1].metric(
        "Model's age",
        _span(_seconds_since(model["created_at"])) if model else "none",
        f"live for {_span(model['live_for_seconds'])}" if model else None,
        delta_color="off",
        delta_arrow="off",
    )
    columns[2].metric(
        "Requests",
        int(requests["count"]),
        f"{requests['average_ms']:.1f} ms on average",
        delta_color="off",
        delta_arrow="off",
    )
    speed = f"{store['latency_ms']:.0f} ms" if store.get("latency_ms") else None
    columns[3].metric("Store", store["kind"], speed, delta_color="off", delta_arrow="off")
    if store.get("error"):
        st.error(plain(store["error"]))
    outbox = store.get("outbox")
    if outbox and outbox["rows"]:
        st.warning(
            f"{outbox['rows']} rows and {outbox['pictures']} pictures wait to be sent, "
            f"the oldest for {_span(outbox['oldest_seconds'])}. {plain(outbox['waits_because'] or '')}"
        )
    if outbox and (outbox["dropped_rows"] or outbox["dropped_pictures"]):
        st.error(f"Dropped from the outbox: {outbox['dropped_rows']} rows, {outbox['dropped_pictures']} pictures.")
    if store["unrecorded_predictions"]:
        st.error(f"{store['unrecorded_predictions']} predictions were answered, but could not be written down.")


def traffic(minutes: list[Row]) -> None:
    if not minutes:
        st.info("No minute with traffic has been written down yet.")
        return
    table = pd.DataFrame(minutes).rename(columns={"request_count": "requests", "avg_response_time": "ms"})
    table["time"] = pd.to_datetime(table["timestamp"], format="ISO8601").dt.floor("min")
    days = (table["time"].max() - table["time"].min()).days
    if not days:  # minutes without traffic are not written down
        minute = table.set_index("time").resample("1min")
        table = pd.DataFrame({"requests": minute["requests"].sum(), "ms": minute["ms"].mean()}).reset_index()
    axis = alt.Axis(format="%d %b %H:%M" if days else "%H:%M")
    left, right = st.columns(2)
    for column, name, title in ((left, "requests", "requests a minute"), (right, "ms", "average response time, ms")):
        lines = alt.Chart(table).mark_line(point=True)
        chart = lines.encode(x=alt.X("time:T", title=None, axis=axis), y=alt.Y(f"{name}:Q", title=title))
        with column:
            st.altair_chart(chart, height=220, alt=f"{title}, at last {table[name].iloc[-1]:.1f}")


def predictions() -> None:
    rows = api().predictions(_ROWS)
    labels = sorted({row["predicted_class"] for row in rows})
    left, right = st.columns(2)
    wanted = left.multiselect("Label", labels)
    decisions = right.multiselect("Decision", _DECISIONS)
    shown = [
        row
        for row in rows
        if (not wanted or row["predicted_class"] in wanted) and (not decisions or row["decision"] in decisions)
    ]
    st.caption(f"{len(shown)} of the last {len(rows)}")
    pictures = small([sha256_of(row["image_path"]) for row in shown if row["image_path"]], _SIDE)
    st.dataframe(
        [
            {
                "picture": _address(row, pictures),
                "label": row["predicted_class"],
                "confidence": row["confidence_score"],
                "decision": row["decision"],
                "ms": row["response_time"],
                "version": row["model_version"],
                "time": row["created_at"][:19].replace("T", " "),
            }
            for row in shown
        ],
        column_config={
            "picture": st.column_config.ImageColumn("picture"),
            "confidence": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
        },
    )


def _address(row: Row, pictures: dict[str, bytes | None]) -> str | None:
    data = pictures[sha256_of(row["image_path"])] if row["image_path"] else None
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" if data else None


def _seconds_since(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def _span(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


st.title("History and health")
with patience():
    health(api().status())
    st.subheader("Traffic")
    traffic(api().minutes(240))
    st.subheader("Predictions")
    predictions()
