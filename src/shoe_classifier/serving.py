"""Runs the app under uvicorn."""

import sys
from types import FrameType

import uvicorn

from shoe_classifier.errors import ConfigurationError
from shoe_classifier.main import create_app
from shoe_classifier.settings import Settings


class _Server(uvicorn.Server):
    """Tells the app of SIGTERM at once: streams end, and a retrain stops, while requests finish."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        app.state.service.stopping = True  # type: ignore[union-attr]
        app.state.service.retrainer.request_stop()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; exits with a message when the settings do not allow to start."""
    try:
        app = create_app(settings)
    except ConfigurationError as error:
        sys.exit(str(error))
    everywhere = ("127.0.0.1", "0.0.0.0")  # noqa: S104 - compared with, not bound
    shown = "localhost" if settings.host in everywhere else settings.host
    print(f"Open http://{shown}:{settings.port}/docs to try it.", flush=True)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        proxy_headers=False,  # a forged X-Forwarded-For must not turn a stranger into this machine
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    _Server(config).run()
