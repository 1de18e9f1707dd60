"""How a retrain ended: in words, with figures on demand, and what can be done next."""

from collections.abc import Iterable, Sequence

import streamlit as st

from changes import change, show_outcome
from charts import recalls, side_by_side
from client import Row
from components import AIM, api, escape_markdown, handle_api_errors, metrics, percent
from confusion import confusions, pictures_of
from pictures import thumbnails
from tiles import Tile, tiles

_ENDINGS = {
    "published": ":material/check_circle: Published. The next answer comes from the new model.",
    "rejected": ":material/front_hand: Not published: it would be worse. The live model stays.",
    "cancelled": ":material/stop_circle: Cancelled. The pictures stay for the next retrain.",
    "failed": ":material/error: Failed. The live model stays.",
}
_FIGURES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "ece": "Calibration error", "samples": "Test pictures"}
_NAMED = 10  # new labels that are named
_SUSPECTS = {"part": "Suspect pictures", "unlearned": "true"}


def verdict(job: Row) -> None:
    """A finished job."""
    st.header(_ENDINGS[job["state"]])
    after, before = job["metrics"], job["baseline"]
    if not after or not before:
        st.text(job["message"])
        return
    for line in in_words(after, before):
        st.markdown(line)
    if job["state"] == "rejected":
        what_now(job, after, [name for name in after["labels"] if name not in before["labels"]])
    would = "would get" if job["state"] == "rejected" else "get"
    changed_answers(after.get("changed") or {"count": 0, "pictures": []}, would)
    if st.toggle("Figures"):
        figures(job, after, before)


def in_words(after: Row, before: Row) -> list[str]:
    """`New: dress 13 of 14, outwear 14 of 15.` and `Old labels: 98.0 %, was 98.3 %.`"""
    lines, new = [], [name for name in after["labels"] if name not in before["labels"]]
    if new:
        more = f" and {len(new) - _NAMED} more" if len(new) > _NAMED else ""
        lines.append(f"New: {', '.join(_right_of(name, after) for name in new[:_NAMED])}{more}.")
    old = [name for name in before["labels"] if name in after["labels"]]
    lines.append(f"Old labels: {percent(_accuracy(after, old), 1)}, was {percent(_accuracy(before, old), 1)}.")
    return lines


def what_now(job: Row, after: Row, new: list[str]) -> None:
    """What a rejected lesson leads to: publish it anyway, look at its pictures, bring more, or leave out a label."""
    show_outcome()
    worse: Row | None = after.get("worse")
    for reason in worse["reasons"] if worse else [job["message"].removesuffix(".")]:  # of a job of an earlier release
        st.markdown(f"- {escape_markdown(reason[:1].upper() + reason[1:])}.")
    confused = worse["confusions"] if worse else []
    concerned = {*new, *(row[name] for row in confused for name in ("label", "predicted_class"))}
    if wanted := wanted_pictures([row for row in api().labels() if row["label"] in concerned]):
        st.markdown(f"Bring more pictures: {wanted}.")
    if confused:
        got_worse(after, confused, job["job_id"])
    st.page_link("data.py", label="Look at suspect pictures", icon=":material/fact_check:", query_params=_SUSPECTS)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if worse and (version := job["model_version"]):
            st.button("Publish anyway", on_click=publish, args=(version,))
        if len(new) > 1:
            without = st.multiselect("Leave out labels", new)
            st.button("Retrain without them", disabled=not without, on_click=start, args=(job["mode"], without))


def wanted_pictures(rows: Sequence[Row]) -> str:
    """`17 of cap, 20 of hat (recall +2.0 %)`: what each taught label lacks, or what would help it."""
    wanted = []
    for row in rows:
        name, missing = escape_markdown(row["label"]), AIM - row["pictures"] - row["built_in"]
        if missing > 0:
            wanted.append(f"{missing} of {name}")
        elif row["enough"] is False:
            wanted.append(f"{AIM} of {name} (recall +{percent(row['expected_gain'], 1)})")
    return ", ".join(wanted)


@st.fragment
@handle_api_errors()
def got_worse(after: Row, rows: Sequence[Row], key: str) -> None:
    """Which labels are confused more often than before; each opens its pictures."""

    def title(position: int) -> str:
        row = rows[position]
        pair = f"{escape_markdown(row['label'])} called {escape_markdown(row['predicted_class'])}"
        return f"{pair}: {row['after']:,}, was {row['before']:,}"

    chosen = st.pills("What got worse", range(len(rows)), format_func=title, key=f"worse-{key}")
    if chosen is not None:
        row = rows[chosen]
        pictures_of(after, row["label"], row["predicted_class"], f"worse-{key}-{chosen}")


def publish(version: str) -> None:
    change(lambda: api().activate(version), "Published. The next answer comes from the new model.")


def start(mode: str, without: Iterable[str] = ()) -> None:
    change(lambda: api().retrain(mode, list(without)), "The retrain has started.")


def figures(job: Row, after: Row, before: Row) -> None:
    """Metrics, recalls and confusion matrices before and after."""
    if job["state"] != "rejected":  # whose reasons stand above
        st.text(job["message"])
    shown = []
    for name, title in _FIGURES.items():
        was, now = (f"{row[name]:,}" if name == "samples" else percent(row[name], 1) for row in (before, after))
        shown.append((title, now, f"before: {was}"))  # on other pictures, so neither better nor worse
    metrics(shown)
    st.caption("Before: on the earlier test pictures. After: on these and the new ones, with new labels.")
    side_by_side({"before": recalls(before), "after": recalls(after)}, "recall")
    confusions({"before": before, "after": after}, job["job_id"])


def changed_answers(changed: Row, verb: str) -> None:
    """The new pictures that the new model answers differently; shown are those that it gets wrong."""
    if not changed["count"]:
        return
    st.header(f"{changed['count']:,} new pictures {verb} a different answer")
    wrong = [item for item in changed["pictures"] if item["after"] != item["label"]]
    if not wrong:
        st.write("All of those looked at are right now.")
        return
    st.write("Still wrong:")
    small = thumbnails([item["sha256"] for item in wrong])

    def tile(item: Row) -> Tile:
        alt_text = f"{item['label']}: was predicted as {item['before']}, now as {item['after']}"
        return Tile(item["sha256"], small[item["sha256"]], alt_text, f"{item['label']}, called {item['after']}")

    tiles([tile(item) for item in wrong], "changed")


def _right_of(label: str, metrics: Row) -> str:
    row = metrics["per_class"][label]
    if not row["support"]:
        return f"{escape_markdown(label)} (too few pictures to test it)"
    return f"{escape_markdown(label)} {round(row['recall'] * row['support'])} of {row['support']}"


def _accuracy(metrics: Row, labels: list[str]) -> float | None:
    rows = [metrics["per_class"][label] for label in labels]
    pictures = sum(row["support"] for row in rows)
    return sum(row["recall"] * row["support"] for row in rows) / pictures if pictures else None
