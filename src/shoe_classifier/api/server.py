"""Runs the app under uvicorn."""

import sys
from types import FrameType

import uvicorn
from uvicorn.supervisors import multiprocess

from shoe_classifier.api.http_protocol import Connection
from shoe_classifier.api.lifespan import clear_uploads
from shoe_classifier.errors import ConfigurationError
from shoe_classifier.main import create_app
from shoe_classifier.settings import Settings


class _Server(uvicorn.Server):
    """Tells the app of SIGTERM at once: streams end, and a retrain stops, while requests finish."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        service = self.config.loaded_app.state.service
        service.stopping = True
        service.retrainer.request_stop()
        super().handle_exit(sig, frame)


class _Worker(multiprocess.Process):
    """One of several processes on the same socket."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = _Server(self.config)
        return self._server


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; exits with a message when the settings do not allow to start."""
    try:
        app = create_app(settings)
    except ConfigurationError as error:
        sys.exit(str(error))
    everywhere = ("127.0.0.1", "0.0.0.0")  # noqa: S104 - compared with, not bound
    shown = "localhost" if settings.host in everywhere else settings.host
    print(f"Open http://{shown}:{settings.port}/docs to try it.", flush=True)
    workers = settings.uvicorn_workers
    config = uvicorn.Config(
        app if workers == 1 else "shoe_classifier.main:create_app",
        factory=workers > 1,
        workers=workers,
        host=settings.host,
        port=settings.port,
        http=Connection,
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        proxy_headers=False,  # a forged X-Forwarded-For must not turn a stranger into this machine
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    if workers == 1:
        _Server(config).run()
        return
    app.state.service.store.close()  # it was only built to see that the settings are right
    clear_uploads(settings)
    multiprocess.Process = _Worker  # type: ignore[misc] # uvicorn has no other way to give workers our server
    multiprocess.Multiprocess(config, [config.bind_socket()]).run()
