"""The web page at `/`: the files of web/, read once and served under their own names alone."""

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from open_exaone.serve.asgi import Send

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
}
# Nothing from elsewhere is loaded, run or asked. The page states the same, and that no text may become markup.
_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@cache
def _files() -> dict[str, bytes]:
    """Every file of the page, by its path."""
    root = resources.files("open_exaone.serve").joinpath("web")
    files = dict(_walk(root, "/")) if root.is_dir() else {}
    return {**files, **({"/": files["/index.html"]} if "/index.html" in files else {})}


def _walk(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{path}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _TYPES:
            found.append((path + entry.name, entry.read_bytes()))
    return found


async def send_page(method: str, path: str, send: Send) -> bool:
    """Sends the file of a path; False where there is none."""
    body = _files().get(path) if method in ("GET", "HEAD") else None
    if body is None:
        return False
    kind = _TYPES["html" if path == "/" else path.rpartition(".")[2]]
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"content-security-policy", _POLICY.encode()),
        (b"cache-control", b"no-cache"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
    return True
