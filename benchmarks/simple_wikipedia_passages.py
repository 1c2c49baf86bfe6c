"""Is the passage rule right, and what does cutting cost? Simple Wikipedia against the hash of its 313,606 passages.

    python benchmarks/simple_wikipedia_passages.py OUT     # KARD_DATA names the folder with the real data

OUT becomes the knowledge base. One JSON line is printed: count, hash, seconds, peak memory, bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from pathlib import Path

from kardlib.documents import read_documents
from kardlib.knowledge_base import KnowledgeBase
from kardlib.knowledge_base_builders import Origin, build_from_documents
from kardlib.passage_rules import WINDOWS


def main(data: Path, out: Path) -> int:
    """Build and compare; 0 where count and hash are those of the measured index."""
    told = json.loads((data / "lucene_parity.json").read_text(encoding="utf-8"))
    source = data / "wikipedia_simple" / "articles.jsonl.gz"
    start = time.perf_counter()
    origin = Origin(name="simple-wikipedia", source="Simple English Wikipedia, December 2021", licence="CC BY-SA 3.0")
    base = build_from_documents(out, read_documents(source), WINDOWS, origin, replace=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "count": len(base),
        "sha256": _hash_of_texts(base),
        "seconds": round(seconds, 1),
        "peak_mb": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1),
        "disk_mb": round(sum(base.manifest.files.values()) / 1e6, 1),
    }
    right = (told["n_passages"], told["sha256_of_passages_joined_by_newline"]) == (found["count"], found["sha256"])
    print(json.dumps({**found, "as_measured": right}))
    return 0 if right else 1


def _hash_of_texts(base: KnowledgeBase) -> str:
    digest = hashlib.sha256()
    for place, passage in enumerate(base):
        digest.update(("\n" if place else "").encode() + passage.text.encode())
    return digest.hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not os.environ.get("KARD_DATA"):
        raise SystemExit(__doc__)
    raise SystemExit(main(Path(os.environ["KARD_DATA"]), Path(sys.argv[1])))
