"""The index doctor finds nothing where all is well, and what is wrong where something is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kardlib.analysis import Analysis
from kardlib.index_build import build_index
from kardlib.index_doctor import index_doctor
from kardlib.index_manifest import read_manifest, stored_file, write_manifest
from kardlib.mini import MiniSet
from kardlib.passage_source import PassageList
from kardlib.records import Passage


@pytest.fixture
def source(mini: MiniSet) -> PassageList:
    """The passages of a mini set."""
    return PassageList(mini.passages)


@pytest.fixture
def folder(tmp_path: Path, source: PassageList) -> Path:
    """An index of them in several shards."""
    build_index(source, tmp_path / "index", shard_passages=50, workers=0, progress=False)
    return tmp_path / "index"


def wrong(findings: list) -> dict[str, str]:
    """Lines of what is not fine, by name."""
    return {finding.name: finding.line for finding in findings if not finding.fine}


def test_a_sound_index(folder: Path, source: PassageList) -> None:
    """All checks are made, and all are fine."""
    findings = index_doctor(folder, source, analysis=Analysis(), k1=0.9, b=0.4, lengths="exact")
    assert [finding.name for finding in findings] == [
        "settings", "files", "passages", "texts", "self", "inflection", "ties",
    ]  # fmt: skip
    assert not wrong(findings) and all("\n" not in finding.line for finding in findings)


def test_another_analyser(folder: Path, source: PassageList) -> None:
    """Expected with other stop words or stemmer: named."""
    assert "stemmer" in wrong(index_doctor(folder, source, analysis=Analysis(stemmer="none")))["settings"]
    assert "stop_words" in wrong(index_doctor(folder, source, analysis=Analysis(stop_words=())))["settings"]


def test_another_analyser_behind_a_forged_manifest(folder: Path, source: PassageList) -> None:
    """Postings made by one analyser under the name of another: the searches show it."""
    build_index(source, folder, Analysis(stemmer="none"), shard_passages=50, workers=0, progress=False)
    held, other = read_manifest(folder), build_index(source, folder.parent / "other", workers=0, progress=False)
    write_manifest(folder, held.model_copy(update={"analysis": other.analysis, "probe": other.probe}))
    assert "self" in wrong(index_doctor(folder, source))


def test_a_truncated_and_a_changed_shard(folder: Path, source: PassageList) -> None:
    """A shard cut short is seen by its size; a changed byte in its middle by the whole checksum."""
    shard = folder / read_manifest(folder).shards[1].file.name
    held = shard.read_bytes()
    shard.write_bytes(held[: len(held) // 2])
    assert shard.name in wrong(index_doctor(folder, source, whole=False))["files"]
    middle = len(held) // 2
    shard.write_bytes(held[:middle] + bytes([held[middle] ^ 1]) + held[middle + 1 :])
    assert "has been changed" in wrong(index_doctor(folder, source))["files"]


def test_scores_that_do_not_follow_from_the_texts(folder: Path, source: PassageList) -> None:
    """Even where sizes and checksums were made to fit, scores are computed again from the texts."""
    manifest = read_manifest(folder)
    entries = []
    for entry in manifest.shards:
        path = folder / entry.file.name
        held = np.fromfile(path, dtype=np.float32)
        start = 2 * (entry.terms + 1) + entry.postings
        held[start : start + entry.postings] *= np.float32(1.01)
        held.tofile(path)
        entries.append(entry.model_copy(update={"file": stored_file(path)}))
    write_manifest(folder, manifest.model_copy(update={"shards": tuple(entries)}))
    assert list(wrong(index_doctor(folder, source))) == ["self"]


class _Stale(PassageList):
    """Passages whose texts were changed after their hash was taken."""

    def change(self) -> None:
        self._passages[3] = self._passages[3].model_copy(update={"text": "something else"})


def test_a_changed_corpus(folder: Path, source: PassageList, mini: MiniSet) -> None:
    """A passage more, another word, or a source whose own hash is older than its texts."""
    more = PassageList([*mini.passages, Passage(id="zz", text="one more")])
    assert "passages" in wrong(index_doctor(folder, more))
    stale = _Stale(mini.passages)
    stale.change()
    assert list(wrong(index_doctor(folder, stale))) == ["texts"]


def test_no_index(tmp_path: Path, source: PassageList) -> None:
    """An empty folder is one finding."""
    assert list(wrong(index_doctor(tmp_path, source))) == ["manifest"]


def test_duplicates_are_no_fault(tmp_path: Path) -> None:
    """A passage that stands there twice finds its twin; one that has no term at all breaks nothing."""
    passages = [Passage(id=f"{i:02d}", text=f"twin number {i // 2} here") for i in range(40)]
    source = PassageList([*passages, Passage(id="zz", text="the of")])
    build_index(source, tmp_path / "index", shard_passages=16, workers=0, progress=False)
    assert not wrong(index_doctor(tmp_path / "index", source))
