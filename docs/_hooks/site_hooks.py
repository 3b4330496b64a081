"""What MkDocs calls: the site has the layout of the repository, the reference is written, nothing comes from elsewhere.

A page lies on the site where its file lies here, README.md on top. So a link between them that works in the repository
works on the site, MkDocs checks it, and no text is there twice.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path

from fusionkit_site.commands import commands_page
from fusionkit_site.components import PAGES, component_page, switch_off_plugins_of_others
from fusionkit_site.offline import loaded_from_elsewhere
from fusionkit_site.python import python_page, suites_page
from fusionkit_site.recipe import recipe_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from fusionkit.registry import load_registry

log = logging.getLogger("mkdocs.hooks")

ON_TOP = ("README.md", "README.zh-CN.md", "DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Pages that lie beside docs/."""
_NAMED = re.compile(r"^<!-- file: (\S+) -->\n(```\w+)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    docs = Path(config.docs_dir).relative_to(root)
    own = partial(File, src_dir=str(root), dest_dir=config.site_dir, use_directory_urls=config.use_directory_urls)
    moved = [own(str(docs / file.src_uri)) if file.src_dir == config.docs_dir else file for file in files]
    on_top = [own(page) for page in ON_TOP]
    written = [
        File.generated(config, str(docs / "reference" / f"{name}.md"), content=text)
        for name, text in reference().items()
    ]
    return Files([*moved, *on_top, *written])


def reference() -> dict[str, str]:
    """The pages of the reference by name, as Markdown."""
    switch_off_plugins_of_others()
    registry = load_registry()
    if broken := [f"{plugin.name}: {plugin.reason}" for plugin in registry.plugins if plugin.status == "broken"]:
        raise PluginError(f"broken plugins of fusionkit: {'; '.join(broken)}")
    return {
        "recipe": recipe_page(),
        "commands": commands_page(),
        **{name: component_page(kind, registry) for kind, (name, _) in PAGES.items()},
        "python": python_page(),
        "testing": suites_page(),
    }


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A block of code that tests read as a file, under the name that a comment gives it, shows the name."""
    return _NAMED.sub(r'\2 title="\1"', markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    for address in loaded_from_elsewhere(output):
        log.warning("%s loads %s: the site has to work offline", page.file.src_uri, address)
    return output
