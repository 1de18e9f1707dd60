"""Versions: what was live, how good it was, and the way back."""

import streamlit as st

from client import ApiError, Row
from parts import api, complain, confusion, patience, plain, side_by_side


def table(rows: list[Row]) -> None:
    st.dataframe(
        [
            {
                "version": row["version"],
                "state": row["state"],
                "accuracy": (row["metrics"] or {}).get("accuracy"),
                "macro-F1": (row["metrics"] or {}).get("macro_f1"),
                "calibration error": (row["metrics"] or {}).get("ece"),
                "held-out pictures": (row["metrics"] or {}).get("samples"),
                "labels": ", ".join(row["labels"]),
                "came from": row["parent"] or "–",
                "made": row["created_at"][:19].replace("T", " "),
            }
            for row in rows
        ],
        column_config={
            name: st.column_config.NumberColumn(format="percent")
            for name in ("accuracy", "macro-F1", "calibration error")
        },
    )


def one(row: Row) -> None:
    """Activate and download."""
    left, right = st.columns(2)
    if left.button("Make it live", type="primary", disabled=row["state"] in ("live", "deleted")):
        try:
            api().activate(row["version"])
            st.session_state["activated"] = row["version"]
            st.rerun()
        except ApiError as error:
            complain(error)
    client, version = api(), row["version"]
    right.download_button(
        "Download the .h5",
        lambda: client.model_file(version),  # fetched when it is asked for
        f"{version}.h5",
        "application/x-hdf5",
        disabled=row["state"] == "deleted",
    )


def lineage(rows: list[Row], row: Row) -> str:
    """From the first version to this one."""
    parents = {item["version"]: item["parent"] for item in rows}
    chain = [row["version"]]
    while (parent := parents.get(chain[-1])) and parent not in chain:
        chain.append(parent)
    return " → ".join(reversed(chain))


def compare(first: Row, second: Row) -> None:
    pair = {first["version"]: first["metrics"], second["version"]: second["metrics"]}
    known = {name: metrics for name, metrics in pair.items() if metrics}
    if not known:
        st.info("Nothing was measured of these.")
        return
    recalls = {
        name: {label: figures["recall"] for label, figures in metrics["per_class"].items() if figures["support"]}
        for name, metrics in known.items()
    }
    side_by_side(recalls, "recall on held-out pictures")
    for column, (name, metrics) in zip(st.columns(2), known.items(), strict=False):
        with column:
            confusion(metrics, name)


st.title("Versions")
with patience():
    rows = api().models()
    if activated := st.session_state.pop("activated", None):
        st.success(f"Version {plain(activated)} is live.", icon=":material/check_circle:")
    table(rows)
    names = {row["version"]: row for row in rows}
    chosen = st.selectbox("Version", list(names), format_func=lambda name: f"{name} ({names[name]['state']})")
    if chosen:
        one(names[chosen])
        st.caption(f"Lineage: {plain(lineage(rows, names[chosen]))}")
        others = [name for name in names if name != chosen]
        if others:
            other = st.selectbox("Compare with", others)
            compare(names[other], names[chosen])
        elif names[chosen]["metrics"]:
            confusion(names[chosen]["metrics"], chosen)
