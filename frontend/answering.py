"""What people say about predictions: one click or one key each, and a way back."""

from collections.abc import Callable, Sequence

import streamlit as st

from components import api, attempt, choose_label, escape_markdown

_KEYS = 9  # labels that have a key of their own: 1 to 9
NONE, SKIPPED = "none of these", "skipped"


def answered() -> dict[str, str]:
    """What this visitor said, by prediction; `NONE` and `SKIPPED` stand for no label."""
    said: dict[str, str] = st.session_state.setdefault("answered", {})
    return said


def save_label(prediction_ids: Sequence[str], chosen: str) -> None:
    """Save a label for predictions whose pictures look alike."""
    _answer(prediction_ids, chosen, f"Saved as {escape_markdown(chosen)}. It counts from the next retrain.", label=chosen)


def none_of_these(prediction_ids: Sequence[str]) -> None:
    _answer(prediction_ids, NONE, "Saved as none of these.", none=True)


def skip(prediction_ids: Sequence[str]) -> None:
    _answer(prediction_ids, SKIPPED, "Skipped.", skip=True)


def undo() -> None:
    """Take the last answer back."""
    ids = _history()[-1]
    if attempt(lambda: api().answer(ids, undo=True)):
        _history().pop()
        for prediction_id in ids:
            answered().pop(prediction_id, None)
        st.toast("Taken back.", icon=":material/undo:")


def undo_button() -> None:
    st.button("Undo", icon=":material/undo:", shortcut="u", on_click=undo, disabled=not _history(), key="undo")


def label_buttons(
    known: Sequence[str], key: str, say: Callable[[str], None], suggested: str | None = None, *, keys: bool = True
) -> None:
    """A button for each label, the first with keys, and a field for any other; `say` is called with the label."""
    with st.container(horizontal=True, gap="small"):
        for position, name in enumerate(known):
            st.button(
                escape_markdown(name),
                key=f"{key}-{position}",
                shortcut=str(position + 1) if keys and position < _KEYS else None,
                type="primary" if name == suggested else "secondary",
                on_click=say,
                args=(name,),
            )
    other = choose_label(known, f"{key}-other", "Another label, or a new one")
    if other:
        st.button("Save label", key=f"{key}-save", on_click=say, args=(other,))


def _history() -> list[list[str]]:
    """The predictions of each answer, the last one at the end."""
    history: list[list[str]] = st.session_state.setdefault("answers", [])
    return history


def _answer(prediction_ids: Sequence[str], said: str, message: str, **answer: str | bool) -> None:
    if not attempt(lambda: api().answer(prediction_ids, **answer)):
        return
    _history().append(list(prediction_ids))
    answered().update(dict.fromkeys(prediction_ids, said))
    st.toast(f"{message} **U** takes it back.", icon=":material/check_circle:")
