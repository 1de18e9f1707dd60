"""A version as one file for use elsewhere, and how its answers differ from the service's."""

from concurrent.futures import Future
from functools import partial
from threading import Thread

import streamlit as st

from client import Api, ApiError, Row
from components import api, count, handle_api_errors, show_error

_FORMATS = {
    "tflite": "LiteRT, for phones and small computers",
    "onnx": "ONNX, for ONNX Runtime and others",
    "web": "A page that classifies offline, in a browser",
}
_EXTENSIONS = {"tflite": "tflite", "onnx": "onnx", "web": "html"}
Report = Future[Row | ApiError]


@st.fragment
@handle_api_errors()
def export(version: str) -> None:
    """Make an export in one of the formats; then show its parity report, and offer the file."""
    st.header("Take it along")
    st.write("One file for an app, a small computer or a browser, which answers as the service does.")
    form = st.selectbox("Format", list(_FORMATS), format_func=_FORMATS.__getitem__)
    report = _reports().get((version, form))
    if report and not report.done():
        st.info("It is being made and compared with the service, for up to a minute.", icon=":material/hourglass_top:")
        wait(report)
        return
    answer = report.result() if report else None
    if isinstance(answer, dict):
        offer(version, form, answer)
        return
    if answer:
        show_error(answer, "export")
    st.button("Export", on_click=start, args=(version, form))


def start(version: str, form: str) -> None:
    """Ask for an export on a thread of its own: the page goes on meanwhile."""
    report = _reports()[version, form] = Report()
    Thread(target=_ask, args=(api(), version, form, report), daemon=True).start()


@st.fragment(run_every=1)
def wait(report: Report) -> None:
    if report.done():
        st.rerun()


def offer(version: str, form: str, report: Row) -> None:
    """The parity report in words, and the file, which is fetched on a click only."""
    st.markdown(in_words(report))
    name = f"shoe_classifier-{version}.{_EXTENSIONS[form]}"
    fetch = partial(api().model_export, version, form)
    st.download_button(f"Download the .{_EXTENSIONS[form]}", fetch, name, on_click="ignore")


def in_words(report: Row) -> str:
    """How its answers differ from the service's, and how long they take."""
    total = report["stored"] + report["drawn"]
    differ = report["decision_changes"]
    decisions = "the same decision" if not differ else f"another decision for {differ:,}"
    return (
        f"Compared on {count(report['stored'], 'training picture')} and {count(report['drawn'], 'drawn one')}: "
        f"**the same label for all {total:,}**, {decisions}, and probabilities that differ by "
        f"{report['largest_difference']:.7f} at most. A picture took {report['export_ms']:.1f} ms in "
        f"{report['runtime']}, and {report['service_ms']:.1f} ms in the service."
    )


def _reports() -> dict[tuple[str, str], Report]:
    """What this visitor asked for, by version and format."""
    reports: dict[tuple[str, str], Report] = st.session_state.setdefault("exports", {})
    return reports


def _ask(client: Api, version: str, form: str, report: Report) -> None:
    try:
        report.set_result(client.parity(version, form))
    except ApiError as error:
        report.set_result(error)
