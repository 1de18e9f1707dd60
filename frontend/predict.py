"""Predict: pictures in, answers out, and a way to put a wrong one right."""

import hashlib

import streamlit as st

from client import ApiError, Prediction, Unreachable
from parts import PICTURES, api, bars, choose_label, complain, labels_of, patience, picture, plain

_WORDS = {
    "accepted": "This is **{}**.",
    "uncertain": "Probably **{}**, but I am not sure.",
    "unknown": "This does not look like anything I was taught. The closest is **{}**.",
}
_ICONS = {"accepted": ":material/check_circle:", "uncertain": ":material/help:", "unknown": ":material/question_mark:"}


def answer_to(name: str, data: bytes) -> Prediction:
    """Ask once for each picture, however often the page is drawn."""
    answers = st.session_state.setdefault("answers", {})
    key = hashlib.sha256(data).hexdigest()
    if key not in answers:
        answers[key] = api().predict(name, data)
    return answers[key]


def look(name: str, data: bytes) -> bytes | None:
    """Where the network looked; None when the model cannot say."""
    maps = st.session_state.setdefault("maps", {})
    key = hashlib.sha256(data).hexdigest()
    if key not in maps:
        try:
            maps[key] = api().explain(name, data)
        except Unreachable:
            raise
        except ApiError:
            maps[key] = None
    return maps[key]


def show(number: int, name: str, data: bytes, known: list[str]) -> None:
    """One picture with its answer."""
    with st.container(border=True):
        try:
            answer = answer_to(name, data)
        except Unreachable:
            raise
        except ApiError as error:
            st.text(name)
            complain(error)
            return
        left, right = st.columns([2, 3])
        with left:
            heat = look(name, data) if st.toggle("Where it looked", value=True, key=f"look-{number}") else None
            seen = f"{name}, called {answer.predicted_class}"
            picture(heat or data, f"{seen}, coloured where the network looked" if heat else seen)
        with right:
            words = _WORDS[answer.decision].format(plain(answer.predicted_class))
            st.markdown(f"#### {_ICONS[answer.decision]} {words}")
            bars(answer.probabilities, "confidence")
            st.caption(f"{plain(name)} · version {plain(answer.model_version)} · {answer.response_time_ms:.1f} ms")
            correct(number, answer, known)


def correct(number: int, answer: Prediction, known: list[str]) -> None:
    """Wrong? Tell me."""
    if answer.file_url is None:
        return
    told = st.session_state.setdefault("told", {})
    if answer.prediction_id in told:
        st.success(f"Thank you. I learn it as {plain(told[answer.prediction_id])} at the next retrain.")
        return
    with st.expander("Wrong? Tell me"):
        label = choose_label(known, f"right-{number}", answer.predicted_class)
        if st.button("Teach this", key=f"teach-{number}", disabled=not label):
            try:
                told[answer.prediction_id] = api().feedback(answer.prediction_id, label)["shoe_class"]
                st.rerun()
            except ApiError as error:
                complain(error)


st.title("What is in the picture?")
with patience():
    known = labels_of(api().status())
    st.write(f"I know {len(known)} labels: {', '.join(map(plain, known))}.")
    files = st.file_uploader("Drop one picture, or many", type=PICTURES, accept_multiple_files=True)
    pictures = [(file.name, file.getvalue()) for file in files]
    if st.toggle("Use the camera"):
        photo = st.camera_input("Take a picture")
        if photo:
            pictures.insert(0, ("photo.jpg", photo.getvalue()))
    for number, (name, data) in enumerate(pictures):
        show(number, name, data, known)
