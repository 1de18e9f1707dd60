"""The pictures behind a confusion matrix: which of one label are called another."""

import streamlit as st

from client import Row
from components import api, count, escape_markdown, percent
from pictures import thumbnails
from tiles import Tile, tiles

_PAIRS = 12
_STORED = 500  # held-out pictures of a label that are looked through
_HASH = 16  # digits of a picture's hash by which metrics name it


def mistakes(metrics: Row, key: str) -> None:
    """One choice for each cell beside the diagonal, the fullest first; it opens its pictures."""
    pairs = {f"{label}\n{predicted}": (label, predicted, number) for label, predicted, number in confused(metrics)}
    if not pairs:
        return

    def title(pair: str) -> str:
        label, predicted, number = pairs[pair]
        return f"{escape_markdown(label)} called {escape_markdown(predicted)} · {number:,}"

    chosen = st.pills("Look at the mistakes", list(pairs)[:_PAIRS], format_func=title, key=f"mistakes-{key}")
    if chosen:
        pictures_of(metrics, *pairs[chosen], key)


def confused(metrics: Row) -> list[tuple[str, str, int]]:
    """Label, predicted label, and how often, the most frequent first."""
    names = metrics["labels"]
    cells = [
        (label, predicted, number)
        for label, row in zip(names, metrics["confusion_matrix"], strict=True)
        for predicted, number in zip(names, row, strict=True)
        if number and predicted != label
    ]
    return sorted(cells, key=lambda cell: -cell[2])


def pictures_of(metrics: Row, label: str, predicted: str, number: int, key: str) -> None:
    """Those of the mistakes whose pictures are kept here, the most confident first."""
    named = [row for row in metrics.get("mistakes", []) if (row["label"], row["predicted_class"]) == (label, predicted)]
    stored, _ = api().training_data(_STORED, label=label, split="holdout")
    hashes = {row["sha256"][:_HASH]: row["sha256"] for row in stored}
    shown = [row for row in named if row["picture"] in hashes]
    small = thumbnails([hashes[row["picture"]] for row in shown])

    def tile(row: Row) -> Tile:
        title = f"{predicted} · {percent(row['confidence'])}"
        return Tile(row["picture"], small[hashes[row["picture"]]], f"{label}, called {predicted}", title)

    tiles([tile(row) for row in shown], f"mistakes-{key}")
    if missing := number - len(shown):
        # Metrics name the most confident mistakes only, and pictures of the model's first training are not kept.
        st.caption(f"{count(missing, 'further picture')} cannot be shown.")
    address = {"part": "Pictures", "gallery-label": label}
    st.page_link("data.py", label=f"All pictures of {escape_markdown(label)}", query_params=address)
