"""Runs the app under uvicorn."""

import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import multiprocess

from shoe_classifier.api.dependencies import Service
from shoe_classifier.api.http_protocol import Connection
from shoe_classifier.api.lifespan import clear_uploads
from shoe_classifier.errors import ConfigurationError
from shoe_classifier.settings import Settings


class _Server(uvicorn.Server):
    """Passes SIGTERM to the app at once: streams end and a retrain stops while requests finish."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        service: Service = self.config.loaded_app.state.service
        service.stopping.set()
        service.retrainer.request_stop()
        super().handle_exit(sig, frame)


class _Worker(multiprocess.Process):
    """One of several processes on the same socket."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = _Server(self.config)
        return self._server


def serve(settings: Settings, create_app: Callable[[Settings], FastAPI]) -> None:
    """Serve until SIGTERM or SIGINT; exits with a message when the settings do not allow it to start.

    Args:
        create_app: a function at the top of its module. Workers are new processes, which import it by its name and
            call it without arguments, so that they read the settings themselves.
    """
    try:
        app = create_app(settings)
    except ConfigurationError as error:
        sys.exit(str(error))
    print(f"Open http://{_shown_host(settings)}:{settings.port}/docs to try it.", flush=True)
    if settings.uvicorn_workers == 1:
        _Server(_config(settings, app)).run()
        return
    app.state.service.store.close()  # the app was only built to check the settings
    clear_uploads(settings)
    config = _config(settings, f"{create_app.__module__}:{create_app.__qualname__}")
    multiprocess.Process = _Worker  # type: ignore[misc] # uvicorn has no other way to give workers our server
    multiprocess.Multiprocess(config, [config.bind_socket()]).run()


def _shown_host(settings: Settings) -> str:
    everywhere = ("127.0.0.1", "0.0.0.0")  # noqa: S104 - compared with, not bound
    if settings.host in everywhere:
        return "localhost"
    return f"[{settings.host}]" if ":" in settings.host else settings.host


def _config(settings: Settings, app: FastAPI | str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=settings.uvicorn_workers,
        host=settings.host,
        port=settings.port,
        http=Connection,
        loop="asyncio",  # uvloop accepts one connection in each round, so that new ones wait long in a crowd
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        proxy_headers=False,  # a forged X-Forwarded-For must not make a remote client look like this machine
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
