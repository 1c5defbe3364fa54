"""What becomes of a page before Sphinx reads it: the index gets its contents, links out of docs/ are replaced."""

import os
import re
from pathlib import Path, PurePosixPath

DOCS = Path(__file__).parents[1]
REPOSITORY = os.environ.get("DOCS_REPOSITORY", "").rstrip("/")  # such as https://github.com/OWNER/NAME/blob/main
LINK = re.compile(r"(?<!!)\[((?:[^\[\]\n]|\n(?!\n))+)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^\1?\2[`~]* *$|^ *<!--.*?-->$", re.MULTILINE | re.DOTALL)


def read(app, page: str, content: list[str]) -> None:
    """Sphinx's `source-read`: changes `content[0]`, the text of docs/PAGE.md."""
    content[0] = outside_links_replaced(page, content[0])
    if page == "index":
        content[0] += contents(content[0])


def contents(index: str) -> str:
    """The contents at the side of each page: a caption for each heading of the index, with the pages below it."""
    sections = re.split(r"^## (.+)$", index, flags=re.MULTILINE)
    parts = []
    for caption, text in zip(sections[1::2], sections[2::2], strict=True):
        entries = [f"{title} <{target.removesuffix('.md')}>" for title, target in LINK.findall(text) if is_page(target)]
        if entries:
            options = f":hidden:\n:caption: {caption}\n"
            parts.append("\n\n```{toctree}\n" + options + "\n" + "\n".join(dict.fromkeys(entries)) + "\n```")
    return "".join(parts) + "\n"


def is_page(target: str) -> bool:
    """Whether a link of the index leads to a page of docs/, and to its beginning."""
    return target.endswith(".md") and "://" not in target and not target.startswith("..")


def outside_links_replaced(page: str, text: str) -> str:
    """Links to files outside docs/ lead to the repository if DOCS_REPOSITORY names it, and else become the file's path.

    Code blocks stay as they are.
    """

    def replaced(found: re.Match[str]) -> str:
        title, target = found[1], found[2]
        if "://" in target or target.startswith(("#", "mailto:")):
            return found[0]
        path = os.path.normpath(PurePosixPath("docs", page).parent / target.partition("#")[0])
        if path.startswith("docs/"):
            return found[0]
        if REPOSITORY:
            return f"[{title}]({REPOSITORY}/{path})"
        return f"`{path}`" if title.strip("`").removeprefix("../") in (path, target) else f"{title} (`{path}`)"

    pieces, end = [], 0
    for fence in FENCE.finditer(text):
        pieces += [LINK.sub(replaced, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join(pieces) + LINK.sub(replaced, text[end:])
