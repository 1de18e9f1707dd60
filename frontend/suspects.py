"""Training pictures that may be wrong, the worst first, and what to do with each."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from answering import label_buttons
from changes import change, draw_again, offer_undo, show_outcome, then_draw, undo_button
from client import Row
from components import MODES, api, choose_mode, count, escape_markdown, handle_api_errors
from pictures import large_picture, sha256_of, thumbnails
from stored import Stored, delete, move
from tiles import Tile, tickable_tiles, ticked_of, tiles

_SHOWN = 60
_SIDE = 480  # pixels of the picture that is asked about
_KINDS = {
    "label": "Label",
    "near_duplicate": "Nearly the same",
    "low_quality": "Quality",
    "outlier": "Unlike the others",
}
_ACTIONS = {"relabel": "Move to {label}", "delete": "Delete", "keep": "Keep as it is"}


@st.fragment(key="suspects")
@handle_api_errors()
def suspects(known: Sequence[str]) -> None:
    """What the last check found; a click redraws only this."""
    show_outcome()
    fresh = st.toggle("Only pictures that are not learned yet", key="unlearned", bind="query-params")
    learnt = "false" if fresh else None
    found = api().issues(_SHOWN, learnt=learnt)
    counts = found["counts"]

    def title(kind: str) -> str:
        return f"{_KINDS[kind]} {counts[kind]}"

    kind = None
    if counts:
        kind = st.pills("Reason", list(counts), format_func=title, key="reason")  # a key keeps it while counts change
    if kind:
        found = api().issues(_SHOWN, kind=kind, learnt=learnt)
    with st.container():  # even if it stays empty: a button that moves down is away for a moment, and its key with it
        if not found["up_to_date"]:
            st.info("The pictures are being checked; this takes some seconds.", icon=":material/hourglass_top:")
            wait_for_check()
    if not found["issues"]:
        st.success(nothing_among(found["pictures"]), icon=":material/done_all:")
        offer_undo()
    elif choose_mode() == MODES[0]:
        one(found["issues"][0], known)
    else:
        page_of(found["issues"])


def nothing_among(pictures: int) -> str:
    """Why there is nothing to show."""
    if not pictures:
        return "Nothing has been taught yet. Pictures that may be wrong appear here."
    return f"Nothing suspect among {count(pictures, 'picture')}."


@st.fragment(run_every=2)
@handle_api_errors()
def wait_for_check() -> None:
    if api().issues(1)["up_to_date"]:
        st.rerun()


def one(item: Row, known: Sequence[str]) -> None:
    """One picture beside those that it resembles, and what can be done."""
    hashes = [sha256_of(row["file_url"]) for row in (item, *item["neighbours"])]
    large, small = thumbnails(hashes[:1], _SIDE), thumbnails(hashes[1:])
    left, right = st.columns([2, 3])
    with left:
        st.markdown(f"## {escape_markdown(item['label'])}?")
        large_picture(large[hashes[0]], f"training picture of {item['label']}")
        st.caption(escape_markdown(item["reason"]))
    with right:
        what_to_do(item)
        label_buttons(known, f"fix-{item['id']}", lambda label: move([stored(item)], label), item["proposal"]["label"])

        def neighbour(row: Row) -> Tile:
            sha256 = sha256_of(row["file_url"])
            return Tile(sha256, small[sha256], f"similar picture of {row['label']}", row["label"])

        if item["neighbours"]:
            st.markdown("Most similar pictures")
            tiles([neighbour(row) for row in item["neighbours"]], "neighbours")


def what_to_do(item: Row) -> None:
    """A button with a key of its own for each action; the one that is proposed is marked."""
    proposed = item["proposal"]["action"]
    with st.container(horizontal=True):
        if proposed == "relabel":
            title = escape_markdown(proposal_of(item))
            st.button(title, type="primary", shortcut="Enter", on_click=accept, args=([item],))
        kept, deleted = (":material/check:" if proposed == action else None for action in ("keep", "delete"))
        st.button(_ACTIONS["keep"], icon=kept, shortcut="k", on_click=keep, args=([item],))
        st.button(":red[Delete]", icon=deleted, shortcut="d", on_click=delete, args=([stored(item)],))
        undo_button()


def page_of(items: Sequence[Row]) -> None:
    """Many pictures; what is proposed for those that stay ticked is done at once."""
    fix_ticked(items)
    small = thumbnails([sha256_of(item["file_url"]) for item in items])

    def tile(item: Row) -> Tile:
        alt_text = f"training picture of {item['label']}: {item['reason']}"
        return Tile(_id(item), small[sha256_of(item["file_url"])], alt_text, proposal_of(item), item["label"])

    ids = [_id(item) for item in items]
    tickable_tiles([tile(item) for item in items], "suspects", ids, partial(draw_again, "ticked"))


@st.fragment(key="ticked")
def fix_ticked(items: Sequence[Row]) -> None:
    """What can be done with those that are ticked; a tick redraws only this."""
    ids = ticked_of("suspects", [_id(item) for item in items])
    ticked = [item for item in items if _id(item) in ids]
    with st.container(horizontal=True):
        fix, nothing = f"Fix {count(len(ticked), 'picture')}", not ticked
        st.button(fix, type="primary", disabled=nothing, on_click=then_draw, args=("suspects", accept, ticked))
        args = ("suspects", keep, ticked)
        st.button("Keep as they are", shortcut="k", disabled=nothing, on_click=then_draw, args=args)
        undo_button()


def _id(item: Row) -> str:
    return f"{item['kind']}-{item['id']}"  # a picture may be suspect for several reasons


def proposal_of(item: Row) -> str:
    """What is proposed, in words."""
    proposal = item["proposal"]
    return _ACTIONS[proposal["action"]].format(label=proposal["label"])


def accept(items: Sequence[Row]) -> None:
    """Do what is proposed for each."""
    proposals: dict[tuple[str, str | None], list[Row]] = {}
    for item in items:
        proposals.setdefault((item["proposal"]["action"], item["proposal"]["label"]), []).append(item)
    for (action, label), rows in proposals.items():
        if action == "relabel":
            move([stored(item) for item in rows], str(label))
        elif action == "delete":
            delete([stored(item) for item in rows])
        else:
            keep(rows)


def stored(item: Row) -> Stored:
    return Stored(item["id"], sha256_of(item["file_url"]), item["label"])


def keep(items: Sequence[Row]) -> None:
    client, kept = api(), [{"id": item["id"], "kind": item["kind"]} for item in items]
    message = f"Kept {count(len(items), 'picture')} unchanged."
    change(lambda: client.keep(kept), message, lambda: client.keep(kept, undo=True))
