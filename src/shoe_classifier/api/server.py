"""Runs the app under uvicorn."""

import asyncio
import contextlib
import gc
import logging.config
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import multiprocess

from shoe_classifier.api.acceptor import Acceptor
from shoe_classifier.api.dependencies import Service
from shoe_classifier.api.http_protocol import Connection
from shoe_classifier.api.logs import log_config
from shoe_classifier.errors import ConfigurationError
from shoe_classifier.files import FOLDER_PREFIX
from shoe_classifier.settings import Settings
from shoe_classifier.storage.file_lock import folder_lock

logger = logging.getLogger(__name__)


_WAITING = 2048  # connections, in the queue of the system
_SETTLED_SECONDS = 10.0  # after which the start has imported and loaded what stays


class _Server(uvicorn.Server):
    """Passes SIGTERM to the app at once: streams end and a retrain stops while requests finish."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self._acceptors = [self._acceptor(listening) for listening in sockets or ()]
        # To search for garbage in what stays would hold up all requests for up to 0.1 s, again and again.
        asyncio.get_running_loop().call_later(_SETTLED_SECONDS, gc.freeze)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)

    def _acceptor(self, listening: socket.socket) -> Acceptor:
        protocol = partial(
            Connection, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        most, count_refusal = self._service.settings.max_connections, self._service.metrics.count_refusal
        return Acceptor(listening, protocol, self.server_state.connections, most, count_refusal)

    @property
    def _service(self) -> Service:
        service: Service = self.config.loaded_app.state.service
        return service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.stopping.set()
        self._service.retrainer.request_stop()
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
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is no reason to stop
    logging.config.dictConfig(log_config(settings))
    with _listen(settings) as listener, _own_folders(settings):
        try:
            app = create_app(settings)
        except ConfigurationError as error:
            sys.exit(str(error))
        _invite(settings, listener)
        if settings.uvicorn_workers == 1:
            _Server(_config(settings, app)).run([listener])
        else:
            app.state.service.store.close()  # the app was only built to check the settings
            _serve_with_workers(_config(settings, f"{create_app.__module__}:{create_app.__qualname__}"), listener)


def _listen(settings: Settings) -> socket.socket:
    """Take the port before anything else happens. Connections wait until the app serves."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_WAITING)
    except OSError as error:
        sys.exit(
            f"Expected to listen on {settings.host}, port {settings.port}; received: {error.strerror}."
            " Stop the program that uses it, or set another HOST or PORT."
        )
    # Inherited by each connection. asyncio sets it only on sockets whose protocol was named; without it, the body of an
    # answer waits up to 40 ms for the client to acknowledge its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextlib.contextmanager
def _own_folders(settings: Settings) -> Iterator[None]:
    """Keep other services away from the folders of this one, and clear what a killed service left there."""
    with contextlib.ExitStack() as locks:
        try:
            for folder in {settings.dataset_dir.resolve(), settings.temp_uploads_dir.resolve()}:
                if not locks.enter_context(folder_lock(folder)):
                    sys.exit(
                        f"Expected {folder} for this service alone; another one uses it. Stop that one, set other"
                        " folders (DATASET_DIR, TEMP_UPLOADS_DIR), or serve with several UVICORN_WORKERS."
                    )
            clear_uploads(settings)
        except OSError as error:  # it serves all the same, and says where the folder is needed what to do
            logger.warning("The folders of the service are not locked, and nothing is cleared there: %s", error)
        yield


def clear_uploads(settings: Settings) -> None:
    """Remove the folders that a killed process left."""
    for folder in settings.temp_uploads_dir.glob(f"{FOLDER_PREFIX}*/"):
        shutil.rmtree(folder, ignore_errors=True)


def _serve_with_workers(config: uvicorn.Config, listener: socket.socket) -> None:
    multiprocess.Process = _Worker  # type: ignore[misc] # uvicorn has no other way to give workers our server
    supervisor = multiprocess.Multiprocess(config, [listener])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor has replaced it; the workers inherit it
    supervisor.run()


def _invite(settings: Settings, listener: socket.socket) -> None:
    invitation = f"Open http://{_shown_host(settings)}:{listener.getsockname()[1]}/docs to try it."
    if settings.log_format == "json":
        logger.info("%s", invitation)
    else:
        print(invitation, flush=True)


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
        log_config=log_config(settings),
        loop="asyncio",  # uvloop accepts one connection in each round, so that new ones wait long in a crowd
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        proxy_headers=False,  # a forged X-Forwarded-For must not make a remote client look like this machine
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
