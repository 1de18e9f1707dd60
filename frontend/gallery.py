"""The training pictures: find some by what they are, and change them together."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from changes import show_outcome, undo_button
from client import Row
from components import (
    api,
    choose_label,
    count,
    escape_markdown,
    picture,
    sha256_of,
    thumbnails,
    tiles,
)
from stored import Stored, delete, move

_PAGE = 60
_SPLITS = {"train": "For training", "holdout": "Held out"}
_LEARNT = {"true": "Learned", "false": "Not learned yet"}
_FORMATS = {"zip": "ZIP", "csv": "CSV", "coco": "COCO"}


@st.fragment
def gallery(known: Sequence[str]) -> None:
    """Pages of tiles; a click redraws only this."""
    show_outcome()
    filters = choose_filters(known)
    cursors = st.session_state["cursors"]  # the `before` of each page that was opened
    rows, total = api().training_data(_PAGE, cursors[-1], **filters)
    if not rows:
        st.info(
            "There are no such training pictures. *Add pictures* takes them."
            if total == 0
            else "There are no older ones."
        )
        undo_button()
        return
    st.header(count(total or len(rows), "picture"))
    actions = st.container()
    small = thumbnails([sha256_of(row["image_path"]) for row in rows])
    tiles(rows, lambda row: tile(row, small[sha256_of(row["image_path"])]), "gallery")
    ticked = [row for row in rows if st.session_state[f"tick-{row['id']}"]]
    with actions:
        change_ticked(rows, ticked, known)
    turn_pages(rows)


def choose_filters(known: Sequence[str]) -> dict[str, str | None]:
    """Label, split, and whether they are learned; another choice begins with the first page."""
    label = st.pills("Label", known, format_func=escape_markdown, key="gallery-label", bind="query-params")
    with st.container(horizontal=True):
        split = st.pills("Use", list(_SPLITS), format_func=_SPLITS.__getitem__)
        learnt = st.pills("State", list(_LEARNT), format_func=_LEARNT.__getitem__)
        with st.popover("Download", icon=":material/download:"):
            for form, title in _FORMATS.items():
                fetch = partial(api().export, form)  # called on click only
                extension = form.replace("coco", "json")
                st.download_button(f"All as {title}", fetch, f"training-data.{extension}", on_click="ignore")
    filters = {"label": label, "split": split, "learnt": learnt}
    if st.session_state.get("filters") != filters:
        st.session_state["filters"], st.session_state["cursors"] = filters, [None]
    return filters


def tile(row: Row, data: bytes | None) -> None:
    """A picture that can be ticked, with what it is used for."""
    label, used = row["shoe_class"], "held out" if row["split"] == "holdout" else ""
    picture(data, f"training picture of {label}")
    st.checkbox(escape_markdown(label), key=f"tick-{row['id']}")
    notes = [note for note in (used, "" if row["is_processed"] else "new") if note]
    if notes:
        st.caption(" · ".join(notes))


def change_ticked(rows: Sequence[Row], ticked: Sequence[Row], known: Sequence[str]) -> None:
    """Move or delete the pictures that are ticked."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        everything = len(ticked) < len(rows)
        title = "Select all" if everything else "Select none"
        st.button(title, on_click=tick, args=(rows, everything))
        undo_button()
    if not ticked:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = choose_label(known, "move-to", "Move to …")
        pictures = count(len(ticked), "picture")
        st.button(f"Move {pictures}", type="primary", disabled=not label, on_click=move_ticked, args=(ticked, label))
        if st.button(f":red[Delete {pictures}]", icon=":material/delete:"):
            confirm_deletion(ticked)


def tick(rows: Sequence[Row], value: bool) -> None:
    for row in rows:
        st.session_state[f"tick-{row['id']}"] = value


def move_ticked(rows: Sequence[Row], label: str) -> None:
    tick(rows, False)
    move([stored(row) for row in rows], label)


@st.dialog("Delete these pictures?")
def confirm_deletion(rows: Sequence[Row]) -> None:
    pictures = count(len(rows), "picture")
    st.write(f"{pictures} will be gone from the training data.")
    with st.container(horizontal=True):
        if st.button(f":red[Delete {pictures}]"):
            delete([stored(row) for row in rows])
            st.rerun()
        if st.button("Keep"):
            st.rerun()


def stored(row: Row) -> Stored:
    return Stored(row["id"], sha256_of(row["image_path"]), row["shoe_class"])


def turn_pages(rows: Sequence[Row]) -> None:
    cursors = st.session_state["cursors"]
    with st.container(horizontal=True):
        st.button("Newer", disabled=len(cursors) == 1, on_click=cursors.pop)
        st.button("Older", disabled=len(rows) < _PAGE, on_click=cursors.append, args=(rows[-1]["id"],))
