"""Labels: how many pictures each has, how well it is recognised, whether more would help, and its name."""

from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from changes import change, make_change, offer_undo, show_outcome
from charts import learning_curve
from client import Row
from components import AIM, PERCENT, api, cell, count, escape_markdown, handle_api_errors, in_percent, percent

_SHOWN = 30  # labels that stand below each other without a scroll bar
_WIDTH = 110  # pixels of a column, so that a phone shows the first ones whole
_LOPSIDED = 5  # times as many pictures of one taught label as of another


@st.fragment
@handle_api_errors()
def labels() -> None:
    """All labels, and the one that is looked at."""
    show_outcome()
    rows = api().labels()
    pending(api().label_changes())
    table(rows)
    unbalanced(rows)
    by_name = {row["label"]: row for row in rows}
    chosen = st.selectbox("Look at a label", list(by_name), key="label-looked-at")
    if chosen:
        one(by_name[chosen], [name for name in by_name if name != chosen])


def pending(changes: Sequence[Row]) -> None:
    """What the live model does not follow yet, and the way back: the newest first, also after a reload."""
    for row in changes[:1]:
        others = f", and {count(len(changes) - 1, 'earlier change')}" if len(changes) > 1 else ""
        name = escape_markdown(row["label"])
        done = f"is called {escape_markdown(row['name'])}" if row["name"] else "is removed"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/schedule: {name} {done}{others}. The next retrain makes it final.")
            take_back = partial(api().undo_label_change, row["id"])
            st.button("Take it back", on_click=make_change, args=(take_back, f"{name} is as before."))
    offer_undo()


def table(rows: Sequence[Row]) -> None:
    st.dataframe(
        [
            {
                "label": cell(row["label"]),
                "taught by you": row["pictures"],
                "recall": in_percent(row["recall"]),
                "enough?": enough(row),
                "most confused with": cell(row["most_confused_with"] or "–"),
                "test pictures": row["recall_samples"],
                "built in": row["built_in"],
            }
            for row in rows
        ],
        column_config={
            "label": st.column_config.TextColumn(width=_WIDTH),
            "recall": st.column_config.ProgressColumn(format=PERCENT, min_value=0, max_value=100, width=_WIDTH),
        },
        height="content" if len(rows) <= _SHOWN else "auto",
    )


def enough(row: Row) -> str:
    """Whether a label has enough pictures, in words."""
    if row["enough"] is None:
        return "built in" if not row["pictures"] else "too few to say"
    return "yes" if row["enough"] else f"no: +{percent(row['expected_gain'], 1)} with 20 more"


def unbalanced(rows: Sequence[Row]) -> None:
    """Warn about labels that rest on few pictures alone, and about taught ones of very different numbers."""
    few = [
        f"{escape_markdown(row['label'])} ({row['pictures']})"
        for row in rows
        if row["pictures"] + row["built_in"] < AIM
    ]
    if few:
        st.warning(f"Few pictures: {', '.join(few)}. Aim for at least {AIM} per label.", icon=":material/warning:")
    taught = sorted((row["pictures"], row["label"]) for row in rows if row["pictures"] and not row["built_in"])
    if taught and taught[-1][0] >= _LOPSIDED * taught[0][0]:
        numbers = ", ".join(f"{number:,} {escape_markdown(label)}" for number, label in (taught[-1], taught[0]))
        st.warning(f"Unbalanced: {numbers}.", icon=":material/balance:")


def one(row: Row, others: Sequence[str]) -> None:
    """A label with its learning curve, and what can be done with it."""
    name = escape_markdown(row["label"])
    st.header(name)
    st.write(in_words(row))
    if row["learning_curve"]:
        learning_curve(row["learning_curve"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            "data.py", label="See its pictures", icon=":material/photo_library:", query_params=pictures_of(row)
        )
        with st.popover("Rename"):
            new = st.text_input("New name", key=f"rename-{row['label']}")
            st.button(
                "Rename",
                key="rename",
                disabled=not new.strip(),
                on_click=rename,
                args=(row["label"], new.strip(), others),
            )
        with st.popover("Merge"):
            into = st.selectbox("Into", others, index=None, key=f"merge-{row['label']}")
            st.write("The pictures of both then share one label. The next retrain makes it final.")
            st.button("Merge", key="merge", disabled=not into, on_click=rename, args=(row["label"], into, others))
        if st.button(":red[Remove]", icon=":material/delete:"):
            confirm_removal(row)


def in_words(row: Row) -> str:
    """How many pictures a label has, and how many of its test pictures are recognised."""
    parts = [f"{count(row['pictures'], 'picture')} taught by you"]
    if row["held_out"]:
        parts.append(f"{row['held_out']:,} of them held out")
    if row["built_in"]:
        parts.append(f"{row['built_in']:,} built in")
    recall = "Not tested yet." if row["recall"] is None else f"Recall {percent(row['recall'], 1)}."
    return f"{', '.join(parts)}. {recall}"


def pictures_of(row: Row) -> dict[str, str]:
    """Where the gallery of a label is."""
    return {"part": "Pictures", "gallery-label": row["label"]}


def rename(label: str, name: str, others: Sequence[str]) -> None:
    """Rename a label, or merge it into one of the others."""
    client = api()
    done = f"Merged into {escape_markdown(name)}." if name in others else f"Renamed to {escape_markdown(name)}."
    if change_label(lambda: client.rename_label(label, name), done):
        st.session_state["label-looked-at"] = name


def change_label(call: Callable[[], Row], message: str) -> bool:
    """Make a change of a label that can be undone until the next retrain."""
    client, made = api(), list[str]()
    return change(lambda: made.append(call()["change_id"]), message, lambda: client.undo_label_change(made[-1]))


@st.dialog("Remove this label?")
def confirm_removal(row: Row) -> None:
    name = escape_markdown(row["label"])
    st.write(f"{name} and its {count(row['pictures'], 'picture')} leave. The next retrain makes it final.")
    with st.container(horizontal=True):
        if st.button(f":red[Remove {name}]"):
            client = api()
            change_label(lambda: client.remove_label(row["label"]), f"Removed {name}.")
            st.session_state.pop("label-looked-at", None)
            st.rerun()
        if st.button("Keep"):
            st.rerun()


st.title("Labels")
labels()
