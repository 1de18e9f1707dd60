"""Changes that a click makes at the service, and the way back.

A click calls back before the page is drawn. What it showed then would replace the top of the fragment, so it leaves a
notice, which the fragment shows.
"""

from collections.abc import Callable
from contextlib import suppress

import streamlit as st
from streamlit.errors import StreamlitAPIException

from client import ApiError
from components import show_error

Undo = Callable[[], object]


def change(call: Callable[[], object], message: str, undo: Undo | None = None) -> bool:
    """Make a call, as the callback of a button.

    Args:
        message: Markdown that says what has changed.
        undo: the call that takes it back, if one can.

    Returns:
        Whether the service took it. `show_outcome` says that, or what it was refused for.
    """
    if not _attempt(call):
        return False
    _undos().append(undo)
    st.session_state["notice"] = (message + (" **Undo** (U) takes it back." if undo else ""), ":material/check_circle:")
    return True


def can_undo() -> bool:
    """Whether the last change can be taken back."""
    return bool(_undos() and _undos()[-1])


def make_change(call: Callable[[], object], message: str) -> None:
    """`change`, for buttons that have nothing else to do."""
    change(call, message)


def undo_button() -> None:
    """Takes the last change back."""
    st.button("Undo", icon=":material/undo:", shortcut="u", on_click=_undo, disabled=not can_undo(), key="undo")


def offer_undo() -> None:
    """The button where nothing else stands, only if there is something to take back."""
    if can_undo():
        undo_button()


def draw_again(*fragments: str) -> None:
    """End a callback with these fragments, by their keys, drawn instead of the one that holds the widget."""
    with suppress(StreamlitAPIException):  # one of them has gone since the click; then the widget's own is drawn
        st.rerun(fragments)


def then_draw(fragment: str, call: Callable[..., object], *args: object) -> None:
    """Make a change, as a callback, and draw a fragment again."""
    call(*args)
    draw_again(fragment)


def show_outcome() -> None:
    """What the last change did, once, or what it was refused for."""
    if notice := st.session_state.pop("notice", None):
        message, icon = notice
        st.toast(message, icon=icon)
    with st.container():  # even if it stays empty, so that nothing below moves and loses its key for a moment
        if problem := st.session_state.get("problem"):
            show_error(problem, "change")


def _undo() -> None:
    call = _undos()[-1]
    if call and _attempt(call):
        _undos().pop()
        st.session_state["notice"] = ("Taken back.", ":material/undo:")
    st.rerun()  # all, as it may have been done by another fragment than that of the button


def _attempt(call: Callable[[], object]) -> bool:
    st.session_state.pop("problem", None)
    try:
        call()
    except ApiError as error:
        st.session_state["problem"] = error
        return False
    return True


def _undos() -> list[Undo | None]:
    undos: list[Undo | None] = st.session_state.setdefault("undos", [])
    return undos
