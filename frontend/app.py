"""The page of the shoe classifier: `streamlit run app.py`, with `API_URL` and `API_KEY` in the environment."""

import streamlit as st

from client import ApiError, Unreachable
from components import api, escape_markdown, offline_message

st.set_page_config(page_title="Shoe classifier", page_icon=":material/steps:", layout="wide")

page = st.navigation(
    [
        st.Page("predict.py", title="Predict", icon=":material/search:", default=True),
        st.Page("teach.py", title="Teach", icon=":material/school:"),
        st.Page("retrain.py", title="Retrain", icon=":material/autorenew:"),
        st.Page("versions.py", title="Versions", icon=":material/layers:"),
        st.Page("history.py", title="History and health", icon=":material/monitoring:"),
    ]
)


@st.fragment(run_every=5)
def state() -> None:
    """The live version and the number of new pictures; refreshed every five seconds."""
    try:
        status = api().status()
    except Unreachable as error:
        st.warning(offline_message(error), icon=":material/hourglass_top:")
        return
    except ApiError as error:
        st.error(escape_markdown(error.detail))
        return
    if status["model"] is None:
        st.warning(escape_markdown(status["detail"]), icon=":material/hourglass_top:")
        return
    st.success(f"Version {escape_markdown(status['model']['version'])} is live.", icon=":material/check_circle:")
    waiting = status["training_data"]["unprocessed"]
    if waiting:
        st.info(f"{waiting} new pictures, not learned yet", icon=":material/school:")


with st.sidebar:
    st.text_input(
        "API key",
        type="password",
        key="api_key",
        help="Needed to teach, and to see what was recorded, when the service has one.",
    )
    state()

page.run()
