"""Teach: bring pictures with labels, see what was taken, and keep them in order."""

import base64
import io
import zipfile
from collections.abc import Callable

import streamlit as st
from PIL import Image

from client import ApiError, Row
from parts import (
    PICTURES,
    api,
    choose_label,
    complain,
    forget,
    grid,
    label_counts,
    labels_of,
    patience,
    picture,
    sha256_of,
    small,
)

_PAGE = 24
_SHOWN = 100  # rows of a report that get a thumbnail
_SIDE = 64  # pixels
_WHY = {
    "corrupt": "damaged",
    "duplicate": "known already",
    "conflict": "known under another label",
    "too_small": "too small",
    "unsupported": "not a picture that I can read",
    "invalid_image": "damaged",
    "invalid_zip": "not a ZIP that I can read",
    "unsupported_image": "not a picture that I can read",
    "too_large": "too large",
    "ignored": "not a picture in a folder named by its label",
}


def bring(files: list, known: list[str]) -> None:
    """A ZIP of labelled folders, or pictures with one label."""
    alone = [file for file in files if not file.name.lower().endswith(".zip")]
    label = choose_label(known, "upload") if alone else None
    if files and st.button("Take them in", type="primary", disabled=bool(alone) and not label):
        with st.spinner("Looking at each picture …"):
            reports, problem = send(files, label)
        st.session_state["report"] = (joined(reports), skipped_rows(reports, files))
        st.session_state["problem"] = problem
        st.rerun()  # what is counted below has changed
    if problem := st.session_state.get("problem"):
        complain(problem)
    if "report" in st.session_state:
        show_report(*st.session_state["report"])


def send(files: list, label: str | None) -> tuple[list[Row], ApiError | None]:
    """One after the other; a picture that is refused is reported like one of a ZIP, anything else ends it."""
    reports: list[Row] = []
    for file in files:
        zipped = file.name.lower().endswith(".zip")
        try:
            reports.append(api().upload(file.name, file.getvalue(), None if zipped else label))
        except ApiError as error:
            if error.status not in (413, 415, 422) or error.code == "invalid_label":
                return reports, error
            skipped = {"name": file.name, "reason": error.code, "detail": error.detail}
            reports.append({"upload_id": "", "accepted": 0, "labels": {}, "skipped": [skipped]})
    return reports, None


def joined(reports: list[Row]) -> Row:
    labels: dict[str, int] = {}
    for report in reports:
        for name, count in report["labels"].items():
            labels[name] = labels.get(name, 0) + count
    return {"accepted": sum(r["accepted"] for r in reports), "labels": labels, "ids": [r["upload_id"] for r in reports]}


def skipped_rows(reports: list[Row], files: list) -> list[Row]:
    """What was left out, with a small picture where there is one to see."""
    rows = []
    for report, file in zip(reports, files, strict=False):  # fewer reports, when sending ended early
        for item in report["skipped"]:
            data = entry(file, item["name"]) if len(rows) < _SHOWN else None
            rows.append(
                {
                    "picture": tiny(data) if data else None,
                    "file": item["name"],
                    "why": _WHY.get(item["reason"], item["reason"]),
                    "the service says": item["detail"],
                }
            )
    return rows


def entry(file, name: str) -> bytes | None:
    """The bytes of a skipped file: of a ZIP, one of its entries."""
    if not file.name.lower().endswith(".zip"):
        return file.getvalue()
    try:
        with zipfile.ZipFile(io.BytesIO(file.getvalue())) as archive:
            info = archive.getinfo(name)
            return archive.read(info) if info.file_size < 20 << 20 else None
    except Exception:  # whatever is wrong with it, the service has said so already
        return None


def tiny(data: bytes) -> str | None:
    """A data address of a thumbnail; None when it does not decode."""
    try:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (_SIDE, _SIDE))
        if image.width * image.height > 50_000_000:
            return None
        image.thumbnail((_SIDE, _SIDE))
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG")
    except Exception:  # it was skipped because it is damaged
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def show_report(report: Row, skipped: list[Row]) -> None:
    st.subheader("What became of it")
    left, right = st.columns(2)
    left.metric("Taken", report["accepted"])
    right.metric("Left out", len(skipped))
    if report["labels"]:
        st.dataframe(
            [{"label": name, "pictures": count} for name, count in report["labels"].items()],
            column_config={"pictures": st.column_config.ProgressColumn(format="%d", max_value=report["accepted"])},
        )
        rows = [row for row in api().training_data(_PAGE) if row["upload_id"] in report["ids"]][:8]
        pictures = small([sha256_of(row["image_path"]) for row in rows])
        grid(rows, lambda row: picture(pictures[sha256_of(row["image_path"])], f"taken as {row['shoe_class']}"), 8)
    if skipped:
        st.dataframe(skipped, column_config={"picture": st.column_config.ImageColumn("picture")})


def browse(known: list[str]) -> None:
    """Training pictures, newest first; each can get another label, or go."""
    befores = st.session_state.setdefault("befores", [None])
    rows = api().training_data(_PAGE, befores[-1])
    if not rows:
        st.info("There are no training pictures yet." if befores == [None] else "There are no older ones.")

    pictures = small([sha256_of(row["image_path"]) for row in rows])

    def card(row: Row) -> None:
        picture(pictures[sha256_of(row["image_path"])], f"training picture of {row['shoe_class']}")
        st.text(row["shoe_class"])
        st.caption("learnt" if row["is_processed"] else "waits to be learnt")
        with st.popover("Change", key=f"change-{row['id']}"):
            label = choose_label(known, f"label-{row['id']}", row["shoe_class"])
            if st.button("Give it this label", key=f"relabel-{row['id']}", disabled=not label):
                change(lambda: api().relabel(row["id"], str(label)))
            if st.button("Delete the picture", key=f"delete-{row['id']}", type="primary"):
                change(lambda: delete(row))

    grid(rows, card, 6)
    newer, older = st.columns(2)
    if newer.button("Newer", disabled=len(befores) == 1):
        befores.pop()
        st.rerun()
    if older.button("Older", disabled=len(rows) < _PAGE):
        befores.append(rows[-1]["id"])
        st.rerun()


def delete(row: Row) -> None:
    api().delete(row["id"])
    forget(sha256_of(row["image_path"]))


def change(call: Callable[[], object]) -> None:
    try:
        call()
    except ApiError as error:
        complain(error)
        return
    st.rerun()


st.title("Teach me")
upload, pictures = st.tabs(["Bring pictures", "Training pictures"])
with upload:
    st.write("A ZIP whose folders are named by what they show, or pictures and their label.")
    # Before the first call, so that what was dropped is still there when the service comes back.
    files = st.file_uploader("Drop a ZIP, or pictures", type=["zip", *PICTURES], accept_multiple_files=True)
with patience():
    status = api().status()
    known, counts = labels_of(status), status["training_data"]["labels"] or {}
    with upload:
        bring(files, known)
        if counts:
            st.subheader("Training pictures of each label")
            label_counts(counts)
    with pictures:
        browse(known)
