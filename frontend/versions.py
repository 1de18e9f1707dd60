"""Versions: what was live, how good it was, and how to go back."""

from collections.abc import Sequence

import streamlit as st

from changes import change, show_outcome
from charts import confusion, recalls, side_by_side
from client import Row
from components import api, escape_markdown, handle_api_errors, local_time

_PERCENTAGES = {"accuracy": "accuracy", "macro-F1": "macro_f1", "calibration error": "ece"}
_UNUSABLE = ("live", "deleted")


def table(rows: Sequence[Row]) -> None:
    """All versions, newest first."""
    st.dataframe(
        [
            {
                "version": row["version"],
                "state": row["state"],
                **{title: (row["metrics"] or {}).get(name) for title, name in _PERCENTAGES.items()},
                "test pictures": (row["metrics"] or {}).get("samples"),
                "labels": ", ".join(row["labels"]),
                "based on": row["parent"] or "–",
                "created": local_time(row["created_at"]),
            }
            for row in rows
        ],
        column_config={name: st.column_config.NumberColumn(format="percent") for name in _PERCENTAGES},
    )


def actions(row: Row) -> None:
    """Activate and download a version."""
    client, version = api(), row["version"]
    with st.container(horizontal=True):
        title = "Publish anyway" if row["state"] == "rejected" else "Use this version"
        st.button(title, type="primary", disabled=row["state"] in _UNUSABLE, on_click=use, args=(version,))
        st.download_button(
            "Download the .h5",
            lambda: client.model_file(version),  # fetched on click only
            f"{version}.h5",
            "application/x-hdf5",
            disabled=row["state"] == "deleted",
        )


def use(version: str) -> None:
    """Make a version live."""

    def activate() -> None:
        st.session_state["activated"] = api().activate(version)

    change(activate, "It answers from now on.")


def activated() -> None:
    """What became live last, and how many pictures it does not know."""
    if answer := st.session_state.pop("activated", None):
        message = f"Version {escape_markdown(answer['version'])} is live. {answer.get('message', '')}"
        st.success(message, icon=":material/check_circle:")


def ancestry(rows: Sequence[Row], row: Row) -> str:
    """The chain of parents, from the first version to this one."""
    parents = {item["version"]: item["parent"] for item in rows}
    chain: list[str] = [row["version"]]
    while (parent := parents.get(chain[-1])) and parent not in chain:
        chain.append(parent)
    return " → ".join(reversed(chain))


def compare(first: Row, second: Row) -> None:
    """Recalls and confusion matrices of two versions side by side."""
    pair = {first["version"]: first["metrics"], second["version"]: second["metrics"]}
    measured = {name: metrics for name, metrics in pair.items() if metrics}
    if not measured:
        st.info("Neither version has metrics.")
        return
    side_by_side({name: recalls(metrics) for name, metrics in measured.items()}, "recall on test pictures")
    for column, (name, metrics) in zip(st.columns(2), measured.items(), strict=False):
        with column:
            confusion(metrics, name)


st.title("Versions")
with handle_api_errors():
    rows = api().models()
    activated()
    show_outcome()
    table(rows)
    by_name = {row["version"]: row for row in rows}
    chosen = st.selectbox("Version", list(by_name), format_func=lambda name: f"{name} ({by_name[name]['state']})")
    if chosen:
        actions(by_name[chosen])
        st.caption(f"Based on: {escape_markdown(ancestry(rows, by_name[chosen]))}")
        others = [name for name in by_name if name != chosen]
        if others:
            other = st.selectbox("Compare with", others)
            compare(by_name[other], by_name[chosen])
        elif by_name[chosen]["metrics"]:
            confusion(by_name[chosen]["metrics"], chosen)
