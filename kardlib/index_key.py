"""What stands for an index in a candidate store."""

from __future__ import annotations

from .index_manifest import Manifest
from .store import fingerprint


def index_key(manifest: Manifest) -> str:
    """Hash of all that the scores of an index depend on; how it is cut into shards does not count."""
    return fingerprint(manifest.model_dump(mode="json", exclude={"vocabulary", "shards"}))
