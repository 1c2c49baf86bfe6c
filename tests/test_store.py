"""Files that are whole or absent, and artefacts that are made once."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kardlib import store
from kardlib.errors import KardError
from kardlib.store import artefact, artefact_folder, atomic_write, fingerprint, hash_file

KEY = {"step": "x", "seed": 1}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- atomic_write -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, content", [("w", "größer\n"), ("wb", b"\x00\xff")])
def test_a_written_file_is_there_alone(tmp_path: Path, mode: str, content: Any) -> None:
    path = tmp_path / "new" / "file"
    for _ in range(2):
        with atomic_write(path, mode) as file:
            file.write(content)
    assert path.read_bytes() == (content if mode == "wb" else content.encode()) and files(path.parent) == ["file"]


@pytest.mark.parametrize("before", [None, "old"])
def test_an_error_in_the_block_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "file"
    if before:
        path.write_text(before)
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half")
        raise RuntimeError
    assert files(tmp_path) == (["file"] if before else [])
    assert not before or path.read_text() == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.os, call, full)
    with pytest.raises(KardError, match="file: cannot be written .No space left") as caught, atomic_write(path) as file:
        file.write("new")
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == ["file"] and path.read_text() == "old"


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(KardError, match="cannot be written"), atomic_write(tmp_path / "plain" / "file") as file:
        file.write("x")


@pytest.mark.skipif(os.name == "nt", reason="no modes there")
def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "ours") as file:
        file.write("x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- fingerprints -----------------------------------------------------------------------------------------------------


def test_a_fingerprint_follows_the_values_not_their_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    others = [{"a": 1, "b": [2, 1]}, {"a": "1", "b": [1, 2]}, {"a": 1}, {"a": 1, "b": [1, 2], "c": None}]
    assert len({fingerprint(v) for v in others} | {fingerprint({"a": 1, "b": [1, 2]})}) == 5
    assert fingerprint("a", "b") != fingerprint("ab", "") and fingerprint(0) != fingerprint(False)


def test_a_folders_hash_follows_every_byte_and_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_text("1")
    (tmp_path / "sub" / "b").write_text("2")
    seen = [hash_file(tmp_path)]
    for change in (
        lambda: (tmp_path / "a").write_text("3"),
        lambda: (tmp_path / "sub" / "b").write_text("4"),
        lambda: (tmp_path / "a").rename(tmp_path / "c"),
        lambda: (tmp_path / "sub" / "d").write_text(""),
    ):
        change()
        seen.append(hash_file(tmp_path))
    assert len(set(seen)) == 5 and hash_file(tmp_path) == seen[-1]


# --- artefacts --------------------------------------------------------------------------------------------------------


def put(text: str) -> Any:
    def make(folder: Path) -> None:
        (folder / "content").write_text(text)

    return make


def test_an_artefact_is_made_once_with_its_key(tmp_path: Path) -> None:
    folder = artefact(tmp_path, "thing", KEY, put("one"))
    assert folder == artefact_folder(tmp_path, "thing", KEY) and files(folder) == ["content", "key.json"]
    assert json.loads((folder / "key.json").read_text()) == KEY
    assert artefact(tmp_path, "thing", dict(reversed(KEY.items())), put("two")) == folder
    assert (folder / "content").read_text() == "one"
    assert artefact(tmp_path, "thing", KEY | {"seed": 2}, put("two")) != folder
    assert artefact(tmp_path, "other", KEY, put("two")) != folder


def test_a_failure_leaves_no_artefact_and_the_next_attempt_finds_the_partial_folder(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "checkpoint").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        artefact(tmp_path, "thing", KEY, fail)
    final = artefact_folder(tmp_path, "thing", KEY)
    assert not final.exists()
    found: list[str] = []

    def go_on(folder: Path) -> None:
        found.extend(files(folder))

    assert artefact(tmp_path, "thing", KEY, go_on) == final
    assert found == ["checkpoint"] and (final / "key.json").exists()
    assert not [path for path in final.parent.iterdir() if path.name.endswith(".partial")]


def test_a_folder_without_its_key_is_made_again(tmp_path: Path) -> None:
    final = artefact_folder(tmp_path, "thing", KEY)
    final.mkdir(parents=True)
    (final / "rubbish").write_text("x")
    assert files(artefact(tmp_path, "thing", KEY, put("one"))) == ["content", "key.json"]


def test_a_full_disk_leaves_no_finished_artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(KardError, match="No space left"):
        artefact(tmp_path, "thing", KEY, full)
    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(KardError, match="No space left"):
        artefact(tmp_path, "thing", KEY, put("one"))
    monkeypatch.undo()
    assert not artefact_folder(tmp_path, "thing", KEY).exists()
    assert (artefact(tmp_path, "thing", KEY, put("two")) / "content").read_text() == "two"


def slow(folder: Path) -> None:
    """Notes each time that it is called, beside the artefact."""
    with open(folder.parent / "made.log", "a") as log:
        log.write(f"{os.getpid()}\n")
    time.sleep(0.3)
    (folder / "content").write_text("whole")


def make_slowly(root: str) -> None:
    artefact(Path(root), "thing", KEY, slow)


def test_two_threads_make_it_once(tmp_path: Path) -> None:
    threads = [threading.Thread(target=make_slowly, args=(str(tmp_path),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len((tmp_path / "thing" / "made.log").read_text().split()) == 1


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make_slowly, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len((tmp_path / "thing" / "made.log").read_text().split()) == 1
    assert (artefact_folder(tmp_path, "thing", KEY) / "content").read_text() == "whole"


def test_a_process_killed_before_the_last_renaming_repeats_nothing(tmp_path: Path) -> None:
    key = {"a": 1}
    partial = artefact_folder(tmp_path, "thing", key).with_suffix(".partial")
    (partial / "work").mkdir(parents=True)
    (partial / "key.json").write_text(json.dumps(key))
    (partial / "made").write_text("before")

    def forbidden(folder: Path) -> None:
        raise AssertionError("it was finished")

    folder = artefact(tmp_path, "thing", key, forbidden)
    assert (folder / "made").read_text() == "before" and not (folder / "work").exists() and not partial.exists()


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        for part, text in (("x", one), ("y", other)):
            (tmp_path / one / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / one / part / "same.txt").write_text(text)
    assert hash_file(tmp_path / "a") != hash_file(tmp_path / "b")
