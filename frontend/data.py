"""Teach: add pictures with labels, see what was accepted, and keep them in order."""

import io
import zipfile
from collections.abc import Callable, Sequence

import streamlit as st
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFile

from charts import label_counts
from client import ApiError, Row
from components import (
    PICTURE_TYPES,
    api,
    choose_label,
    data_url,
    drop_thumbnails,
    grid,
    handle_api_errors,
    known_labels,
    picture,
    sha256_of,
    show_error,
    thumbnails,
)

_PAGE = 24
_REPORT_THUMBNAILS = 100  # rows of an upload result that get one
_SIDE = 64  # pixels of such a thumbnail
_MAX_PIXELS = 50_000_000
_MAX_ENTRY_BYTES = 20 << 20
_REASONS = {
    "corrupt": "damaged",
    "duplicate": "known already",
    "conflict": "known under another label",
    "too_small": "too small",
    "unsupported": "not a supported picture format",
    "invalid_image": "damaged",
    "invalid_zip": "not a readable ZIP",
    "unsupported_image": "not a supported picture format",
    "too_large": "too large",
    "ignored": "not a picture inside a labelled folder",
}


def upload_form(files: Sequence[UploadedFile], known: list[str]) -> None:
    """Upload ZIPs of labelled folders, or pictures that share one label, and show the result."""
    single = [file for file in files if not _is_zip(file)]
    label = choose_label(known, "upload") if single else None
    if files and st.button("Upload", type="primary", disabled=bool(single) and not label):
        with st.spinner("Checking each picture …"):
            reports, problem = upload(files, label)
        st.session_state["report"] = (merge(reports), skipped_rows(reports, files))
        st.session_state["problem"] = problem
        st.rerun()  # the counts below have changed
    if problem := st.session_state.get("problem"):
        show_error(problem)
    if "report" in st.session_state:
        show_report(*st.session_state["report"])


def upload(files: Sequence[UploadedFile], label: str | None) -> tuple[list[Row], ApiError | None]:
    """Send files one by one.

    A refused picture is reported like a skipped one of a ZIP; any other error ends the upload and is returned.
    """
    reports: list[Row] = []
    for file in files:
        try:
            reports.append(api().upload(file.name, file.getvalue(), None if _is_zip(file) else label))
        except ApiError as error:
            if error.status not in (413, 415, 422) or error.code == "invalid_label":
                return reports, error
            skipped = {"name": file.name, "reason": error.code, "detail": error.detail}
            reports.append({"upload_id": "", "accepted": 0, "labels": {}, "skipped": [skipped]})
    return reports, None


def merge(reports: list[Row]) -> Row:
    """The reports of several uploads as one, without what was skipped."""
    labels: dict[str, int] = {}
    for report in reports:
        for name, count in report["labels"].items():
            labels[name] = labels.get(name, 0) + count
    return {"accepted": sum(r["accepted"] for r in reports), "labels": labels, "ids": [r["upload_id"] for r in reports]}


def skipped_rows(reports: list[Row], files: Sequence[UploadedFile]) -> list[Row]:
    """Table rows for skipped files, with a thumbnail where the picture can be decoded."""
    rows: list[Row] = []
    for report, file in zip(reports, files, strict=False):  # there are fewer reports when the upload ended early
        for item in report["skipped"]:
            data = read_entry(file, item["name"]) if len(rows) < _REPORT_THUMBNAILS else None
            rows.append(
                {
                    "picture": thumbnail(data) if data else None,
                    "file": item["name"],
                    "reason": _REASONS.get(item["reason"], item["reason"]),
                    "details": item["detail"],
                }
            )
    return rows


def read_entry(file: UploadedFile, name: str) -> bytes | None:
    """The bytes of a skipped file, which may be an entry of a ZIP; None when they cannot be read."""
    if not _is_zip(file):
        return file.getvalue()
    try:
        with zipfile.ZipFile(io.BytesIO(file.getvalue())) as archive:
            info = archive.getinfo(name)
            return archive.read(info) if info.file_size < _MAX_ENTRY_BYTES else None
    except Exception:  # a broken ZIP raises many types of errors, and the service has already reported the reason
        return None


def thumbnail(data: bytes) -> str | None:
    """A data URL of a small JPEG; None when the picture cannot be decoded."""
    try:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (_SIDE, _SIDE))
        if image.width * image.height > _MAX_PIXELS:
            return None
        image.thumbnail((_SIDE, _SIDE))
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG")
    except Exception:  # it may have been skipped because it is damaged, and decoders raise many types of errors
        return None
    return data_url(out.getvalue())


def show_report(report: Row, skipped: list[Row]) -> None:
    """What was added, by label and with some of the pictures, and what was skipped and why."""
    st.subheader("Upload result")
    left, right = st.columns(2)
    left.metric("Added", report["accepted"])
    right.metric("Skipped", len(skipped))
    if skipped:
        st.dataframe(skipped, column_config={"picture": st.column_config.ImageColumn("picture")})
    if report["labels"]:
        st.dataframe(
            [{"label": name, "pictures": count} for name, count in report["labels"].items()],
            column_config={"pictures": st.column_config.ProgressColumn(format="%d", max_value=report["accepted"])},
        )
        rows = [row for row in api().training_data(_PAGE) if row["upload_id"] in report["ids"]][:8]
        small = thumbnails([sha256_of(row["image_path"]) for row in rows])
        grid(rows, lambda row: picture(small[sha256_of(row["image_path"])], f"added as {row['shoe_class']}"), 8)


def browse(known: list[str]) -> None:
    """Training pictures, newest first; each can be relabelled or deleted."""
    cursors = st.session_state.setdefault("cursors", [None])  # the `before` of each page that was opened
    rows = api().training_data(_PAGE, cursors[-1])
    if not rows:
        st.info("There are no training pictures yet." if cursors == [None] else "There are no older ones.")
    small = thumbnails([sha256_of(row["image_path"]) for row in rows])
    grid(rows, lambda row: card(row, small[sha256_of(row["image_path"])], known), 6)
    newer, older = st.columns(2)
    if newer.button("Newer", disabled=len(cursors) == 1):
        cursors.pop()
        st.rerun()
    if older.button("Older", disabled=len(rows) < _PAGE):
        cursors.append(rows[-1]["id"])
        st.rerun()


def card(row: Row, data: bytes | None, known: list[str]) -> None:
    """One training picture with the means to change it."""
    picture(data, f"training picture of {row['shoe_class']}")
    st.text(row["shoe_class"])
    st.caption("learned" if row["is_processed"] else "not learned yet")
    with st.popover("Change", key=f"change-{row['id']}"):
        label = choose_label(known, f"label-{row['id']}", row["shoe_class"])
        if st.button("Save label", key=f"relabel-{row['id']}", disabled=not label, type="primary"):
            change(lambda: api().relabel(row["id"], str(label)))
        if st.button("Delete the picture", key=f"delete-{row['id']}"):
            change(lambda: delete(row))


def delete(row: Row) -> None:
    api().delete(row["id"])
    drop_thumbnails(sha256_of(row["image_path"]))


def change(call: Callable[[], object]) -> None:
    """Make a call that changes a training picture, and redraw the page."""
    try:
        call()
    except ApiError as error:
        show_error(error)
        return
    st.rerun()


def _is_zip(file: UploadedFile) -> bool:
    return file.name.lower().endswith(".zip")


st.title("Teach")
upload_tab, pictures_tab = st.tabs(["Add pictures", "Training pictures"])
with upload_tab:
    st.write("A ZIP with one folder per label, or pictures that share one label.")
    # Before the first call, so that dropped files survive while the service is away.
    files = st.file_uploader("Drop a ZIP, or pictures", type=["zip", *PICTURE_TYPES], accept_multiple_files=True)
with handle_api_errors():
    status = api().status()
    known, counts = known_labels(status), status["training_data"]["labels"] or {}
    with upload_tab:
        upload_form(files, known)
        if counts:
            st.subheader("Training pictures per label")
            label_counts(counts)
    with pictures_tab:
        browse(known)
