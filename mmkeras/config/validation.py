"""How settings say that a value is not possible."""

from typing import Any, Literal

from mmkeras.errors import UserError

SHARE = "from 0 to below 1"
# How tokens become one vector.
Pooling = Literal["mean", "max", "last", "attention"]


def check(ok: bool, name: str, value: Any, allowed: str) -> None:
    """Refuses a value.

    Raises:
        UserError: One line, unless `ok`.
    """
    if not ok:
        raise UserError(f"{name}={value} is not possible: it must be {allowed}.")
