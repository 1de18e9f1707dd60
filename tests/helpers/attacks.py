"""Six attacks by clients without a key, each as a coroutine that goes on until it is cancelled."""

import asyncio
import contextlib
import struct
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

from PIL import Image

from helpers.pictures import draw, encode

_HEAD = "{} HTTP/1.1\r\nHost: localhost:{}\r\n"
_FILE = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
_END = b"\r\n--edge--\r\n"

Attack = Callable[[int], Coroutine[None, None, None]]


def form(data: bytes, label: str | None = None) -> bytes:
    field = f'--edge\r\nContent-Disposition: form-data; name="label"\r\n\r\n{label}\r\n'.encode() if label else b""
    return field + _FILE + data + _END


def post(port: int, path: str, body: bytes, announced: int | None = None) -> bytes:
    """A request with a form; `announced` may be more than it holds."""
    head = _HEAD.format(f"POST {path}", port) + "Content-Type: multipart/form-data; boundary=edge\r\n"
    return f"{head}Content-Length: {announced or len(body)}\r\n\r\n".encode() + body


async def exchange(port: int, request: bytes) -> bytes:
    """Send a request on a connection of its own; returns what is answered, empty if the connection was reset."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return head + await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError, StopIteration):
        return b""
    finally:
        if writer:
            writer.close()


async def _repeat(clients: int, step: Callable[[], Awaitable[object]]) -> None:
    async def client() -> None:
        while True:
            with contextlib.suppress(OSError):
                await step()
            await asyncio.sleep(0.01)

    await asyncio.gather(*[client() for _ in range(clients)])


async def endless_trailers(port: int) -> None:
    """Headers after the last chunk of a body, without end."""

    async def step() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_HEAD.format("GET /health", port).encode() + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
            while True:
                writer.write(b"A: b\r\n" * 4000)
                await writer.drain()
        finally:
            writer.close()

    await _repeat(4, step)


async def scan_bomb(port: int) -> None:
    """A progressive JPEG of 49 megapixels and thousands of scans."""
    data = encode(Image.new("L", (7000, 7000), 90), progressive=True)
    scan = data.rindex(b"\xff\xda")
    request = post(port, "/predict", form(data[:-2] + data[scan:-2] * 5000 + data[-2:]))
    await _repeat(4, lambda: exchange(port, request))


async def large_pictures(port: int) -> None:
    """Uploads and explanations of pictures that are small as files and take what a host of 512 MB allows, or more."""
    bombs = [
        encode(Image.new("RGBA", (7000, 7000), (9, 9, 9, 100)), "WEBP", lossless=True, quality=0, method=0),
        encode(Image.new("RGBA", (4200, 4200), (9, 9, 9, 100)), "WEBP", lossless=True, quality=0, method=0),
        encode(Image.new("RGBA", (7000, 7000), (9, 9, 9, 100)), "PNG", compress_level=1),
    ]
    uploads = [post(port, "/upload", form(data, "hat")) for data in bombs]
    explanations = [post(port, "/explain", form(data)) for data in bombs]
    await asyncio.gather(*[_repeat(6, partial(exchange, port, request)) for request in uploads + explanations])


async def slow_clients(port: int) -> None:
    """A thousand bodies of a byte a second, and a hundred answers that nobody reads."""
    request = post(port, "/predict", _FILE, announced=100_000)
    docs = _HEAD.format("GET /openapi.json", port).encode() + b"\r\n"

    async def trickle() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(1)
        finally:
            writer.close()

    async def ignore() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        try:
            while True:
                writer.write(docs)
                await writer.drain()
                await asyncio.sleep(1)
        finally:
            writer.close()

    await asyncio.gather(_repeat(1000, trickle), _repeat(100, ignore))


async def unfinished_bodies(port: int) -> None:
    """A hundred pictures of 14 MB and four ZIPs of 300 MB that never end, and ZIPs that hide most of their entries."""
    picture = post(port, "/predict", _FILE + bytes(14_000_000), announced=15_000_000)
    block = bytes(1 << 20)

    async def hold(request: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            await writer.drain()
            await asyncio.sleep(30)
        finally:
            writer.close()

    async def fill() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(post(port, "/predict/batch", _FILE + b"PK", announced=400_000_000))
            for _ in range(300):
                writer.write(block)
                await writer.drain()
            await asyncio.sleep(30)
        finally:
            writer.close()

    liar = post(port, "/predict/batch", form(hidden_entries(300_000)))
    await asyncio.gather(
        _repeat(100, lambda: hold(picture)), _repeat(4, fill), _repeat(2, lambda: exchange(port, liar))
    )


def hidden_entries(count: int) -> bytes:
    """A ZIP whose end record counts one entry, and whose directory has `count`."""
    entry = b"PK\1\2" + struct.pack("<6H3L5H2L", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * count
    start = b"PK\3\4" + bytes(26)
    return start + directory + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, len(directory), len(start), 0)


async def crowd(port: int) -> None:
    """Five hundred clients that predict without a pause."""
    request = post(port, "/predict", form(draw("Boot", 1, (640, 480))))
    await _repeat(500, lambda: exchange(port, request))


ATTACKS: tuple[Attack, ...] = (
    endless_trailers, scan_bomb, large_pictures, slow_clients, unfinished_bodies, crowd,
)  # fmt: skip


async def attack(port: int, seconds: float, names: list[str]) -> None:
    """Run attacks at the same time, all unless named."""
    running = [asyncio.create_task(one(port)) for one in ATTACKS if not names or one.__name__ in names]
    await asyncio.sleep(0)  # they begin by drawing their pictures
    await asyncio.sleep(seconds)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


if __name__ == "__main__":  # a process of its own, so that it does not slow the one that measures
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    asyncio.run(attack(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
