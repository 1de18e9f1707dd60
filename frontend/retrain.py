"""Retrain: one button, live progress, and the verdict."""

import re
import time

import pandas as pd
import streamlit as st

from client import ApiError, Row
from parts import api, complain, confusion, grid, patience, picture, plain, side_by_side, small

_MODES = {
    "auto": "Let the service choose",
    "quick": "Quick: seconds, learns the last layer",
    "full": "Full: minutes, tunes the network as well",
}
_VERDICTS = {
    "published": (":material/check_circle:", "Published. The next answer comes from the new model."),
    "rejected": (":material/front_hand:", "Not published: it would be worse. The model that was live stays."),
    "cancelled": (":material/stop_circle:", "Cancelled. The pictures stay for the next retrain."),
    "failed": (":material/error:", "Failed. The model that was live stays."),
}


def begin(waiting: int | None) -> None:
    """The button."""
    st.write(f"Pictures that wait to be learnt: **{'not known now' if waiting is None else waiting}**")
    mode = st.selectbox("How", list(_MODES), format_func=_MODES.__getitem__)
    force = st.checkbox("Publish even a worse model", help="Overrules the comparison with the live model.")
    if st.button("Learn now", type="primary", disabled=not waiting):
        try:
            api().retrain(mode, force)
            st.rerun()
        except ApiError as error:
            complain(error)


def watch(job: Row) -> None:
    """Live, by server-sent events; leaving the page does not disturb the job."""
    if st.button("Cancel"):
        try:
            api().cancel(job["job_id"])
        except ApiError as error:
            complain(error)
    bar, words, chart = st.progress(0.0), st.empty(), st.empty()
    curve: list[Row] = []
    started = time.monotonic()
    for now in api().events(job["job_id"]):
        left = f" · about {now['seconds_left']:.0f} s left" if now["seconds_left"] else ""
        bar.progress(min(1.0, now["progress"]), text=f"{now['phase']}{left}")
        words.text(now["message"])
        loss = re.search(r"epoch \d+ of \d+, loss ([\d.]+)", now["message"])
        if loss:
            curve.append({"seconds": time.monotonic() - started, "loss": float(loss[1])})
            said = f"loss, now {loss[1]}"
            chart.line_chart(pd.DataFrame(curve), x="seconds", y="loss", height=220, alt=said)
    st.rerun()


def verdict(job: Row) -> None:
    """Before and after, side by side."""
    icon, words = _VERDICTS[job["state"]]
    st.subheader(f"{icon} {words}")
    st.text(job["message"])
    after, before = job["metrics"], job["baseline"]
    if not after or not before:
        return
    for column, (name, title) in zip(
        st.columns(4),
        [
            ("accuracy", "Accuracy"),
            ("macro_f1", "Macro-F1"),
            ("ece", "Calibration error"),
            ("samples", "Held-out pictures"),
        ],
        strict=True,
    ):
        form = "{:.0f}" if name == "samples" else "{:.1%}"
        was = f"before: {form.format(before[name])}"  # on other pictures, so neither better nor worse
        column.metric(title, form.format(after[name]), was, delta_color="off", delta_arrow="off")
    st.caption("Before: on the pictures held out until then. After: on these and the new ones, with new labels.")
    recalls = {
        name: {label: row["recall"] for label, row in metrics["per_class"].items() if row["support"]}
        for name, metrics in (("before", before), ("after", after))
    }
    side_by_side(recalls, "recall")
    left, right = st.columns(2)
    with left:
        confusion(before, "before")
    with right:
        confusion(after, "after")
    changed(after.get("changed") or {"count": 0, "pictures": []})


def choose_verdict(jobs: list[Row]) -> None:
    """Of the last job, or of an earlier one."""
    finished = {job["job_id"]: job for job in jobs}

    def words(job_id: str) -> str:
        job = finished[job_id]
        return f"{job['created_at'][:19].replace('T', ' ')} · {job['mode']} · {job['state']}"

    verdict(finished[st.selectbox("Verdict of", list(finished), format_func=words)])


def changed(answers: Row) -> None:
    """The new pictures that are called something else now."""
    st.subheader(f"{answers['count']} of the new pictures are called something else now")

    pictures = small([item["sha256"] for item in answers["pictures"]])

    def card(item: Row) -> None:
        picture(pictures[item["sha256"]], f"{item['label']}: was called {item['before']}, now {item['after']}")
        right = ":material/check_circle:" if item["after"] == item["label"] else ":material/cancel:"
        st.caption(f"{right} {plain(item['before'])} → **{plain(item['after'])}**")

    grid(answers["pictures"], card, 6)


st.title("Retrain")
at_rest, at_work = st.empty(), st.empty()
with patience():
    jobs = api().jobs(20)
    running = next((job for job in jobs if job["state"] in ("queued", "running")), None)
    if running:
        at_rest.empty()  # at once; what a script does not draw again would stay until its end, and that is the job's
        with at_work.container():
            watch(running)
    else:
        with at_rest.container():
            begin(api().status()["training_data"]["unprocessed"])
            if jobs:
                choose_verdict(jobs)
