"""The chat page's files: nothing from elsewhere, no inline script or style, small; and the tests of its pure parts."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chat_page_server import TYPES, WEB

MAX_BYTES = 350_000
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML", "http://www.w3.org/1999/xhtml"}
TEXTS = sorted(path for path in WEB.rglob("*") if path.suffix in {".html", ".js", ".css", ".svg", ".json"})
VENDOR = {  # of the npm package temml 0.13.5, unchanged
    "temml.min.js": "1ab19148afe0dbc836b7a74f344071b3f3a70a7a8259ae4049e76894fcdf8d95",
    "Temml.woff2": "fc70501355ae6d38ff0b80f825af153557d5f2f474198d6b9b7dd2d3a291a0cc",
}
HERE = Path(__file__).parent


def outside(text: str) -> set[str]:
    """Addresses of other hosts, but for the names of namespaces and examples within Temml's own messages."""
    return {
        url for url in re.findall(r"(?:https?:)?//[a-z0-9-]+(?:\.[a-z0-9-]+)+[\w/.~-]*", text) if url not in NAMESPACES
    }


def test_nothing_from_elsewhere_is_named() -> None:
    assert len(TEXTS) > 15
    assert {str(path.relative_to(WEB)): found for path in TEXTS if (found := outside(path.read_text("utf-8")))} == {}
    assert outside('src="//cdn.example.org/x.js"') and outside("https://example.org")


def test_no_inline_script_style_or_handler() -> None:
    page = (WEB / "index.html").read_text("utf-8")
    assert "default-src 'self'" in page and "unsafe" not in page
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page) == []


def test_model_text_cannot_become_markup() -> None:
    """No sink of HTML is in the page's own code; require-trusted-types-for would refuse it too."""
    sinks = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
        r"|\beval\(|new Function\b"
    )
    own = [path for path in TEXTS if path.suffix == ".js" and path.parent == WEB]
    assert [path.name for path in own if sinks.search(path.read_text("utf-8"))] == []


def test_the_page_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in WEB.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < MAX_BYTES, sizes


def test_what_is_from_temml_is_unchanged() -> None:
    hashes = {name: hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() for name in VENDOR}
    assert hashes == VENDOR


def test_every_file_that_is_named_is_there() -> None:
    page = (WEB / "index.html").read_text("utf-8")
    names = re.findall(r'(?:src|href)="([^"#]+)"', page)
    names += [
        f"vendor/{name}" for name in re.findall(r"url\('([^')]+)'\)", (WEB / "vendor/temml.css").read_text("utf-8"))
    ]
    for path in WEB.glob("*.js"):
        names += re.findall(r'from "\./([\w.]+)"', path.read_text("utf-8"))
    assert len(names) > 30 and [name for name in names if not (WEB / name).is_file()] == []


def test_modules_are_short() -> None:
    own = {path.name: len(path.read_text("utf-8").splitlines()) for path in WEB.glob("*.js")}
    assert {name: lines for name, lines in own.items() if lines > 400} == {}


def test_the_server_gives_every_file_with_its_type_and_the_policy(server: Any) -> None:
    for path in [*TEXTS, *WEB.glob("vendor/*.woff2")]:
        told = httpx2.get(f"{server.url}/{path.relative_to(WEB)}")
        assert told.content == path.read_bytes() and told.headers["content-type"] == TYPES[path.suffix]
        assert told.headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in told.headers["content-security-policy"]
    assert httpx2.get(server.url).content == (WEB / "index.html").read_bytes()


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js here")
@pytest.mark.parametrize("file", sorted((HERE / "web").glob("*.test.mjs")), ids=lambda path: path.name.split(".")[0])
def test_in_node(file: Path) -> None:
    """The parsers, the tree of messages and the texts."""
    told = subprocess.run(["node", "--test", "--test-reporter=spec", file], capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-2000:]
