"""Data: add training pictures, keep them in order, and see which may be wrong."""

import streamlit as st

from components import api, handle_api_errors, known_labels
from gallery import gallery
from samples import offer_lesson
from suspects import suspects
from uploading import drop_zone, upload_form

_PARTS = ["Add pictures", "Pictures", "Suspect pictures"]

st.title("Data")
part = st.segmented_control(
    "Part", _PARTS, default=_PARTS[0], required=True, key="part", bind="query-params", label_visibility="collapsed"
)
files = drop_zone() if part == _PARTS[0] else []  # before the first call, so that dropped files survive an outage
with handle_api_errors():
    status = api().status()
    known = known_labels(status)
    if part == _PARTS[0]:
        upload_form(files, known)
        if not files and "report" not in st.session_state and status["training_data"]["labels"] == {}:
            offer_lesson()
    elif part == _PARTS[1]:
        gallery(known)
    else:
        suspects(known)
