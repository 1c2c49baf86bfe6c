"""An index is whole or absent, is opened only as what it is, and costs what was said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from index_corpora import corpus

from kardlib import index_manifest
from kardlib.analysis import PLAIN, Analysis
from kardlib.errors import KardError
from kardlib.index import Index
from kardlib.index_build import build_index
from kardlib.index_estimate import estimate_index
from kardlib.index_manifest import LENGTHS, read_manifest
from kardlib.passage_source import PassageList
from kardlib.records import Passage

PASSAGES = corpus(1, 240)
SOURCE = PassageList(PASSAGES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A built index of four shards."""
    build_index(SOURCE, tmp_path / "index", shard_passages=64, workers=0, progress=False)
    return tmp_path / "index"


def test_processes_do_not_matter(tmp_path: Path) -> None:
    """Two processes or none write the same bytes, also with an analyser that has been used before."""
    PLAIN.terms("a stemmer in use")
    one = build_index(SOURCE, tmp_path / "one", shard_passages=50, workers=0, progress=False)
    two = build_index(SOURCE, tmp_path / "two", shard_passages=50, workers=2, progress=False)
    assert one == two
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        [file.name for file in one.files] + ["manifest.json"]
    )


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"analysis": Analysis(stemmer="none")}, "its analysis has stemmer = 'porter', not 'none'"),
        ({"analysis": Analysis(stop_words=())}, "its analysis has stop_words"),
        ({"k1": 1.2}, "built with k1 = 0.9, not 1.2"),
        ({"b": 0.75}, "built with b = 0.4, not 0.75"),
        ({"lengths": "lucene"}, "built with lengths = exact, not lucene"),
    ],
)
def test_opened_with_another_setting(folder: Path, asked: dict, line: str) -> None:
    """What differs is named with both values; what is equal is let through."""
    Index.open(folder, SOURCE, analysis=PLAIN, k1=0.9, b=0.4, lengths="exact")
    with pytest.raises(KardError, match=line):
        Index.open(folder, SOURCE, **asked)


def test_opened_with_other_passages(folder: Path) -> None:
    """A passage more, or one other word, is another knowledge base."""
    more = PassageList([*PASSAGES, Passage(id="zz", text="one more")])
    with pytest.raises(KardError, match="holds 240 passages, the source has 241"):
        Index.open(folder, more)
    changed = PassageList([PASSAGES[0].model_copy(update={"text": "another"}), *PASSAGES[1:]])
    with pytest.raises(KardError, match="texts or ids differ"):
        Index.open(folder, changed)


def test_opened_after_damage(folder: Path) -> None:
    """A shard that is cut short, changed or gone is named."""
    shard = folder / read_manifest(folder).shards[2].file.name
    held = shard.read_bytes()
    for damage, line in (
        (held[:-4], "bytes instead of"),
        (held[:-4] + b"abcd", "has been changed"),
        (None, "cannot be"),
    ):
        shard.unlink(missing_ok=True)
        if damage is not None:
            shard.write_bytes(damage)
        with pytest.raises(KardError, match=rf"{shard.name}.*{line}"):
            Index.open(folder, SOURCE)


def test_opened_by_another_kit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another format, another bm25s, or an analyser that works otherwise under the same settings is refused."""
    monkeypatch.setattr(index_manifest, "library_version", lambda: "9.1.0")
    with pytest.raises(KardError, match=r"built with bm25s .*; 9\.1\.0 is installed"):
        Index.open(folder, SOURCE)
    monkeypatch.undo()
    monkeypatch.setattr(Analysis, "term", lambda self, word: word[:3])
    with pytest.raises(KardError, match="otherwise than when it was built"):
        Index.open(folder, SOURCE)
    monkeypatch.undo()
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(KardError, match="its format is 99"):
        Index.open(folder, SOURCE)
    path.write_text("{")
    with pytest.raises(KardError, match="cannot be read"):
        Index.open(folder, SOURCE)
    with pytest.raises(KardError, match="there is none"):
        Index.open(folder.parent, SOURCE)


class _Lying(PassageList):
    """Passages that are not what their digest says, or not in order."""

    def __init__(self, passages: list[Passage], digest: str) -> None:
        self._passages, self.digest = passages, digest


def test_what_cannot_be_built(tmp_path: Path) -> None:
    """Each reason has a line, and nothing is left behind."""
    cases = [
        (_Lying([], ""), {}, "the knowledge base is empty"),
        (PassageList([Passage(id="1", text="the !")]), {}, "not one word to be found by"),
        (_Lying(PASSAGES, "0" * 64), {}, "have they been changed"),
        (_Lying(PASSAGES[::-1], SOURCE.digest), {}, "an index is built of sorted passages"),
        (SOURCE, {"lengths": "short"}, "lengths = short: known are exact"),
        (SOURCE, {"b": 2}, "b = 2"),
    ]
    for source, settings, line in cases:
        with pytest.raises(KardError, match=line):
            build_index(source, tmp_path / "index", workers=0, progress=False, **settings)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(KardError, match="something else is there"):
        build_index(SOURCE, tmp_path / "mine", progress=False)


def test_lengths_are_looked_up_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered length function is what the scores are made with; the mean stays that of the exact lengths."""
    monkeypatch.setitem(LENGTHS, "even", lambda lengths: lengths // 2 * 2)
    exact = build_index(SOURCE, tmp_path / "a", workers=0, progress=False)
    even = build_index(SOURCE, tmp_path / "b", lengths="even", workers=0, progress=False)
    assert exact.mean_length == even.mean_length
    one, other = Index.open(tmp_path / "a", SOURCE).scores("w1"), Index.open(tmp_path / "b", SOURCE).scores("w1")
    odd = np.array([len(PLAIN.terms(passage.text)) % 2 for passage in PASSAGES], dtype=bool)
    assert np.array_equal(one[~odd], other[~odd]) and np.all(other[odd & (one > 0)] > one[odd & (one > 0)])


KILLED = """
import os, sys, time
sys.modules["numba"] = None  # slow to import, and nothing here is searched with it
from index_corpora import corpus
from kardlib import index_build
from kardlib.passage_source import PassageList
slow = index_build.count_terms
def counted(texts, analysis):
    with open(sys.argv[3], "ab") as file:
        file.write(b".")
    while os.path.getsize(sys.argv[3]) >= int(sys.argv[4]):
        os.write(1, b"waits to be killed\\n")  # in one piece: two workers may say so at once
        time.sleep(600)
    return slow(texts, analysis)
index_build.count_terms = counted
index_build.build_index(PassageList(corpus(2, 400)), sys.argv[1], shard_passages=20, workers=int(sys.argv[2]),
                        progress=False)
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shards", [1, 9])
def test_killed_builds_leave_the_old_index(folder: Path, workers: int, shards: int) -> None:
    """kill -9 amid a build: the old index still opens, the next build clears what was left and takes its place."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(workers), str(folder.parent / "counted"), str(shards)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert child.stdout.readline() == "waits to be killed\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = list(folder.parent.glob(f".{folder.name}.*.partial"))
    assert left
    assert Index.open(folder, SOURCE).search("w1", 3)
    time.sleep(1.5 if workers else 0)  # the orphans end themselves
    manifest = build_index(PassageList(corpus(2, 400)), folder, workers=0, progress=False)
    assert manifest.passages == 400 and not any(path.exists() for path in left)
    assert not list(folder.parent.glob(f".{folder.name}.*.partial"))


def test_killed_between_two_renamings(folder: Path) -> None:
    """The older index, set aside when the kill came, is back where the next build fails."""
    os.replace(folder, folder.parent / ".index.old")
    with pytest.raises(KardError, match="not one word"):
        build_index(PassageList([Passage(id="1", text="the")]), folder, workers=0, progress=False)
    assert Index.open(folder, SOURCE).search("w1", 3)


def test_estimate_is_near_what_it_costs(tmp_path: Path) -> None:
    """Disk within a quarter, from a sixth of the passages; the line names all three."""
    source = PassageList(corpus(3, 1200, words=400, longest=60))
    expected = estimate_index(source, sample=200, shard_passages=300, workers=0)
    size = build_index(source, tmp_path / "index", shard_passages=300, workers=0, progress=False).size
    assert expected.disk_mb == pytest.approx(size / 1e6, rel=0.25)
    assert expected.passages == 1200 and expected.memory_mb > 0 and expected.seconds > 0
    assert all(word in expected.line for word in ("1,200 passages", "memory", "disk", "1 process"))
    twice = estimate_index(
        PassageList(corpus(3, 2400, words=400, longest=60)), sample=200, shard_passages=300, workers=0
    )
    assert twice.disk_mb == pytest.approx(2 * expected.disk_mb, rel=0.15)
