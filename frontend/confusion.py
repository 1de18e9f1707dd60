"""A confusion matrix whose cells open their pictures."""

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from client import Row
from components import api, count, escape_markdown, handle_api_errors, percent
from pictures import thumbnails
from tiles import Tile, tiles

_STATIC = Path(__file__).parent / "static"
_NARROW = 7  # labels of a matrix that fits beside another one
_SHOWN = 60  # pictures of a cell
_STORED = 500  # held-out pictures of a label that are looked through
_HASH = 16  # digits of a picture's hash by which metrics name it
_matrix = st.components.v2.component(
    "matrix",
    html="<table></table>",
    css=(_STATIC / "matrix.css").read_text(),
    js=(_STATIC / "matrix.js").read_text(),
)


def confusions(measured: Mapping[str, Row], key: str) -> None:
    """Matrices by their titles: beside each other, or below each other when they are wide."""
    wide = max(len(metrics["labels"]) for metrics in measured.values()) > _NARROW
    places = [st.container() for _ in measured] if wide else st.columns(2)
    for place, (title, metrics) in zip(places, measured.items(), strict=False):
        with place:
            confusion(metrics, title, f"{key}-{title}")


@st.fragment
@handle_api_errors()
def confusion(metrics: Row, title: str, key: str) -> None:
    """A row per true label, a column per predicted one; colours show shares of a row, a click shows the pictures."""
    st.markdown(f"**{escape_markdown(title)}**")
    data = {"labels": metrics["labels"], "rows": metrics["confusion_matrix"], "title": title, "narrow": _NARROW}
    cell = _matrix(key=f"matrix-{key}", data=data, default={"cell": None}, on_cell_change=lambda: None).cell
    if cell is None:
        st.caption("Rows: what is in the picture. Columns: what it was called. Each number opens its pictures.")
        return
    label, predicted = (metrics["labels"][int(position)] for position in cell)
    st.markdown(f"**{escape_markdown(label)}** called **{escape_markdown(predicted)}**")
    pictures_of(metrics, label, predicted, f"{key}-{cell}")


def pictures_of(metrics: Row, label: str, predicted: str, key: str) -> None:
    """The pictures of a cell that are kept here; the mistakes with the most confident ones first."""
    named = {row["picture"]: row for row in metrics.get("mistakes", []) if row["label"] == label}
    stored, _ = api().training_data(_STORED, label=label, split="holdout")
    hashes = {row["sha256"][:_HASH]: row["sha256"] for row in stored}
    if label == predicted:
        st.caption("What it gets right is not listed one by one. These are held out and not among the mistakes.")
        shown = [name for name in hashes if name not in named]
    else:
        shown = [name for name, row in named.items() if row["predicted_class"] == predicted and name in hashes]
    small = thumbnails([hashes[name] for name in shown[:_SHOWN]])

    def tile(name: str) -> Tile:
        title = f"{predicted} · {percent(named[name]['confidence'])}" if name in named else label
        return Tile(name, small[hashes[name]], f"{label}, called {predicted}", title)

    if shown:
        tiles([tile(name) for name in shown[:_SHOWN]], f"cell-{key}")
    names = metrics["labels"]
    number = metrics["confusion_matrix"][names.index(label)][names.index(predicted)]
    if number > len(shown) and label != predicted:  # metrics name the most confident mistakes only
        missing = count(number - len(shown), "further picture" if shown else "picture")
        st.caption(f"{missing} cannot be shown: those of the model's first training are not kept.")
    address = {"part": "Pictures", "gallery-label": label}
    st.page_link("data.py", label=f"All pictures of {escape_markdown(label)}", query_params=address)
