"""Retrain: one button, live progress, and the verdict."""

import time
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from changes import show_outcome
from client import ApiError, Row
from components import (
    api,
    count,
    handle_api_errors,
    local_time,
    show_error,
)
from verdict import start, verdict

_MODES = {
    "auto": "Let the service choose",
    "quick": "Quick: seconds, learns the last layer",
    "full": "Full: minutes, tunes the network as well",
}
_MANY = 100  # new pictures
_PHASES = {
    "queued": "Waiting",
    "collect": "Reading pictures",
    "features": "Analysing pictures",
    "train": "Training",
    "compile": "Compiling",
    "judge": "Testing",
    "publish": "Publishing",
}


def start_form(waiting: int | None, changes: int) -> None:
    """The button that starts a retrain of new pictures and changed labels, and its options."""
    show_outcome()
    if waiting == 0 and not changes:
        st.markdown("**Nothing new to learn.**")
        st.page_link("data.py", label="Add pictures", icon=":material/add_photo_alternate:")
        return
    new = "An unknown number of new pictures" if waiting is None else count(waiting, "new picture")
    parts = [new] if waiting != 0 else []
    if changes:
        parts.append(count(changes, "changed label"))
    st.markdown(f"**{' and '.join(parts)}**, not learned yet")
    mode = st.selectbox("Method", list(_MODES), format_func=_MODES.__getitem__)
    if mode != "quick" and (waiting or 0) > _MANY:
        st.caption("A full retrain of so many pictures takes some minutes. Predictions go on meanwhile.")
    st.button("Retrain", type="primary", on_click=start, args=(mode,))


def by_itself(state: Row | None, last: Row | None) -> None:
    """Whether retrains start by themselves, when the next one does, and how the last one ended."""
    st.header("Automatic retrains")
    if state is None:
        st.write("Off. `AUTO_RETRAIN=new_pictures:50`, say, or `AUTO_RETRAIN=daily` switches them on.")
        return
    st.write(f"On: `AUTO_RETRAIN={state['setting']}`. {next_one(state)}")
    if last:
        st.write(f"The last retrain, {local_time(last['created_at'], '%-d %b %H:%M')}: {last['state']}.")


def next_one(state: Row) -> str:
    """When the next retrain starts by itself."""
    pictures = count(state["pictures_to_go"], "more picture") if state["pictures_to_go"] else ""
    when = ""
    if state["due_at"] and datetime.fromisoformat(state["due_at"]) > datetime.now(UTC):
        when = f"not before {local_time(state['due_at'], '%-d %b %H:%M')}"
    if not pictures and not when:
        return "The next one starts in a moment."
    return f"The next one starts {', '.join(filter(None, (f'after {pictures}' if pictures else '', when)))}."


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


def choose_verdict(jobs: list[Row]) -> None:
    """The verdict of the last job, or of an earlier one."""
    finished = {job["job_id"]: job for job in jobs}

    def title(job_id: str) -> str:
        job = finished[job_id]
        return f"{local_time(job['created_at'])} · {job['mode']} · {job['state']}"

    verdict(finished[st.selectbox("Verdict of", list(finished), format_func=title)])


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
            status = api().status()
            start_form(status["training_data"]["unprocessed"], len(api().label_changes()))
            if jobs:
                choose_verdict(jobs)
            by_itself(status["auto_retrain"], jobs[0] if jobs else None)
