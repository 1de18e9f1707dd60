"""Versions: what was live, how good it was, and how to go back."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from changes import change, make_change, show_outcome
from charts import recalls, side_by_side
from client import Row
from components import PERCENT, api, cell, count, escape_markdown, handle_api_errors, in_percent, local_time
from confusion import confusion, confusions
from exporting import export

_PERCENTAGES = {"accuracy": "accuracy", "macro-F1": "macro_f1", "calibration error": "ece"}
_UNUSABLE = ("live", "deleted")
_CONCLUSIONS = {
    "better": "It is better",
    "worse": "It is worse",
    "no_difference": "No difference that could not be chance",
    "too_few_reviewed": "Too few reviewed to tell",
}


def table(rows: Sequence[Row]) -> None:
    """All versions, newest first."""
    st.dataframe(
        [
            {
                "version": row["version"],
                "state": row["state"],
                **{title: in_percent((row["metrics"] or {}).get(name)) for title, name in _PERCENTAGES.items()},
                "test pictures": (row["metrics"] or {}).get("samples"),
                "labels": cell(", ".join(row["labels"])),
                "based on": row["parent"] or "–",
                "created": local_time(row["created_at"]),
            }
            for row in rows
        ],
        column_config={name: st.column_config.NumberColumn(format=PERCENT) for name in _PERCENTAGES},
    )


def actions(row: Row) -> None:
    """Activate and download a version."""
    client, version = api(), row["version"]
    if row["state"] not in _UNUSABLE and (waiting := client.model(version)["waiting"]):
        verb = "is" if waiting == 1 else "are"
        st.info(f"{count(waiting, 'picture')} {verb} not in this version. Used, it leaves them to the next retrain.")
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


def shadow(version: str) -> None:
    """Let a version answer live pictures silently."""
    st.header("Try it silently")
    run = api().status()["shadow"]
    if run is None or run["version"] != version:
        start_trial(version, run)
        return
    progress(version)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link("review.py", label="Say who is right", icon=":material/fact_check:")
        st.button("Publish it", on_click=use, args=(version,))
        st.button("Stop", on_click=make_change, args=(partial(api().end_shadow, version), "The trial has ended."))


def start_trial(version: str, other: Row | None) -> None:
    """The button that starts a trial, which ends that of another version."""
    st.write("It answers the next live pictures without anybody seeing it, and is compared with the live version.")
    if other:
        st.caption(f"This ends the trial of version {escape_markdown(other['version'])}.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input("Pictures", 1, 100_000, 200, key="trial-pictures")
        st.button("Start", on_click=start, args=(version,))


def start(version: str) -> None:
    wanted = st.session_state["trial-pictures"]  # as it is now: it may have been typed just before the click
    make_change(lambda: api().start_shadow(version, wanted), "It answers silently from now on.")


@st.fragment(run_every=5)
@handle_api_errors()
def progress(version: str) -> None:
    """How far a trial is, and what people said about the differences; refreshed every five seconds."""
    run = api().status()["shadow"]
    if run is None or run["version"] != version:
        return
    differ = run["seen"] - run["agreed"]
    done = f"{run['seen']:,} of {run['wanted']:,} answered"
    st.progress(run["seen"] / run["wanted"], text=f"{done}, {differ:,} of them differently")
    st.markdown(in_words(run["verdict"]))


def in_words(verdict: Row) -> str:
    """McNemar's test on the reviewed differences."""
    if not verdict["reviewed"]:
        return "Nobody has reviewed a difference yet."
    figures = f"of {count(verdict['reviewed'], 'reviewed difference')}, it was right in {verdict['shadow_right']:,}, "
    figures += f"the live version in {verdict['live_right']:,}"
    value = verdict["p_value"]
    chance = "" if value is None else f" (McNemar's test, p {'< 0.001' if value < 0.001 else f'= {value:.3f}'})"
    return f"**{_CONCLUSIONS[verdict['conclusion']]}**: {figures}{chance}."


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
    confusions(measured, "versions")


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
        if by_name[chosen]["parent"]:
            st.caption(f"Based on: {escape_markdown(ancestry(rows, by_name[chosen]))}")
        if by_name[chosen]["state"] not in _UNUSABLE:
            shadow(chosen)
        if by_name[chosen]["state"] != "deleted":
            export(chosen)
        others = [name for name in by_name if name != chosen]
        if others:
            other = st.selectbox("Compare with", others)
            compare(by_name[other], by_name[chosen])
        elif by_name[chosen]["metrics"]:
            confusion(by_name[chosen]["metrics"], chosen, chosen)
