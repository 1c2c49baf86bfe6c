"""A TOML file that the user may have edited, read with one clear line for what is wrong with it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from .errors import KardError


def read_toml(path: Path) -> dict[str, Any]:
    """What the file holds; a KardError names the file where it cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KardError(f"{path}: not TOML ({error})") from None
    except OSError as error:
        raise KardError(f"{path}: cannot be read ({error.strerror or error})") from None
