"""Pages: templates filled, each one file that needs no other."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: object) -> str:
    """Fill a template of this package; a name that is not given is an error."""
    loader = PackageLoader("defectmill")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    style = loader.get_source(pages, "style.css")[0]
    return pages.get_template(template).render(style=style, **values)


def write_page(path: Path, page: str) -> Path:
    """Write a page; it stands under its name only when it is whole."""
    work = path.with_suffix(".html.part")
    work.write_text(page, encoding="utf-8")
    work.replace(path)
    return path
