"""What a candidate store knows an index by."""

from __future__ import annotations

from .index_manifest import Manifest
from .store import fingerprint


def index_key(manifest: Manifest) -> str:
    """One string for everything that a ranking depends on: passages, analysis, weights and the library's formulas.

    Shards, back ends and the place where the index lies are not in it: they change no score, so an index that was built
    anew of the same passages finds its candidates again.
    """
    library = ".".join(manifest.bm25s.split(".")[:2])
    parts = {
        "passages": manifest.digest,
        "analysis": fingerprint(manifest.analysis.model_dump(mode="json"), manifest.probe),
        "k1": manifest.k1,
        "b": manifest.b,
        "lengths": manifest.lengths,
        "variant": manifest.variant,
        "bm25s": library,
    }
    return " ".join(f"{name}={value}" for name, value in parts.items())
