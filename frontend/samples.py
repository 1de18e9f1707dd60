"""Pictures for a first try: one click predicts them, another teaches the lesson of two labels beside them."""

from pathlib import Path

import streamlit as st

from components import api
from dropped import take_in
from tiles import Tile, tiles

_FOLDER = Path(__file__).parents[1] / "samples"  # with the sources of the pictures


def offer_pictures() -> None:
    """The sample pictures, as tiles that a click predicts."""
    files = sorted(_FOLDER.glob("*.jpg"))
    if not files:  # the page was taken out of the checkout
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("No picture at hand? Try one of these:")
        st.button("Try all", on_click=_drop, args=(files,))
    tiles([_tile(file) for file in files], "samples", look_at=lambda name: _drop([_FOLDER / name]))


def offer_lesson() -> None:
    """A lesson that a click uploads, while nothing has been taught."""
    lesson = _FOLDER / "lesson.zip"
    if not lesson.exists():
        return
    st.markdown("Nothing to teach at hand? Here is a lesson of two new labels: six hats and six skirts.")
    with st.container(horizontal=True):
        if st.button("Upload the sample lesson", icon=":material/upload:"):
            report = api().upload(lesson.name, lesson.read_bytes())
            uploaded = {"accepted": report["accepted"], "labels": report["labels"], "ids": [report["upload_id"]]}
            st.session_state["report"] = (uploaded, [])
            st.rerun()
        st.download_button(
            "Look at it first", lesson.read_bytes(), lesson.name, icon=":material/download:", on_click="ignore"
        )


def _tile(file: Path) -> Tile:
    name = file.stem.replace("-", " ")
    return Tile(file.name, file.read_bytes(), "", name)


def _drop(files: list[Path]) -> None:
    take_in((file.name, file.read_bytes()) for file in files)
