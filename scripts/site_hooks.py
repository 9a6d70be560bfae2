"""What the site adds to the pages of docs/: pages of the root, notebooks, and links that fit.

The same pages are read on GitHub, where links go by the repository's folders. A hook of MkDocs
(``mkdocs.yml``), which calls ``on_files``, ``on_page_markdown`` and ``on_post_page``.
"""

import json
import os
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "action.yml")
"""Files of the root that are part of the site, as pages or to be read as they are."""

LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
ASKED = re.compile(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=.?(?:https?:)?//[^>]*>")
"""What a browser would fetch from another server."""

FENCED = re.compile(r"(```.*?```)", re.DOTALL)


def place_in_site(path: str) -> str:
    """Say where a file of the repository lies in the site's sources.

    Example:
        >>> place_in_site("docs/notebooks/evaluate.ipynb"), place_in_site("LICENSE")
        ('notebooks/evaluate.md', 'LICENSE')
    """
    path = path.removeprefix("docs/")
    return path.removesuffix(".ipynb") + ".md" if path.endswith(".ipynb") else path


def relinked(text: str, source: str) -> str:
    """Turn the relative links of a page into links within the site.

    Args:
        text: Markdown.
        source: where the page lies in the repository, e.g. ``docs/ci.md``.

    Example:
        >>> relinked("[a](../action.yml) [b](data.md#x) [c](https://d.org)", "docs/ci.md")
        '[a](action.yml) [b](data.md#x) [c](https://d.org)'
        >>> relinked("[a](docs/extend/index.md)", "CONTRIBUTING.md")
        '[a](extend/index.md)'
    """

    def moved(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        if ":" in link:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        start = posixpath.dirname(place_in_site(source)) or "."
        return before + posixpath.relpath(place_in_site(target), start) + after

    parts = FENCED.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def notebook_page(path: Path) -> str:
    """Make a page of a notebook: its text, and its code in blocks."""
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = []
    for cell in cells:
        source = "".join(cell["source"])
        shown.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
    # As HTML, which MkDocs leaves as it is: a link would lead to this page.
    shown.insert(1, f'The notebook itself: <a href="{path.name}" download>{path.name}</a>')
    return "\n\n".join(shown) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """Add the files of the root and a page for each notebook."""
    from mkdocs.structure.files import File

    for name in BESIDE:
        files.append(File.generated(config, name, abs_src_path=os.fspath(ROOT / name)))
    for path in sorted((ROOT / "docs").rglob("*.ipynb")):
        place = path.relative_to(ROOT / "docs").as_posix()
        files.append(File.generated(config, place_in_site(place), content=notebook_page(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Give the links of a page the places that their targets have in the site."""
    uri = page.file.src_uri
    return relinked(markdown, uri if (ROOT / uri).is_file() else f"docs/{uri}")


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that would ask another server for anything."""
    found = ASKED.search(output)
    if found:
        raise ValueError(f"{page.file.src_uri} asks another server: {found[0]}")
    return output
