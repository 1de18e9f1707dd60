"""The page of the shoe classifier; `API_URL` and `API_KEY` of the environment name the service."""

from pathlib import Path

import streamlit as st

from client import ApiError, Unreachable
from components import api, count, escape_markdown, local_time, offline_message

_PAGES = {
    "predict": ("Predict", ":material/search:"),
    "review": ("Review", ":material/fact_check:"),
    "data": ("Data", ":material/photo_library:"),
    "labels": ("Labels", ":material/label:"),
    "retrain": ("Retrain", ":material/autorenew:"),
    "versions": ("Versions", ":material/layers:"),
    "health": ("Health", ":material/monitor_heart:"),
}


@st.fragment(run_every=5)
def state() -> None:
    """The live model and the number of new pictures; refreshed every five seconds."""
    try:
        status = api().status()
    except Unreachable as error:
        st.warning(offline_message(error), icon=":material/hourglass_top:")
        return
    except ApiError as error:
        st.error(escape_markdown(error.detail))
        return
    st.session_state["limits"] = status["limits"]
    model = status["model"]
    if model is None:
        st.warning(escape_markdown(status["detail"]), icon=":material/hourglass_top:")
        return
    day = local_time(model["created_at"], "%-d %b")
    st.success(f"Model of {day}, {count(len(model['labels']), 'label')}", icon=":material/check_circle:")
    if waiting := status["training_data"]["unprocessed"]:
        st.info(f"{count(waiting, 'new picture')}, not learned yet", icon=":material/school:")


st.set_page_config(page_title="Shoe classifier", page_icon="static/icon.png", layout="wide")
st.logo("static/logo.svg", size="large", icon_image="static/icon.png")
pages = [
    st.Page(f"{name}.py", title=title, icon=icon, default=name == "predict") for name, (title, icon) in _PAGES.items()
]
page = st.navigation(pages)
if st.session_state.get("visited") != page.url_path:
    st.session_state["visited"] = page.url_path
    st.session_state.pop("problem", None)  # of a change on another page
with st.sidebar:
    state()
with st.container(horizontal=True, wrap=False, key="phone-navigation"):  # where the sidebar is folded away
    # Not st.html, whose styles are gone once a fragment is redrawn.
    st.markdown(f"<style>{Path('static/style.css').read_text()}</style>", unsafe_allow_html=True)
    scripts = "".join(Path(f"static/{name}.js").read_text() for name in ("keys", "toasts"))
    st.html(f"<script>{scripts}</script>", unsafe_allow_javascript=True)
    for item in pages:
        st.page_link(item, icon=None)
page.run()
