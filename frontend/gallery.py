"""The training pictures: find some by what they are, and change them together."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from changes import draw_again, offer_undo, show_outcome, then_draw, undo_button
from client import Row
from components import api, choose_label, count, escape_markdown, handle_api_errors
from pictures import sha256_of, thumbnails
from stored import Stored, delete, move
from tiles import Tile, tickable_tiles, ticked_of

_PAGE = 60
_SPLITS = {"train": "For training", "holdout": "Held out"}
_LEARNT = {"true": "Learned", "false": "Not learned yet"}
_FORMATS = {"zip": "ZIP", "csv": "CSV", "coco": "COCO"}


@st.fragment(key="gallery")
@handle_api_errors()
def gallery(known: Sequence[str]) -> None:
    """Pages of tiles; a tick redraws only what can be done with those that are ticked."""
    show_outcome()
    filters = choose_filters(known)
    cursors = st.session_state["cursors"]  # the `before` of each page that was opened
    rows, total = api().training_data(_PAGE, cursors[-1], **filters)
    if not rows:
        empty = "There are no such pictures." if any(filters.values()) else "Nothing has been taught yet."
        st.info(empty if total == 0 else "There are no older ones.")
        offer_undo()
        return
    st.header(count(total or len(rows), "picture"))
    change_ticked(rows, known)
    small = thumbnails([sha256_of(row["image_path"]) for row in rows])
    shown = [tile(row, small[sha256_of(row["image_path"])]) for row in rows]
    tickable_tiles(shown, _grid(), _ticked_at_first(rows), partial(draw_again, "ticked"))
    turn_pages(rows)


def choose_filters(known: Sequence[str]) -> dict[str, str | None]:
    """Label, split, and whether they are learned; another choice begins with the first page."""
    label = st.pills("Label", known, format_func=escape_markdown, key="gallery-label", bind="query-params")
    with st.container(horizontal=True, vertical_alignment="bottom"):
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
        tick_all(False)
    return filters


def tile(row: Row, data: bytes | None) -> Tile:
    """A picture with its label and what it is used for."""
    label, used = row["shoe_class"], "held out" if row["split"] == "holdout" else ""
    notes = [note for note in (used, "" if row["is_processed"] else "new") if note]
    return Tile(row["id"], data, f"training picture of {label}", label, " · ".join(notes))


@st.fragment(key="ticked")
def change_ticked(rows: Sequence[Row], known: Sequence[str]) -> None:
    """Move or delete the pictures that are ticked."""
    ids = ticked_of(_grid(), _ticked_at_first(rows))
    ticked = [row for row in rows if row["id"] in ids]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        everything = len(ticked) < len(rows)
        title = "Select all" if everything else "Select none"
        st.button(title, on_click=then_draw, args=("gallery", tick_all, everything))
        undo_button()
    if not ticked:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = choose_label(known, "move-to", "Move to …")
        pictures = count(len(ticked), "picture")
        move = ("gallery", move_ticked, ticked, label)
        st.button(f"Move {pictures}", type="primary", disabled=not label, on_click=then_draw, args=move)
        if st.button(f":red[Delete {pictures}]", icon=":material/delete:"):
            confirm_deletion(ticked)


def ticks() -> tuple[int, bool]:
    """How often all ticks were set together, which begins new ones, and to what."""
    kept: tuple[int, bool] = st.session_state.setdefault("ticks", (0, False))
    return kept


def tick_all(value: bool) -> None:
    st.session_state["ticks"] = (ticks()[0] + 1, value)


def _grid() -> str:
    return f"gallery-{ticks()[0]}"


def _ticked_at_first(rows: Sequence[Row]) -> list[str]:
    return [row["id"] for row in rows] if ticks()[1] else []


def move_ticked(rows: Sequence[Row], label: str) -> None:
    tick_all(False)
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
        st.button("Newer", disabled=len(cursors) == 1, on_click=turn_to, args=(cursors[:-1],))
        st.button("Older", disabled=len(rows) < _PAGE, on_click=turn_to, args=([*cursors, rows[-1]["id"]],))


def turn_to(cursors: list[str | None]) -> None:
    """Show another page, on which nothing is ticked."""
    st.session_state["cursors"] = cursors
    tick_all(False)
