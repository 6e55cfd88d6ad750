"""What the site adds to the pages at hand: those written from the code, and formulas that browsers can show."""

from __future__ import annotations

from typing import Any

import api_pages
import commands_page
import mathematics
from mkdocs.structure.files import File, Files


def on_files(files: Files, *, config: Any) -> Files:
    made = {"cli.md": commands_page.page()}
    made |= {f"api/{name}.md": text for name, text in api_pages.pages().items()}
    listed = "\n".join(f"- [`{name}`]({name}.md)" for name in api_pages.pages())
    made["api/index.md"] = f"# Programming interface\n\nEverything that is exported, by package.\n\n{listed}\n"
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_content(content: str, **_: Any) -> str:
    return mathematics.with_formulas(content)
