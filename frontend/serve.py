"""Starts the page: `python serve.py`, with the options of `streamlit run`."""

import sys
from importlib import import_module
from threading import Thread

from streamlit.web.cli import main

_SLOW = ("pandas", "altair")  # for two seconds, which the first visitor would wait


def _load() -> None:
    """Import what is slow to import, while the server starts."""
    for name in _SLOW:
        import_module(name)


if __name__ == "__main__":
    Thread(target=_load, daemon=True).start()
    sys.argv[1:1] = ["run", "app.py"]
    main()
