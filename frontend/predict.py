"""Predict: pictures in, answers out; one click or one key corrects or confirms one."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from answering import answered, label_buttons, save_label
from changes import can_undo, change, draw_again, show_outcome, undo_button
from charts import bars
from client import ApiError, Prediction, Unreachable
from components import (
    api,
    count,
    escape_markdown,
    handle_api_errors,
    known_labels,
    limit,
    live_model,
    megabytes,
    percent,
    service_url,
    show_error,
)
from dropped import Dropped, answer_all, as_csv, groups, in_order, pictures, summary, take_in
from pictures import PICTURE_TYPES, large_picture, picture
from samples import offer_pictures
from tiles import Tile, tiles

_AT_ONCE = 60  # pictures of a call, and tiles that are shown
_ANSWERS = {
    "accepted": ":material/check_circle: **{label}** · {confidence}",
    "uncertain": ":material/help: Probably **{label}** · {confidence}",
    "unknown": ":material/question_mark: I don't recognise this. What is it?",
}
_SHORT = {"accepted": "{label} · {confidence}", "uncertain": "{label}? · {confidence}", "unknown": "Not recognised"}


@st.fragment(key="results")
def results(known: Sequence[str]) -> None:
    """Answers to one picture or many; a click redraws only the parts that it changes."""
    items = in_order(pictures().values())
    if any(item.answer is None for item in items):  # a click ended the run that would have brought the answers
        st.rerun()
    outcome()
    if len(items) == 1:
        card(items[0], known, "one", keys=True)
        toolbar(undo=not items[0].said)
        return
    st.header(summary())
    toolbar()
    counts = groups()
    chosen = st.pills("Show", list(counts), format_func=lambda name: f"{escape_markdown(name)} {counts[name]}")
    items = [item for item in items if chosen in (None, item.group)]
    ask(items, known)
    st.session_state["tiles"] = min(st.session_state.get("tiles", _AT_ONCE), max(_AT_ONCE, len(items)))
    grid(items[: st.session_state["tiles"]])
    if len(items) > st.session_state["tiles"]:
        st.button(f"Show {len(items) - st.session_state['tiles']} more", on_click=show_more)
    opened(known)


@st.fragment(key="ask")
def ask(items: Sequence[Dropped], known: Sequence[str]) -> None:
    """The first picture that a person should look at."""
    with st.container():
        if item := next((item for item in items if item.is_open), None):
            st.session_state["asked"] = item.sha256
            card(item, known, "next", keys="opened" not in st.session_state)


@st.fragment(key="opened")
def opened(known: Sequence[str]) -> None:
    """The details of the tile that was clicked."""
    if item := pictures().get(st.session_state.get("opened", "")):
        st.dialog(escape_markdown(in_short(item)), width="medium", on_dismiss=close)(dialog)(item, known)


@st.fragment(key="outcome")
def outcome() -> None:
    """What the last click did."""
    show_outcome()


def show_more() -> None:
    st.session_state["tiles"] += _AT_ONCE


@st.fragment(key="toolbar")
def toolbar(*, undo: bool = True) -> None:
    """What can be done with all of them."""
    with st.container(horizontal=True):
        if undo:
            undo_button()
        table = partial(as_csv, pictures(), answered())  # made on click only
        st.download_button("CSV", table, "predictions.csv", "text/csv", icon=":material/download:", on_click="ignore")
        st.button("Clear", icon=":material/close:", on_click=clear)


def clear() -> None:
    """Put all pictures away."""
    kept = dict(pictures())
    change(pictures().clear, f"Cleared {count(len(kept), 'picture')}.", lambda: pictures().update(kept))
    st.rerun()


@st.fragment(key="grid")
def grid(items: Sequence[Dropped]) -> None:
    """All answers as small pictures; a click on one opens its details, a click on a label answers."""
    tiles([tile(item) for item in items], "answers", look_at, choose)


def tile(item: Dropped) -> Tile:
    """A small picture with its answer; for an unsure one, the likeliest labels."""
    answer, note, choices = item.answer, "", list[str]()
    if not isinstance(answer, Prediction):
        note = answer.detail if answer else ""
    elif item.said:
        note = f"Saved as {item.said}"
    elif item.is_open and answer.decision == "uncertain":
        choices = sorted(answer.probabilities, key=answer.probabilities.__getitem__, reverse=True)[:2]
    return Tile(item.sha256, item.small, describe(item), in_short(item), note, choices)


def in_short(item: Dropped) -> str:
    """The answer in one or two words."""
    answer = item.answer
    if not isinstance(answer, Prediction):
        return item.name
    return _SHORT[answer.decision].format(label=answer.predicted_class, confidence=percent(answer.confidence))


def choose(sha256: str, label: str) -> None:
    """Save the label that was clicked under a picture."""
    item = pictures()[sha256]
    if isinstance(item.answer, Prediction):
        save_label([item.answer.prediction_id], label)
        draw_again(*_changed(item))


def look_at(sha256: str) -> None:
    """Open the details of a picture, which then have the keys."""
    st.session_state["opened"] = sha256
    draw_again("opened", "ask")


def close() -> None:
    """Give the keys back, and show what was said."""
    st.session_state.pop("opened")
    draw_again("opened", "ask", "outcome", "toolbar", "grid")


def _changed(item: Dropped) -> list[str]:
    """The fragments that show what was said about a picture."""
    asked = ["ask"] if st.session_state.get("asked") == item.sha256 else []
    return ["outcome", "toolbar", *asked, "grid"]


def dialog(item: Dropped, known: Sequence[str]) -> None:
    """The card of a tile."""
    show_outcome()
    card(item, known, "dialog", keys=True)


def card(item: Dropped, known: Sequence[str], key: str, *, keys: bool) -> None:
    """A picture with its answer, the labels, and on demand why."""
    if not isinstance(answer := item.answer, Prediction):
        st.text(item.name)
        if answer:
            show_error(answer)
        return
    left, right = st.columns([2, 3])
    with left:
        if key != "dialog":  # whose title says it
            label = escape_markdown(answer.predicted_class)
            st.markdown("## " + _ANSWERS[answer.decision].format(label=label, confidence=percent(answer.confidence)))
        large_picture(item.small, describe(item), key)
    with right:
        correction(item, answer, known, key, keys=keys)
        if key == "dialog" or st.toggle("Details", value=key == "one", key=f"details-{key}"):
            details(item, answer)


def correction(item: Dropped, answer: Prediction, known: Sequence[str], key: str, *, keys: bool) -> None:
    """The labels, one of which a click or a key saves; afterwards, what was saved."""
    if item.said:
        st.success(f"Saved as {escape_markdown(item.said)}. It counts from the next retrain.")
        if key == "one":  # where the toolbar is below the screen of a phone
            undo_button()
    elif answer.file_url:

        def say(label: str) -> None:
            save_label([answer.prediction_id], label)
            if key == "next":
                draw_again(*_changed(item))

        if answer.decision == "accepted":
            st.markdown("Not right? Correct it")
        elif answer.decision == "uncertain" or key == "dialog":  # elsewhere, the heading asks
            st.markdown("What is it?")
        suggested = None if answer.decision == "unknown" else answer.predicted_class
        label_buttons(known, f"{key}-{answer.prediction_id}", say, suggested, keys=keys)


def details(item: Dropped, answer: Prediction) -> None:
    """How sure the model is of each label, and where it looked."""
    bars(answer.probabilities, "confidence")
    version = escape_markdown(answer.model_version)
    st.caption(f"{escape_markdown(item.name)} · version {version} · {answer.response_time_ms:.1f} ms")
    if st.toggle("Where it looked", key=f"heat-{item.sha256}"):
        try:
            picture(api().explain(item.name, item.data), f"{describe(item)}, coloured where the network looked")
        except ApiError as error:
            show_error(error, "heat")


def describe(item: Dropped) -> str:
    """What a screen reader says of the picture."""
    answer = item.answer
    return f"{item.name}, predicted as {answer.predicted_class}" if isinstance(answer, Prediction) else item.name


def drop(key: str) -> None:
    """Take in what an uploader or the camera holds, and empty it."""
    held = st.session_state[key]
    files = held if isinstance(held, list) else [held] if held else []
    take_in((file.name, file.getvalue()) for file in files)
    st.session_state["drops"] = st.session_state.get("drops", 0) + 1


st.title("What is in the picture?")
answers = st.container()
# Before the first call, so that dropped files survive while the service is away.
drops = st.session_state.get("drops", 0)
with st.container(horizontal=True, vertical_alignment="center"):
    camera = st.toggle("Take a photo")
    st.link_button("Live camera", service_url("/camera"), icon=":material/videocam:")
if camera:
    st.camera_input("Take a picture", key=f"photo-{drops}", on_change=drop, args=(f"photo-{drops}",))
st.file_uploader(
    "Drop one picture, or many",
    type=PICTURE_TYPES,
    accept_multiple_files=True,
    max_upload_size=megabytes(limit("max_image_bytes")),
    key=f"drop-{drops}",
    on_change=drop,
    args=(f"drop-{drops}",),
)
with handle_api_errors():
    try:
        status = api().status()
        model = live_model(status)
    except Unreachable:
        if pictures():
            st.info(f"{count(len(pictures()), 'picture')}, kept until the service answers.", icon=":material/image:")
        raise
    st.caption(f"I know {len(model['labels'])} labels: {', '.join(map(escape_markdown, model['labels']))}.")
    if pictures():
        answer_all(model["version"], min(_AT_ONCE, status["limits"]["max_batch_files"]))
        with answers:
            results(known_labels(status))
    else:
        if can_undo():
            with answers:
                show_outcome()
                undo_button()
        offer_pictures()
