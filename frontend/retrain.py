"""Retrain: one button, live progress, and the verdict."""

import time

import pandas as pd
import streamlit as st

from charts import confusion, recalls, side_by_side
from client import ApiError, Row
from components import (
    api,
    escape_markdown,
    grid,
    handle_api_errors,
    local_time,
    picture,
    show_error,
    thumbnails,
)

_MODES = {
    "auto": "Let the service choose",
    "quick": "Quick: seconds, learns the last layer",
    "full": "Full: minutes, tunes the network as well",
}
_PHASES = {
    "queued": "Waiting",
    "collect": "Reading pictures",
    "features": "Analysing pictures",
    "train": "Training",
    "compile": "Compiling",
    "judge": "Testing",
    "publish": "Publishing",
}
_VERDICTS = {
    "published": ":material/check_circle: Published. The next answer comes from the new model.",
    "rejected": ":material/front_hand: Not published: it would be worse. The live model stays.",
    "cancelled": ":material/stop_circle: Cancelled. The pictures stay for the next retrain.",
    "failed": ":material/error: Failed. The live model stays.",
}
_METRICS = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "ece": "Calibration error",
    "samples": "Held-out pictures",
}


def start_form(waiting: int | None) -> None:
    """The button that starts a retrain, and its options."""
    st.write(f"**{'Unknown number of' if waiting is None else waiting}** new pictures, not learned yet")
    mode = st.selectbox("Method", list(_MODES), format_func=_MODES.__getitem__)
    force = st.checkbox("Publish even a worse model", help="Overrides the comparison with the live model.")
    if st.button("Retrain", type="primary", disabled=not waiting):
        try:
            api().retrain(mode, force)
            st.rerun()
        except ApiError as error:
            show_error(error)


def watch(job: Row) -> None:
    """Follow a job by server-sent events; leaving the page does not disturb it."""
    if st.button("Cancel"):
        try:
            api().cancel(job["job_id"])
        except ApiError as error:
            show_error(error)
    bar, message, chart = st.progress(0.0), st.empty(), st.empty()
    losses: list[Row] = []
    started = time.monotonic()
    for event in api().events(job["job_id"]):
        bar.progress(min(1.0, event["progress"]), text=progress_text(event))
        message.text(event["message"])
        if event.get("loss") is not None:
            losses.append({"seconds": time.monotonic() - started, "loss": event["loss"]})
            alt_text = f"loss, now {event['loss']:.3f}"
            chart.line_chart(pd.DataFrame(losses), x="seconds", y="loss", height=220, alt=alt_text)
    st.rerun()


def progress_text(job: Row) -> str:
    """What the job is doing, which epoch it is in, and how long it will take."""
    parts = [_PHASES.get(job["phase"], str(job["phase"]))]
    if job.get("epoch") is not None:
        parts.append(f"epoch {job['epoch']} of {job['epochs']}")
    if job["seconds_left"]:
        parts.append(f"about {job['seconds_left']:.0f} s left")
    return " · ".join(parts)


def verdict(job: Row) -> None:
    """How a job ended; with metrics, before and after side by side."""
    st.subheader(_VERDICTS[job["state"]])
    st.text(job["message"])
    after, before = job["metrics"], job["baseline"]
    if not after or not before:
        return
    for column, (name, title) in zip(st.columns(4), _METRICS.items(), strict=True):
        form = "{:.0f}" if name == "samples" else "{:.1%}"
        was = f"before: {form.format(before[name])}"  # on other pictures, so neither better nor worse
        column.metric(title, form.format(after[name]), was, delta_color="off", delta_arrow="off")
    st.caption("Before: on the earlier test pictures. After: on these and the new ones, with new labels.")
    side_by_side({"before": recalls(before), "after": recalls(after)}, "recall")
    left, right = st.columns(2)
    with left:
        confusion(before, "before")
    with right:
        confusion(after, "after")
    changed_answers(after.get("changed") or {"count": 0, "pictures": []})


def choose_verdict(jobs: list[Row]) -> None:
    """The verdict of the last job, or of an earlier one."""
    finished = {job["job_id"]: job for job in jobs}

    def title(job_id: str) -> str:
        job = finished[job_id]
        return f"{local_time(job['created_at'])} · {job['mode']} · {job['state']}"

    verdict(finished[st.selectbox("Verdict of", list(finished), format_func=title)])


def changed_answers(changed: Row) -> None:
    """The new pictures that the new model answers differently."""
    st.subheader(f"{changed['count']} new pictures get a different answer")
    small = thumbnails([item["sha256"] for item in changed["pictures"]])

    def card(item: Row) -> None:
        picture(small[item["sha256"]], f"{item['label']}: was predicted as {item['before']}, now as {item['after']}")
        icon = ":material/check_circle:" if item["after"] == item["label"] else ":material/cancel:"
        st.caption(f"{icon} {escape_markdown(item['before'])} → **{escape_markdown(item['after'])}**")

    grid(changed["pictures"], card, 6)


st.title("Retrain")
idle, busy = st.empty(), st.empty()
with handle_api_errors():
    jobs = api().jobs(20)
    running = next((job for job in jobs if job["state"] in ("queued", "running")), None)
    if running:
        idle.empty()  # at once: Streamlit keeps what a run does not redraw until the run ends, here with the job
        with busy.container():
            watch(running)
    else:
        with idle.container():
            start_form(api().status()["training_data"]["unprocessed"])
            if jobs:
                choose_verdict(jobs)
