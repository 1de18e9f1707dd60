"""What people say about predictions: one click or one key each."""

from collections.abc import Callable, Sequence

import streamlit as st

from changes import change
from components import api, choose_label, escape_markdown

_KEYS = 9  # labels that have a key of their own: 1 to 9


def answered() -> dict[str, str | None]:
    """What this visitor said, by prediction: a label, that there is none, or None for one that was skipped."""
    said: dict[str, str | None] = st.session_state.setdefault("answered", {})
    return said


def save_label(prediction_ids: Sequence[str], label: str) -> None:
    """Say what is in pictures that were predicted."""
    message = f"Saved as {escape_markdown(label)}. It counts from the next retrain."
    _answer(prediction_ids, label, message, label=label)


def none_of_these(prediction_ids: Sequence[str]) -> None:
    _answer(prediction_ids, "none of these", "Saved as none of these.", none=True)


def skip(prediction_ids: Sequence[str]) -> None:
    _answer(prediction_ids, None, "Skipped.", skip=True)


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
                icon=":material/check:" if name == suggested else None,
                type="primary" if name == suggested else "secondary",
                on_click=say,
                args=(name,),
            )
    other = choose_label(known, f"{key}-other", "Another label, or a new one")
    if other:
        st.button("Save label", key=f"{key}-save", on_click=say, args=(other,))


def _answer(prediction_ids: Sequence[str], said: str | None, message: str, **answer: str | bool) -> None:
    client = api()

    def take_back() -> None:
        client.answer(prediction_ids, undo=True)
        for prediction_id in prediction_ids:
            answered().pop(prediction_id, None)

    if change(lambda: client.answer(prediction_ids, **answer), message, take_back):
        answered().update(dict.fromkeys(prediction_ids, said))
