"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def data_dir() -> Path:
    """The folder with the real question sets; tests that need it are skipped where KARD_DATA does not name one."""
    folder = os.environ.get("KARD_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("KARD_DATA names no folder with the real question sets")
    return Path(folder)
