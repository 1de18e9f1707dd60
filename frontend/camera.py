"""The camera: pictures in a row while a button is held, as many of a label are brought fastest."""

import base64
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from changes import change, offer_undo, show_outcome
from components import count
from tiles import Tile, tiles

_STATIC = Path(__file__).parent / "static"
_camera = st.components.v2.component(
    "camera",
    html=(_STATIC / "camera.html").read_text(),
    css=(_STATIC / "camera.css").read_text(),
    js=(_STATIC / "camera.js").read_text(),
)


class Frame(NamedTuple):
    """A recorded picture, which is uploaded as dropped files are."""

    name: str
    data: bytes

    def getvalue(self) -> bytes:
        return self.data


def frames() -> list[Frame]:
    """What this visitor recorded and has not uploaded yet."""
    kept: list[Frame] = st.session_state.setdefault("frames", [])
    return kept


def record() -> None:
    """A live picture with a button to hold, and what has been recorded."""
    recorded = _camera(key="camera", on_recorded_change=lambda: None).recorded or []
    frames().extend(Frame(f"camera-{len(frames()) + i}.jpg", base64.b64decode(jpeg)) for i, jpeg in enumerate(recorded))
    show_outcome()
    with st.container(horizontal=True):
        if frames():
            st.button(f"Discard {count(len(frames()), 'recorded picture')}", icon=":material/close:", on_click=discard)
        offer_undo()
    tiles([Tile(frame.name, frame.data, frame.name) for frame in frames()], "recorded")


def discard() -> None:
    """Forget what was recorded."""
    kept = list(frames())
    change(frames().clear, f"Discarded {count(len(kept), 'recorded picture')}.", lambda: frames().extend(kept))
