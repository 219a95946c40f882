"""Self-contained HTML pages that share one style."""

import base64
import html
import math
from pathlib import Path
from typing import Any

import jinja2

from mmkeras.files import write_text

NONE = "–"  # shown for unknown values


def open_templates(folder: Path) -> jinja2.Environment:
    """Opens a folder of HTML templates; values are escaped and must not be missing."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(path: Path, template: str, **values: Any) -> None:
    """Renders a template of this folder to `path`, atomically."""
    environment = open_templates(Path(__file__).parent)
    environment.filters |= {"number": number, "percent": percent, "data_uri": data_uri}
    content = environment.get_template(template).render(dash=NONE, **values)
    write_text(path, content)


def number(value: float | None, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if is_finite(value) else NONE


def percent(value: float | None) -> str:
    return f"{100 * value:.1f} %" if is_finite(value) else NONE


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def embedded_page(path: Path, height_px: int = 600) -> str:
    """Returns a page as an <iframe>, whose style does not change that of a notebook."""
    page = html.escape(path.read_text(encoding="utf-8"))
    frame = f'<iframe srcdoc="{page}" width="100%" height="{height_px}"></iframe>'
    return f"<div>{frame}</div>"  # IPython warns of an <iframe> alone
