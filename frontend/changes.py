"""Changes that a click makes at the service, and the way back."""

from collections.abc import Callable

import streamlit as st

from client import ApiError
from components import show_error

Undo = Callable[[], object]


def change(call: Callable[[], object], message: str, undo: Undo | None = None) -> bool:
    """Make a call, as the callback of a button.

    Args:
        message: Markdown that says what has changed.
        undo: the call that takes it back, if one can.

    Returns:
        Whether the service took it; what it was refused for is shown by `show_problem`.
    """
    if not _attempt(call):
        return False
    _undos().append(undo)
    st.toast(message + (" **U** takes it back." if undo else ""), icon=":material/check_circle:")
    return True


def undo_button() -> None:
    """Takes the last change back."""
    possible = bool(_undos() and _undos()[-1])
    st.button("Undo", icon=":material/undo:", shortcut="u", on_click=_undo, disabled=not possible, key="undo")


def show_problem() -> None:
    """What the last change was refused for."""
    if problem := st.session_state.get("problem"):
        show_error(problem, "change")


def _undo() -> None:
    call = _undos()[-1]
    if call and _attempt(call):
        _undos().pop()
        st.toast("Taken back.", icon=":material/undo:")


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
