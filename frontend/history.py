"""History and health: what was predicted, how fast, and how the service is."""

import base64
from datetime import UTC, datetime

import altair as alt
import pandas as pd
import streamlit as st

from client import Row
from parts import api, patience, sha256_of, small

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
        st.error(store["error"])
    outbox = store.get("outbox")
    if outbox and outbox["rows"]:
        st.warning(
            f"{outbox['rows']} rows and {outbox['pictures']} pictures wait to be sent, "
            f"the oldest for {_span(outbox['oldest_seconds'])}."
        )
    if store["unrecorded_predictions"]:
        st.error(f"{store['unrecorded_predictions']} predictions were answered, but could not be written down.")


def traffic(minutes: list[Row]) -> None:
    if not minutes:
        st.info("No minute with traffic has been written down yet.")
        return
    table = pd.DataFrame(minutes)
    table["time"] = pd.to_datetime(table["timestamp"])
    left, right = st.columns(2)
    for column, name, title in (
        (left, "request_count", "requests a minute"),
        (right, "avg_response_time", "average response time, ms"),
    ):
        chart = alt.Chart(table).mark_line(point=True)
        with column:
            st.altair_chart(
                chart.encode(
                    x=alt.X("time:T", title=None, axis=alt.Axis(format="%H:%M")), y=alt.Y(f"{name}:Q", title=title)
                ),
                height=220,
            )


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
    st.dataframe(
        [
            {
                "picture": _address(row),
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


def _address(row: Row) -> str | None:
    sha256 = sha256_of(row["image_path"])
    data = small(sha256, _SIDE) if sha256 else None
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
