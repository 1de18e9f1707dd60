"""Predict: pictures in, answers out, and a way to correct a wrong one."""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from charts import bars
from client import ApiError, Prediction
from components import (
    PICTURE_TYPES,
    api,
    choose_label,
    escape_markdown,
    handle_api_errors,
    known_labels,
    live_model,
    picture,
    show_error,
)

T = TypeVar("T")
_ANSWERS = {
    "accepted": ":material/check_circle: **{label}** · {confidence:.0%}",
    "uncertain": ":material/help: Probably **{label}** · {confidence:.0%}",
    "unknown": ":material/question_mark: I don't recognise this. What is it?",
}


def cached(kind: str, version: str, data: bytes, call: Callable[[], T]) -> T:
    """The result of `call`, made once for each picture and version, however often the page is drawn."""
    results = st.session_state.setdefault("results", {})
    key = (kind, version, hashlib.sha256(data).hexdigest())
    if key not in results:
        results[key] = call()
    result: T = results[key]
    return result


def drop_stale(version: str, pictures: list[tuple[str, bytes]]) -> None:
    """Forget the results of other versions and of pictures that are no longer on the page."""
    shown = {hashlib.sha256(data).hexdigest() for _, data in pictures}
    results = st.session_state.get("results", {})
    for key in [key for key in results if key[1] != version or key[2] not in shown]:
        del results[key]


def activation_map(name: str, data: bytes, version: str) -> bytes | None:
    """A PNG of where the network looked; None when the model cannot tell."""
    try:
        return cached("map", version, data, lambda: api().explain(name, data))
    except ApiError as error:
        if error.code == "not_offered":
            return None
        raise


def card(key: str, name: str, data: bytes, version: str, known: list[str]) -> None:
    """One picture with its answer."""
    with st.container(border=True):
        try:
            answer = cached("answer", version, data, lambda: api().predict(name, data))
        except ApiError as error:
            if not 400 <= error.status < 500:
                raise
            st.text(name)
            show_error(error)
            return
        left, right = st.columns([2, 3])
        with left:
            wanted = st.toggle("Where it looked", value=True, key=f"map-{key}")
            heat = activation_map(name, data, version) if wanted else None
            alt_text = f"{name}, predicted as {answer.predicted_class}"
            picture(heat or data, f"{alt_text}, coloured where the network looked" if heat else alt_text)
        with right:
            show_answer(name, answer)
            correction(key, answer, known)


def show_answer(name: str, answer: Prediction) -> None:
    label = escape_markdown(answer.predicted_class)
    st.markdown("#### " + _ANSWERS[answer.decision].format(label=label, confidence=answer.confidence))
    bars(answer.probabilities, "confidence")
    version = escape_markdown(answer.model_version)
    st.caption(f"{escape_markdown(name)} · version {version} · {answer.response_time_ms:.1f} ms")


def correction(key: str, answer: Prediction, known: list[str]) -> None:
    """A form for the right label; afterwards, what was saved."""
    if answer.file_url is None:
        return
    corrections = st.session_state.setdefault("corrections", {})
    if answer.prediction_id in corrections:
        label = escape_markdown(corrections[answer.prediction_id])
        st.success(f"Saved as {label}. It counts from the next retrain.")
        return
    with st.expander("Not right? Correct it"):
        chosen = choose_label(known, f"right-{key}", answer.predicted_class)
        if st.button("Save label", key=f"save-{key}", disabled=not chosen):
            try:
                corrections[answer.prediction_id] = api().feedback(answer.prediction_id, str(chosen))["shoe_class"]
                st.rerun()
            except ApiError as error:
                show_error(error)


st.title("What is in the picture?")
introduction = st.empty()
# Before the first call, so that dropped files survive while the service is away.
files = st.file_uploader("Drop one picture, or many", type=PICTURE_TYPES, accept_multiple_files=True)
photo = st.camera_input("Take a picture") if st.toggle("Use the camera") else None
pictures = [(file.name, file.getvalue()) for file in files]
if photo:
    pictures.insert(0, ("photo.jpg", photo.getvalue()))
with handle_api_errors():
    status = api().status()
    model = live_model(status)
    introduction.write(f"I know {len(model['labels'])} labels: {', '.join(map(escape_markdown, model['labels']))}.")
    occurrences: Counter[str] = Counter()
    for name, data in pictures:
        sha256 = hashlib.sha256(data).hexdigest()
        occurrences[sha256] += 1  # the same picture twice gets two cards
        card(f"{sha256}-{occurrences[sha256]}", name, data, model["version"], known_labels(status))
    drop_stale(model["version"], pictures)
