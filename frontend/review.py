"""Review: predictions worth a look, one by one with one key each, or a page of them at once."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from answering import answered, label_buttons, none_of_these, save_label, skip
from changes import draw_again, offer_undo, show_outcome, then_draw, undo_button
from charts import bars
from client import Row
from components import MODES, api, choose_mode, count, escape_markdown, handle_api_errors, known_labels, percent
from pictures import large_picture, sha256_of, thumbnails
from tiles import Tile, tickable_tiles, ticked_of

_PAGE = 40  # predictions that are fetched at a time
_SIDE = 480  # pixels of the picture that is asked about
_KINDS = {
    "all": "All",
    "uncertain": "Uncertain",
    "unknown": "Not recognised",
    "drifted": "Unlike what was taught",
    "shadow": "Another version disagrees",
    "random": "Random sample",
}


@st.fragment(key="review")
@handle_api_errors()
def review(known: Sequence[str]) -> None:
    """The queue; an answer redraws only this."""
    show_outcome()
    counts = api().review("all", 1)["counts"]
    if not any(counts.values()):
        st.success("Nothing to review. Predictions that are worth a look appear here.", icon=":material/done_all:")
        offer_undo()
        return
    numbers = {"all": sum(counts.values()), **counts}
    kinds = [kind for kind in _KINDS if kind == "all" or numbers[kind]]

    def title(kind: str) -> str:
        return f"{_KINDS[kind]} {numbers[kind]}"

    kind = st.pills("Why", kinds, format_func=title, default="all", required=True, key="review-kind")
    items = waiting(str(kind))
    if choose_mode() == MODES[0]:
        one(items[0], known)
    else:
        page_of(items)


def waiting(kind: str) -> list[Row]:
    """The queue without what was answered since it was fetched; a new part of it once that is used up."""
    fetched, queue = st.session_state.get("queue", (kind, []))
    items = [item for item in queue if fetched == kind and item["prediction_id"] not in answered()]
    if not items:
        items = api().review(kind, _PAGE)["items"]
        st.session_state["queue"] = (kind, items)
    return items


def one(item: Row, known: Sequence[str]) -> None:
    """One prediction, and what can be said about it."""
    ids = [item["prediction_id"], *item["similar_ids"]]
    left, right = st.columns([2, 3])
    with left:
        suggestion = escape_markdown(item["suggestion"])
        st.markdown(f"## {suggestion}? · {percent(item['confidence'])}")
        sha256 = sha256_of(item["file_url"])
        large_picture(thumbnails([sha256], _SIDE)[sha256], f"predicted as {item['suggestion']}")
        st.caption(escape_markdown(item["reason"]))
    with right:
        if item["similar"] and not st.toggle(f"and {count(item['similar'], 'picture')} like it", value=True):
            ids = ids[:1]
        with st.container(horizontal=True):
            st.button(
                f"Yes, {suggestion}",
                icon=":material/check:",
                shortcut="Enter",
                on_click=save_label,
                args=(ids, item["suggestion"]),
            )
            st.button("None of these", shortcut="n", on_click=none_of_these, args=(ids,))
            st.button("Skip", shortcut="s", on_click=skip, args=(ids,))
            undo_button()
        suggested = None if item["decision"] == "unknown" else item["suggestion"]
        label_buttons(known, f"review-{item['prediction_id']}", lambda label: save_label(ids, label), suggested)
        if st.toggle("Details", value=True):
            bars(item["probabilities"], "confidence")


def page_of(items: Sequence[Row]) -> None:
    """Many predictions at once: those that stay ticked are confirmed together."""
    answer_ticked(items)
    small = thumbnails([sha256_of(item["file_url"]) for item in items])

    def tile(item: Row) -> Tile:
        more = f" + {item['similar']} like it" if item["similar"] else ""
        picture, alt_text = small[sha256_of(item["file_url"])], f"predicted as {item['suggestion']}"
        return Tile(item["prediction_id"], picture, alt_text, item["suggestion"] + more)

    tickable_tiles([tile(item) for item in items], "review", _likely(items), partial(draw_again, "ticked"))


@st.fragment(key="ticked")
def answer_ticked(items: Sequence[Row]) -> None:
    """What can be said about those that are ticked; a tick redraws only this."""
    chosen = ticked_of("review", _likely(items))
    ticked = [item for item in items if item["prediction_id"] in chosen]
    ids = [prediction_id for item in ticked for prediction_id in (item["prediction_id"], *item["similar_ids"])]
    with st.container(horizontal=True):
        confirm = f"Confirm {count(len(ids), 'picture')}"
        args = ("review", confirm_all, ticked)
        st.button(confirm, type="primary", disabled=not ids, on_click=then_draw, args=args)
        for title, shortcut, say in (("None of these", "n", none_of_these), ("Skip", "s", skip)):
            st.button(title, shortcut=shortcut, disabled=not ids, on_click=then_draw, args=("review", say, ids))
        undo_button()


def _likely(items: Sequence[Row]) -> list[str]:
    return [item["prediction_id"] for item in items if item["decision"] != "unknown"]


def confirm_all(items: Sequence[Row]) -> None:
    """Save each suggestion, for the pictures that look alike, too."""
    by_label: dict[str, list[str]] = {}
    for item in items:
        by_label.setdefault(item["suggestion"], []).extend([item["prediction_id"], *item["similar_ids"]])
    for name, ids in by_label.items():
        save_label(ids, name)


st.title("Review")
with handle_api_errors():
    review(known_labels(api().status()))
