"""Versions: what was live, how good it was, and how to go back."""

import streamlit as st

from charts import confusion, recalls, side_by_side
from client import ApiError, Row
from components import api, escape_markdown, handle_api_errors, local_time, show_error

_PERCENTAGES = {"accuracy": "accuracy", "macro-F1": "macro_f1", "calibration error": "ece"}


def table(rows: list[Row]) -> None:
    """All versions, newest first."""
    st.dataframe(
        [
            {
                "version": row["version"],
                "state": row["state"],
                **{title: (row["metrics"] or {}).get(name) for title, name in _PERCENTAGES.items()},
                "held-out pictures": (row["metrics"] or {}).get("samples"),
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
    left, right = st.columns(2)
    if left.button("Use this version", type="primary", disabled=row["state"] in ("live", "deleted")):
        try:
            api().activate(row["version"])
            st.session_state["activated"] = row["version"]
            st.rerun()
        except ApiError as error:
            show_error(error)
    client, version = api(), row["version"]
    right.download_button(
        "Download the .h5",
        lambda: client.model_file(version),  # fetched on click only
        f"{version}.h5",
        "application/x-hdf5",
        disabled=row["state"] == "deleted",
    )


def ancestry(rows: list[Row], row: Row) -> str:
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
    side_by_side({name: recalls(metrics) for name, metrics in measured.items()}, "recall on held-out pictures")
    for column, (name, metrics) in zip(st.columns(2), measured.items(), strict=False):
        with column:
            confusion(metrics, name)


st.title("Versions")
with handle_api_errors():
    rows = api().models()
    if activated := st.session_state.pop("activated", None):
        st.success(f"Version {escape_markdown(activated)} is live.", icon=":material/check_circle:")
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
