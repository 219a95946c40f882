"""Pages of one HTML file each that need nothing beside them, in one look."""

import base64
import math
import os
from pathlib import Path
from typing import Any

import jinja2

NONE = "–"  # shown for what is unknown


def open_templates(folder: Path) -> jinja2.Environment:
    """Opens a folder of HTML templates: what is filled in is escaped, and must be."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(path: Path, template: str, **values: Any) -> None:
    """Renders a template of this folder, aside first and then in one step to `path`."""
    environment = open_templates(Path(__file__).parent)
    environment.filters |= {"number": number, "percent": percent, "data_uri": data_uri}
    content = environment.get_template(template).render(dash=NONE, **values)
    aside = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    try:
        aside.write_text(content, encoding="utf-8", errors="replace")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def number(value: float | None, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if is_finite(value) else NONE


def percent(value: float | None) -> str:
    return f"{100 * value:.1f} %" if is_finite(value) else NONE


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
