"""Health: is it still good, how fast is it, and what was predicted."""

from datetime import UTC, datetime, timedelta

import altair as alt
import pandas as pd
import streamlit as st

from changes import make_change, show_outcome
from charts import show
from client import Row
from components import (
    PERCENT,
    api,
    cell,
    escape_markdown,
    handle_api_errors,
    in_percent,
    known_labels,
    local_time,
    metrics,
    percent,
)
from pictures import data_url, sha256_of, thumbnails

_ROWS = 100
_SIDE = 64  # pixels of a thumbnail
_DECISIONS = {"accepted": "sure", "uncertain": "unsure", "unknown": "not recognised"}


def quality(report: Row) -> None:
    """Accuracy of what was reviewed, drift, and how often the model is unsure."""
    low, high = report["accuracy_interval"]
    drift, reviewed = report["drift"], report["reviewed"]
    figures = [
        (
            "Accuracy",
            percent(report["accuracy"]),
            f"{percent(low)} to {percent(high)}" if reviewed else "none reviewed",
        ),
        ("Reviewed at random", f"{reviewed:,}", f"of {report['predictions']:,} predictions"),
        ("Unsure", percent(report["uncertain_rate"]), None),
        ("Not recognised", percent(report["unknown_rate"]), None),
    ]
    metrics(figures)
    if drift["raised"]:
        st.error(f"Recent pictures differ from those that were taught. {escape_markdown(drift['detail'])}")
    else:
        st.info(escape_markdown(drift["detail"]), icon=":material/query_stats:")
    if not reviewed:
        st.page_link("review.py", label="Review a random sample to measure the accuracy", icon=":material/fact_check:")
    if len(report["by_day"]) > 1:
        by_day(report["by_day"])


def by_day(days: list[Row]) -> None:
    """Accuracy and rates of each day."""
    names = {"accuracy": "accuracy", "uncertain_rate": "unsure", "unknown_rate": "not recognised"}
    table = (
        pd.DataFrame(days)
        .rename(columns=names)[["day", *names.values()]]
        .melt("day", var_name="of", value_name="share")
    )
    lines = alt.Chart(table).mark_line(point=True)
    y = alt.Y("share:Q", title=None, axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1]))
    chart = lines.encode(x=alt.X("day:O", title="day, in UTC"), y=y, color=alt.Color("of:N", title=None))
    show(chart.properties(height=220), "accuracy, unsure and not recognised by day")


def health(status: Row) -> None:
    """Four figures, and what needs attention."""
    model, store, requests = status["model"], status["store"], status["requests"]
    latency = f"{store['latency_ms']:.0f} ms" if store.get("latency_ms") else None
    figures = [
        ("State", status["status"], f"up {_duration(status['uptime_seconds'])}"),
        ("Requests", f"{requests['count']:,.0f}", f"{requests['average_ms']:.1f} ms on average"),
        ("Store", store["kind"], latency),
        ("Model's age", "none", None),
    ]
    if model:
        live_for = f"live for {_duration(model['live_for_seconds'])}"
        figures[-1] = ("Model's age", _duration(_seconds_since(model["created_at"])), live_for)
    metrics(figures)
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


@st.fragment(run_every=5)
@handle_api_errors()
def webhooks() -> None:
    """Whether somebody is told of events; refreshed every five seconds."""
    show_outcome()
    deliveries(api().status()["webhooks"])


def deliveries(state: Row | None) -> None:
    """Where events go, and how that went lately."""
    if state is None:
        st.write("Off. `WEBHOOK_URL` and `WEBHOOK_SECRET` name a receiver of events, such as a published retrain.")
        return
    if state["gone"]:
        st.error("The receiver wants no further events (410). They are sent again after the next start.")
    elif state["last_error"]:
        st.warning(f"The last delivery failed and is tried again. {escape_markdown(state['last_error'])}")
    counts = f"{state['delivered']:,} delivered since the start, {state['waiting']:,} waiting"
    lost = state["given_up"] + state["refused"]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.write(counts + (f", {lost:,} given up." if lost else "."))
        st.button("Send a test", on_click=make_change, args=(api().test_webhook, "The test is on its way."))
    if state["recent"]:
        st.dataframe(
            [
                {"time": local_time(row["at"]), "event": row["type"], "result": row["error"] or "delivered"}
                for row in state["recent"]
            ]
        )


def traffic(minutes: list[Row]) -> None:
    """Requests and response times by minute; charts show the visitor's time zone."""
    if not minutes:
        st.info("The first minute is not over yet.")
        return
    table = pd.DataFrame(minutes).rename(columns={"request_count": "requests", "avg_response_time": "ms"})
    table["time"] = pd.to_datetime(table["timestamp"], format="ISO8601").dt.floor("min")
    length = table["time"].max() - table["time"].min()
    if not length.days:  # minutes without traffic have no row
        minute = table.set_index("time").resample("1min")
        table = pd.DataFrame({"requests": minute["requests"].sum(), "ms": minute["ms"].mean()}).reset_index()
    axis = _time_axis(length)
    left, right = st.columns(2)
    for column, name, title in ((left, "requests", "requests a minute"), (right, "ms", "average response time, ms")):
        lines = alt.Chart(table).mark_line(point=True)
        chart = lines.encode(x=alt.X("time:T", title=None, axis=axis), y=alt.Y(f"{name}:Q", title=title))
        with column:
            show(chart.properties(height=220), f"{title}, most recently {table[name].iloc[-1]:.1f}")


@st.fragment
@handle_api_errors()
def predictions(labels: list[str]) -> None:
    """The latest predictions, of one label or decision."""
    with st.container(horizontal=True):
        label = st.selectbox("Label", labels, index=None, placeholder="Any")
        decision = st.selectbox(
            "Decision", _DECISIONS, format_func=_DECISIONS.__getitem__, index=None, placeholder="Any"
        )
    shown, total = api().predictions(_ROWS, label=label, decision=decision)
    if not shown:
        st.info("There are no such predictions." if label or decision else "Nothing has been predicted yet.")
        return
    st.caption(f"{len(shown):,} of {total or 0:,}")
    small = thumbnails([sha256_of(row["image_path"]) for row in shown if row["image_path"]], _SIDE)
    st.dataframe(
        [
            {
                "picture": data_url(small[sha256_of(row["image_path"])]) if row["image_path"] else None,
                "label": cell(row["predicted_class"]),
                "confidence": in_percent(row["confidence_score"]),
                "decision": _DECISIONS.get(row["decision"], row["decision"]),
                "ms": row["response_time"],
                "version": row["model_version"],
                "time": local_time(row["created_at"]),
            }
            for row in shown
        ],
        column_config={
            "picture": st.column_config.ImageColumn("picture"),
            "confidence": st.column_config.ProgressColumn(format=PERCENT, min_value=0, max_value=100),
            "ms": st.column_config.NumberColumn(format="%.1f"),
        },
    )


def _time_axis(length: timedelta) -> alt.Axis:
    if length.days:
        return alt.Axis(format="%d %b %H:%M")
    ticks = max(1, min(6, length // timedelta(minutes=1)))  # with more, some minutes would stand there twice
    return alt.Axis(format="%H:%M", tickCount=ticks)


def _seconds_since(timestamp: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


st.title("Health")
with handle_api_errors():
    status = api().status()
    quality(api().monitoring(30))
    st.header("Service")
    health(status)
    st.header("Webhooks")
    webhooks()
    st.header("Traffic")
    traffic(api().minutes(240))
    st.header("Predictions")
    predictions(known_labels(status))
