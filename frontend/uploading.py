"""Uploads: files to the service, and what became of them."""

import io
import zipfile
from collections import Counter
from collections.abc import Sequence

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from camera import Frame, frames, record
from client import ApiError, Row
from components import api, cell, choose_label, count, escape_markdown, in_units, limit, megabytes, show_error
from pictures import PICTURE_TYPES, data_url, sha256_of, small_jpeg, thumbnails
from tiles import Tile, tiles

File = UploadedFile | Frame
_REPORT_THUMBNAILS = 100  # rows of an upload result that get one
_COLUMNS = {"picture": st.column_config.ImageColumn("picture", width=72), "reason": None}
_SHOWN = 24  # pictures that were added
_SIDE = 64  # pixels of such a thumbnail
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
    "ignored": "not part of the lesson",
}
_OUTSIDE = "Not inside a labelled folder."  # one of many details of `unsupported`, and the one that people can mend


def drop_zone() -> list[File]:
    """A field for files, and the camera: what was dropped and what was recorded."""
    st.write("A ZIP with one folder per label, or pictures that share one label.")
    types, uploads = ["zip", *PICTURE_TYPES], st.session_state.setdefault("uploads", 0)
    largest, largest_picture = limit("max_zip_bytes"), limit("max_image_bytes")
    dropped = st.file_uploader(
        "Drop a ZIP, or pictures",
        type=types,
        accept_multiple_files=True,
        max_upload_size=megabytes(largest),
        key=f"files-{uploads}",
    )
    formats = ", ".join(name.upper() for name in PICTURE_TYPES)
    st.caption(f"ZIPs of up to {in_units(largest)}; pictures of up to {in_units(largest_picture)}: {formats}.")
    if st.toggle("Record from the camera"):
        record()
    return [*dropped, *frames()]


def upload_form(files: Sequence[File], known: Sequence[str]) -> None:
    """Upload ZIPs of labelled folders, or pictures that share one label, and show the result."""
    uploads = st.session_state["uploads"]
    single = [file for file in files if not _is_zip(file)]
    label = choose_label(known, f"upload-{uploads}") if single else None
    if files and st.button("Upload", type="primary", disabled=bool(single) and not label):
        with st.spinner("Checking each picture …"):
            reports, problem = send(files, label)
        st.session_state["report"] = (merge(reports), skipped_rows(reports, files))
        st.session_state["refused"] = problem
        if problem is None:
            st.session_state["uploads"] = uploads + 1  # a new field, as it cannot be emptied
            frames().clear()
        st.rerun()
    if problem := st.session_state.get("refused"):
        show_error(problem, "upload")
    if "report" in st.session_state:
        show_report(*st.session_state["report"])


def send(files: Sequence[File], label: str | None) -> tuple[list[Row], ApiError | None]:
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
        for name, number in report["labels"].items():
            labels[name] = labels.get(name, 0) + number
    return {"accepted": sum(r["accepted"] for r in reports), "labels": labels, "ids": [r["upload_id"] for r in reports]}


def skipped_rows(reports: list[Row], files: Sequence[File]) -> list[Row]:
    """Table rows for skipped files, with a thumbnail where the picture can be decoded."""
    rows: list[Row] = []
    for report, file in zip(reports, files, strict=False):  # there are fewer reports when the upload ended early
        for item in report["skipped"]:
            data = read_entry(file, item["name"]) if len(rows) < _REPORT_THUMBNAILS else None
            rows.append(
                {
                    "picture": (data_url(small_jpeg(data, _SIDE)) if data else None) or "",
                    "file": cell(item["name"]),
                    "reason": reason_of(item),
                    "details": item["detail"],
                }
            )
    return rows


def reason_of(item: Row) -> str:
    """Why a file was skipped, in words that many files share."""
    if item["detail"] == _OUTSIDE:
        return "not inside a labelled folder"
    return _REASONS.get(item["reason"], str(item["reason"]))


def read_entry(file: File, name: str) -> bytes | None:
    """The bytes of a skipped file, which may be an entry of a ZIP; None when they cannot be read."""
    if not _is_zip(file):
        return file.getvalue()
    try:
        with zipfile.ZipFile(io.BytesIO(file.getvalue())) as archive:
            info = archive.getinfo(name)
            return archive.read(info) if info.file_size < _MAX_ENTRY_BYTES else None
    except Exception:  # a broken ZIP raises many types of errors, and the service has already reported the reason
        return None


def show_report(report: Row, skipped: list[Row]) -> None:
    """What was skipped and why, and what was added."""
    st.header(f"Upload result: {report['accepted']:,} added, {len(skipped):,} skipped")
    reasons = Counter(row["reason"] for row in skipped)
    for reason, number in reasons.most_common():
        title = f"{count(number, 'file')} skipped: {reason}"
        with st.expander(title, icon=":material/block:", expanded=not report["accepted"]):
            rows = [row for row in skipped if row["reason"] == reason]
            details = {row["details"] for row in rows}
            if len(details) == 1:  # which a phone has no room for beside each file
                st.text(*details)
            hidden = {"details": None} if len(details) == 1 else {}
            st.dataframe(rows, column_config={**_COLUMNS, **hidden}, row_height=_SIDE)
    if not report["accepted"]:
        return
    added = ", ".join(f"{number:,} {escape_markdown(name)}" for name, number in report["labels"].items())
    st.success(f"Added: {added}", icon=":material/check_circle:")
    if st.button("Retrain now", type="primary", icon=":material/autorenew:"):
        api().retrain("auto")
        st.switch_page("retrain.py")
    rows = [row for row in api().training_data(_SHOWN)[0] if row["upload_id"] in report["ids"]]
    small = thumbnails([sha256_of(row["image_path"]) for row in rows])

    def tile(row: Row) -> Tile:
        return Tile(row["id"], small[sha256_of(row["image_path"])], f"added as {row['shoe_class']}", row["shoe_class"])

    tiles([tile(row) for row in rows], "added")


def _is_zip(file: File) -> bool:
    return file.name.lower().endswith(".zip")
