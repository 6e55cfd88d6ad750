"""What the site adds to the written pages: pages generated from the code, links to them, and formulas."""

from __future__ import annotations

from typing import Any

import api_pages
import commands_page
import links
import mathematics
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url


def on_files(files: Files, *, config: Any) -> Files:
    generated = {"cli.md": commands_page.page(), "api/index.md": api_pages.index()}
    generated |= {f"api/{name}.md": text for name, text in api_pages.pages().items()}
    for name, text in generated.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_content(content: str, *, page: Any, **_: Any) -> str:
    dotted = [name for name in api_pages.exported() if "." in name]  # `aria` alone is the command
    places = {name: get_relative_url(f"api/{name}.html", page.url) for name in dotted}
    return mathematics.with_formulas(links.with_links(content, places))
