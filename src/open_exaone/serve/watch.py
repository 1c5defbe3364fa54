"""A few pages for this machine alone, each at its own path: how `exaone watch` shows a run. Read-only.

The pages' paths are fixed: no file is found by what a request names.
"""

import asyncio
import contextlib
import hashlib
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from urllib.parse import parse_qs, urlsplit

import uvicorn

from open_exaone.serve.app import LOOPBACK
from open_exaone.serve.asgi import Receive, Scope, Send

logger = logging.getLogger("open_exaone.serve")
Page = Callable[[Mapping[str, list[str]]], bytes | None]  # of the query's values; None where there is no such page now
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
MAX_QUERY_BYTES = 200
KINDS = {".js": b"text/javascript; charset=utf-8"}  # by the end of a page's path; all others are HTML


class Pages:
    """The application (ASGI).

    Args:
        pages: by path, such as "/"; looked up anew for each request.
    """

    def __init__(self, pages: Callable[[], Mapping[str, Page]]) -> None:
        self._pages = pages
        self._turn = asyncio.Lock()  # one page at a time is read and drawn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, kind, body = await self._answer(scope)
        tag = hashlib.sha256(body).hexdigest()[:32].encode()
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"etag", b'"%s"' % tag)]
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *HEADERS]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope) -> tuple[int, bytes, bytes]:
        plain, host = b"text/plain; charset=utf-8", dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if not is_local(host):
            return 403, plain, b"This page is for this machine: open it as http://127.0.0.1 with the port.\n"
        query = scope["query_string"][:MAX_QUERY_BYTES].decode("latin-1")
        try:
            async with self._turn:
                page = (await asyncio.to_thread(self._pages)).get(scope["path"])
                if page is None:
                    return 404, plain, b"There is no such page.\n"
                if scope["method"] not in ("GET", "HEAD"):
                    return 405, plain, b"This page can only be read.\n"
                body = await asyncio.to_thread(page, parse_qs(query))
        except Exception:  # a border: the run goes on, and so does the page
            logger.exception("the page cannot be made")
            return 500, plain, b"The page cannot be made; see what the command prints.\n"
        if body is None:
            return 404, plain, b"There is no such page yet.\n"
        return 200, KINDS.get(PurePosixPath(scope["path"]).suffix, b"text/html; charset=utf-8"), body


def is_local(host: str) -> bool:
    """Whether a request's Host header names this machine: a page elsewhere whose name was pointed here has another."""
    try:
        return (urlsplit(f"//{host}").hostname or "") in LOOPBACK
    except ValueError:
        return False


def serve_pages(pages: Callable[[], Mapping[str, Page]], listener: socket.socket) -> None:
    """Answers until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        Pages(pages),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http="h11",
        limit_concurrency=64,
        timeout_graceful_shutdown=5,
    )
    with contextlib.suppress(KeyboardInterrupt):  # the usual end
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
