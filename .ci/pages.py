"""What the site takes from outside of docs/, and where links out of it lead."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).resolve().parents[1]

TAKEN = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the checkout that are pages of the site."""

_OUTSIDE = re.compile(
    r'<(?:script|img|iframe|link(?! rel="(?:canonical|prev|next)"))[^>]*'
    r' (?:src|href)="(?:https?:)?//[^>]*'
)
_LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere in the checkout."""
    for source, page in TAKEN.items():
        text = (CHECKOUT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_more: object) -> str:
    """Let links say where a page is in the site, and not where it is in the checkout."""
    return _LINK.sub(_in_site, markdown)


def on_post_page(output: str, **_more: object) -> str:
    """Refuse a page that has its reader's browser ask anybody else.

    Raises:
        PluginError: it would.
    """
    outside = _OUTSIDE.search(output)
    if outside is not None:
        raise PluginError(f"a page would ask others: {outside[0]}")
    return output


def _in_site(found: re.Match[str]) -> str:
    path = found["target"].removeprefix("../").removeprefix("docs/")
    if path == "LICENSE":
        return "]"
    return f"]({TAKEN.get(path, path)}{found['anchor'] or ''})"
