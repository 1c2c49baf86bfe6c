"""``kard index build``, ``kard index doctor`` and ``kard candidates``, as one types them."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kardlib.candidate_store import CandidateStore
from kardlib.errors import KardError
from kardlib.index_command import add_commands
from kardlib.index_folder import CANDIDATES, INDEX, PASSAGES, opened, rankings_hash
from kardlib.index_key import index_key
from kardlib.indexed_search import IndexedSearch
from kardlib.knowledge_base import KnowledgeBase

WORDS = [f"{a}{b}" for a in ("oak", "salt", "river", "storm", "cloud") for b in ("", "land", "stone", "field", "wood")]


def kard(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    options = parser.parse_args([str(word) for word in words])
    return options.command(options, [])


def write(path: Path, count: int, seed: int = 0) -> Path:
    draw = random.Random(seed)
    rows = ({"id": f"d{i}", "title": f"T{i}", "text": " ".join(draw.choices(WORDS, k=20))} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "own.jsonl", 60)


@pytest.fixture
def built(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert kard("index", "build", source, tmp_path / "out", "--shard-passages", "16", "--workers", "0") == 0
    capsys.readouterr()
    return tmp_path / "out"


def test_a_build_says_what_it_takes_and_is_examined(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert kard("index", "build", source, out, "--dry-run") == 0
    assert "60 passages: about" in capsys.readouterr().out and not (out / INDEX).exists()
    assert kard("index", "build", source, out, "--k1", "1.2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("own: 60 passages") and "MB of memory" in lines[1]
    assert len(lines) > 5 and all(line.startswith("ok  ") for line in lines[2:])
    assert opened(out).manifest.k1 == 1.2


def test_what_is_there_is_not_built_again(built: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = built / INDEX / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert kard("index", "build", source, built, "--workers", "0") == 0
    assert "there already" in capsys.readouterr().out and manifest.stat().st_mtime_ns == before
    for more in (["--b", "0.5"], ["--b", "0.5", "--again"]):
        assert kard("index", "build", source, built, "--workers", "0", *more) == 0
        assert manifest.stat().st_mtime_ns != before and opened(built).manifest.b == 0.5
        before = manifest.stat().st_mtime_ns
    write(source, 61)
    assert kard("index", "build", source, built, "--workers", "0") == 0
    assert len(opened(built)) == 61 and opened(built).manifest.b == 0.4


def test_the_doctor_finds_what_is_wrong(built: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kard("index", "doctor", built) == 0
    shard = max((built / INDEX).iterdir(), key=lambda path: path.stat().st_size)
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    assert kard("index", "doctor", built) == 1
    assert f"FAIL files: index {built / INDEX}: {shard.name} has" in capsys.readouterr().out
    shard.write_bytes(content)
    passages = built / PASSAGES / "passages-00000.arrow"
    content = passages.read_bytes()
    at = content.index(KnowledgeBase.open(built / PASSAGES)[5].text.encode())
    passages.write_bytes(content[:at] + b"#" + content[at + 1 :])
    assert kard("index", "doctor", built) == 1
    assert "FAIL texts: they hash to" in capsys.readouterr().out
    passages.write_bytes(content)
    assert kard("index", "doctor", built) == 0


def test_an_index_of_other_passages_is_not_opened(built: Path, source: Path, tmp_path: Path) -> None:
    assert kard("index", "build", write(source, 60, 1), tmp_path / "other", "--workers", "0") == 0
    (built / PASSAGES).rename(tmp_path / "aside")
    (tmp_path / "other" / PASSAGES).rename(built / PASSAGES)
    with pytest.raises(KardError, match="texts or ids differ"):
        opened(built)
    assert kard("index", "doctor", built) == 1


def test_candidates_of_a_file(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"id": "a", "text": "oak storms"}\n{"id": "b", "text": "salt"}\n')
    assert kard("candidates", built, queries, "--depth", "7") == 0
    assert kard("candidates", built, queries, "--depth", "7") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("2 queries, 2 of them searched for") and second.startswith("2 queries, 0 of them")
    index = opened(built)
    held = CandidateStore(built / CANDIDATES, index_key(index.manifest))
    assert held.hits("salt", 7)[0].tolist() == [hit.index for hit in index.search("salt", 7)]
    assert kard("index", "doctor", built) == 0
    assert "ok   candidates: 2 queries are stored" in capsys.readouterr().out
    next(held.folder.glob("part-*")).write_bytes(b"")
    assert kard("index", "doctor", built) == 1
    assert "FAIL candidates" in capsys.readouterr().out


def test_an_experiment_keeps_what_it_finds_where_it_can(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"a": "oak storms", "b": "salt"}
    found = [opened(built).search(text, 5) for text in asked.values()]
    (built / CANDIDATES).write_text("in the way")
    kept_nowhere = IndexedSearch(str(built))
    some = kept_nowhere.passages[7].id
    assert some in kept_nowhere.texts and "none" not in kept_nowhere.texts and 7 not in kept_nowhere.texts
    for _ in range(2):
        kept_nowhere.know(asked, 5)
    assert capsys.readouterr().err.count("cannot be written") == 1, "said once"
    assert [kept_nowhere.search(text, 5) for text in asked.values()] == found
    (built / CANDIDATES).unlink()
    IndexedSearch(str(built)).know(asked, 5)
    kept = IndexedSearch(str(built))
    assert [kept.search(text, 5) for text in asked.values()] == found and list((built / CANDIDATES).rglob("*.parquet"))
    capsys.readouterr()
    kept.know(asked, 5)
    assert capsys.readouterr() == ("", ""), "nothing is left to do, nothing is shown"


def test_a_built_folder_is_a_source(built: Path, tmp_path: Path) -> None:
    assert kard("index", "build", built, tmp_path / "copy", "--workers", "0") == 0
    assert opened(tmp_path / "copy").manifest.digest == opened(built).manifest.digest
    more = write(tmp_path / "more.jsonl", 9, 1)
    assert kard("index", "build", f"={built}", f"more={more}", tmp_path / "both", "--workers", "0") == 0
    assert len(opened(tmp_path / "both")) == 60 + 9


def test_only_what_changes_a_ranking_changes_the_hash(built: Path, source: Path) -> None:
    before = rankings_hash(built)
    for more in (["--licence", "CC0"], ["--shard-passages", "7", "--again"]):
        assert kard("index", "build", source, built, "--workers", "0", *more) == 0
        assert rankings_hash(built) == before
    assert kard("index", "build", source, built, "--workers", "0", "--k1", "1.2") == 0
    assert rankings_hash(built) != before
    with pytest.raises(KardError, match="no passages/manifest.json"):
        rankings_hash(built / INDEX)


def test_candidates_of_a_mini_set(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("candidates", built, "-p", "preset=mini", "-p", "dataset=mini-medqa", "-p", "size=smoke", "--depth", "3")
    assert kard(*words) == kard(*words, "--to", built / "elsewhere") == 0
    assert len(set(line.split(";")[0] for line in capsys.readouterr().out.splitlines())) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["index", "build", "nowhere", "out"], "nowhere: no such file or folder"),
        (["index", "build", "own.jsonl", "out", "--words", "9"], "--words: the rule paragraphs has none"),
        (["index", "build", "own.jsonl", "out", "--k1", "-1"], "k1 = -1.0"),
        (["index", "build", "own.jsonl", "out", "--k1", "inf"], "k1 = inf"),
        (["index", "build", "own.jsonl", "out", "--shard-passages", "0"], "shard_passages = 0"),
        (["index", "build", "own.jsonl", "out", "--lengths", "inexact"], "lengths = inexact: known are"),
        (["index", "build", "own.jsonl", "out", "-p", "data_dir"], "-p data_dir: name=value"),
        (["index", "doctor", "nowhere"], "no knowledge base"),
        (["candidates", "own.jsonl"], "a file of queries, or -p dataset=NAME"),
        (["candidates", "nowhere", "own.jsonl"], "no knowledge base"),
    ],
)
def test_bad_input_is_one_line(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KardError) as caught:
        kard(*words)
    assert line in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists(), "nothing was read for it"


KILLED = """
import argparse, sys, time
sys.modules["numba"] = None  # slow to import, and nothing here is searched with it
from kardlib import index_build, index_command
def wait(*args):
    print("here", flush=True)
    time.sleep(60)
index_build.write = wait
parser = argparse.ArgumentParser()
index_command.add_commands(parser.add_subparsers(required=True))
options = parser.parse_args(sys.argv[1:])
options.command(options, [])
"""


def test_a_killed_build_leaves_the_old_index_or_none(built: Path, source: Path, tmp_path: Path) -> None:
    before = opened(built).search("oak", 5)
    for out in (built, tmp_path / "new"):
        words = ["index", "build", str(source), str(out), "--workers", "0", "--b", "0.9"]
        with subprocess.Popen([sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout and "here\n" in iter(child.stdout.readline, "")
            os.kill(child.pid, signal.SIGKILL)
    assert opened(built).search("oak", 5) == before
    with pytest.raises(KardError, match="there is none"):
        opened(tmp_path / "new")
    assert kard("index", "build", source, tmp_path / "new", "--workers", "0") == 0
    assert opened(tmp_path / "new").search("oak", 5) == before
