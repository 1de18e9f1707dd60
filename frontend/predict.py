"""Predict: pictures in, answers out, and a way to put a wrong one right."""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import streamlit as st

from client import ApiError, Prediction
from parts import PICTURES, api, bars, choose_label, complain, labels_of, model_of, patience, picture, plain

_WORDS = {
    "accepted": "This is **{}**.",
    "uncertain": "Probably **{}**, but I am not sure.",
    "unknown": "This does not look like anything I was taught. The closest is **{}**.",
}
_ICONS = {"accepted": ":material/check_circle:", "uncertain": ":material/help:", "unknown": ":material/question_mark:"}


def once(what: str, version: str, data: bytes, ask: Callable[[], Any]) -> Any:
    """Ask once for each picture and version, however often the page is drawn."""
    kept = st.session_state.setdefault("kept", {})
    key = (what, version, hashlib.sha256(data).hexdigest())
    if key not in kept:
        kept[key] = ask()
    return kept[key]


def forget_others(version: str, pictures: list[tuple[str, bytes]]) -> None:
    """Keep only what is on the page."""
    here = {hashlib.sha256(data).hexdigest() for _, data in pictures}
    kept = st.session_state.get("kept", {})
    for key in [key for key in kept if key[1] != version or key[2] not in here]:
        del kept[key]


def look(name: str, data: bytes, version: str) -> bytes | None:
    """Where the network looked; None when the model cannot say."""
    try:
        return once("map", version, data, lambda: api().explain(name, data))
    except ApiError as error:
        if error.code == "not_offered":
            return None
        raise


def show(key: str, name: str, data: bytes, version: str, known: list[str]) -> None:
    """One picture with its answer."""
    with st.container(border=True):
        try:
            answer: Prediction = once("answer", version, data, lambda: api().predict(name, data))
        except ApiError as error:
            if not 400 <= error.status < 500:
                raise
            st.text(name)
            complain(error)
            return
        left, right = st.columns([2, 3])
        with left:
            heat = look(name, data, version) if st.toggle("Where it looked", value=True, key=f"look-{key}") else None
            seen = f"{name}, called {answer.predicted_class}"
            picture(heat or data, f"{seen}, coloured where the network looked" if heat else seen)
        with right:
            words = _WORDS[answer.decision].format(plain(answer.predicted_class))
            st.markdown(f"#### {_ICONS[answer.decision]} {words}")
            bars(answer.probabilities, "confidence")
            st.caption(f"{plain(name)} · version {plain(answer.model_version)} · {answer.response_time_ms:.1f} ms")
            correct(key, answer, known)


def correct(key: str, answer: Prediction, known: list[str]) -> None:
    """Wrong? Tell me."""
    if answer.file_url is None:
        return
    told = st.session_state.setdefault("told", {})
    if answer.prediction_id in told:
        st.success(f"Thank you. I learn it as {plain(told[answer.prediction_id])} at the next retrain.")
        return
    with st.expander("Wrong? Tell me"):
        label = choose_label(known, f"right-{key}", answer.predicted_class)
        if st.button("Teach this", key=f"teach-{key}", disabled=not label):
            try:
                told[answer.prediction_id] = api().feedback(answer.prediction_id, str(label))["shoe_class"]
                st.rerun()
            except ApiError as error:
                complain(error)


st.title("What is in the picture?")
introduction = st.empty()
# Before the first call, so that what was dropped is still there when the service comes back.
files = st.file_uploader("Drop one picture, or many", type=PICTURES, accept_multiple_files=True)
photo = st.camera_input("Take a picture") if st.toggle("Use the camera") else None
pictures = [(file.name, file.getvalue()) for file in files]
if photo:
    pictures.insert(0, ("photo.jpg", photo.getvalue()))
with patience():
    status = api().status()
    model = model_of(status)
    introduction.write(f"I know {len(model['labels'])} labels: {', '.join(map(plain, model['labels']))}.")
    seen: Counter[str] = Counter()
    for name, data in pictures:
        sha256 = hashlib.sha256(data).hexdigest()
        seen[sha256] += 1  # the same picture twice has two cards
        show(f"{sha256}-{seen[sha256]}", name, data, model["version"], labels_of(status))
    forget_others(model["version"], pictures)
