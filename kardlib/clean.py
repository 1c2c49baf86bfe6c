"""``kard clean``: free the space that artefacts take. Records, and the predictions beside them, are never touched.

Artefacts go whole or not at all: a folder without its model would look finished and not be. What is made from an
artefact stays valid without it, since keys hold the names of what they were made from and not its files; whoever asks
for what was removed makes it again.

Three kinds are no step of the pipeline. ``checkpoints`` are students with all greedy answers of every method that asks
them, rerankers with their rankings, and what was trained for RAG or read before a student's training, with what comes
of it: no row of a table needs their weights. Other settings at test time (a vote, another kappa*), and the notebooks
that show the models themselves, train them again. What older code answered or ranked does not count. ``leftovers`` are
what killed or failed steps left behind; a killed training that still has them goes on where it was.
``passage-vectors`` only save time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import KardError
from .methods import METHODS, TRAININGS
from .plain_text import columns, size_text, time_text
from .presets import nearest, runs_root
from .stored import KEY, NAME, Key, Stored, lineage, lock_of, size_of, stored, upstream_names

KINDS = {
    "rationales": "what the teacher wrote",
    "verdicts": "of the filter, on each rationale",
    "pools": "candidates that rerankers are trained with",
    "reranker": "trained rerankers",
    "reranked": "candidates in the rerankers' order",
    "rankings": "first passages of each ranking, for hits@k",
    "adapted": "base models after further training on text (DAPT)",
    "student": "trained students",
    "ctranslate2": "students in the format of another engine",
    "retriever": "dense retrievers, before they are trained with a generator",
    "rag": "generators and retrievers that were trained jointly",
    "predictions": "answers as artefacts; those beside the records stay",
    "controls": "answers to questions that were changed on purpose",
    "passage-vectors": "token vectors of passages, by encoder",
    "checkpoints": "trained models that no row of a table needs any more",
    "leftovers": "of steps that were killed or failed",
}
GONE = ".gone"
"""Ending of a folder that is being removed: it must not look finished half way."""


@dataclass(frozen=True)
class Item:
    """Something that can be removed.

    Attributes:
        path: folder of an artefact, or what is left of one.
        seconds: what its making took, where that is known.
    """

    kind: str
    path: Path
    bytes: int
    seconds: float | None = None


def everything(root: Path) -> list[Item]:
    """All artefacts under their kinds, stores of vectors, then once more what is a checkpoint, then leftovers."""
    made = stored(root)
    items = [_item(artefact, artefact.kind) for artefact in made]
    items += [
        Item("passage-vectors", f, size_of(f)) for f in sorted(Path(root).glob("passage-vectors/*")) if f.is_dir()
    ]
    items += [_item(artefact, "checkpoints") for artefact in finished_with(made)]
    return items + leftovers(root)


def _item(artefact: Stored, kind: str) -> Item:
    return Item(kind, artefact.folder, artefact.bytes, artefact.seconds)


def finished_with(made: Sequence[Stored]) -> list[Stored]:
    """Trained models of this version of the kit whose answers or rankings of the reported split are all there."""
    stale = {artefact.folder for artefact in outdated(made)}
    valid = [artefact for artefact in made if artefact.folder not in stale]
    keys = {artefact.folder.name: artefact.key for artefact in valid}
    uses = _uses(valid)
    return [a for a in valid if (wanted := _wanted(a, keys)) and wanted <= uses.get(a.folder.name, set())]


def _uses(made: Sequence[Stored]) -> dict[str, set[str]]:
    """What was made of each artefact, by name: methods that answered, ``reranked``, ``rag``, trainings of students."""
    uses: dict[str, set[str]] = {}
    for artefact in made:
        key, reported = artefact.key, artefact.key.get("split") == "test"
        if artefact.kind == "predictions" and reported and key.get("decoding") == "greedy":
            uses.setdefault(str(key.get("after")), set()).add(key["method"])
        elif artefact.kind == "reranked" and reported:
            uses.setdefault(key["after"], set()).add("reranked")
        elif artefact.kind == "rag":
            uses.setdefault(str(key.get("retriever")), set()).add("rag")
        elif artefact.kind == "student" and key.get("adapted"):
            uses.setdefault(key["adapted"], set()).add(key["training"])
    return uses


def _wanted(artefact: Stored, keys: Mapping[str, Key]) -> set[str]:
    """What has to be made of an artefact before it is a checkpoint, as :func:`_uses` has it; empty where it is none."""
    if artefact.kind == "student":
        return _asking(artefact.key, keys)
    fixed = {
        "reranker": {"reranked"},
        "rag": {"RAG + Reasoning Distillation"},
        "retriever": {"rag"},
        "adapted": {"KARD", "Reasoning Distillation"},
    }
    return fixed.get(artefact.kind, set())


def _asking(student: Key, keys: Mapping[str, Key]) -> set[str]:
    """Methods that ask a student: those of the studies that alone train such a one, else all of its training.

    ``l``, ``k`` and the filter are parameters of notebook 06 too, where every method asks the student.
    """
    from .studies import STUDIES

    training = TRAININGS.get(student.get("training", ""))
    rows = {row.name for row in METHODS if training is not None and row.training == training}
    own = {name for name in ("adapted", "prompt_as_released") if student.get(name)}
    own |= {"share" for key in lineage(student, keys) if key.get("share", 1) != 1}
    tables = [{"adapted": "Fig 3", "prompt_as_released": "as released", "share": "Fig 4a"}[name] for name in own]
    return rows & set(STUDIES[tables[0]].methods.values()) if len(tables) == 1 else rows


def leftovers(root: Path) -> list[Item]:
    """Half-made folders, half-removed ones, and lock files with no artefact."""
    found = []
    for path in sorted(Path(root).glob("*/*")):
        name, dot, ending = path.name.partition(".")
        if not NAME.fullmatch(name) or ending not in ("", "lock", "partial", GONE[1:]):
            continue
        if ending in ("partial", GONE[1:]) or not (path.with_name(name) / KEY).exists():
            found.append(Item("leftovers", path, size_of(path)))
    return found


def outdated(made: Sequence[Stored]) -> list[Stored]:
    """Artefacts that this version of the kit would not find: its code for their step, or for a step that they were
    made from, is other than the code that made them. Those of a step that it does not know are not among them."""
    from .keys import step_code

    codes = {kind: step_code(kind) for kind in {artefact.kind for artefact in made}}
    stale = {a.folder.name for a in made if codes[a.kind] not in (None, a.key.get("code"))}
    before = -1
    while len(stale) > before:  # step by step down to what was made from them
        before = len(stale)
        stale |= {a.folder.name for a in made if upstream_names(a.key) & stale}
    return [a for a in made if a.folder.name in stale]


def chosen(root: Path, kinds: Sequence[str], unused: bool) -> list[Item]:
    """What a call asks to remove, each thing once.

    Args:
        kinds: of ``KINDS`` or of another step; none means all where ``unused`` is set.
        unused: only what :func:`outdated` finds.

    Raises:
        KardError: there is no such kind.
    """
    items = everything(root)
    known = list(dict.fromkeys([*KINDS, *(item.kind for item in items)]))
    for kind in kinds:
        if kind not in known:
            raise KardError(f"kind {kind!r}: there is none of that name{nearest(kind, known)}")
    stale = {artefact.folder for artefact in outdated(stored(root))} if unused else set()
    wanted = [item for item in items if (not kinds or item.kind in kinds) and (not unused or item.path in stale)]
    return list({item.path: item for item in reversed(wanted)}.values())[::-1]


def table(items: Sequence[Item]) -> list[str]:
    """Number, size and time by kind, as lines."""
    kinds = sorted({item.kind for item in items}, key=lambda kind: [*KINDS, kind].index(kind))
    head = ("kind", "number", "size", "time it took", "what it is")
    return columns([head, *(_line(kind, [i for i in items if i.kind == kind]) for kind in kinds)], right=(1, 2, 3))


def _line(kind: str, items: Sequence[Item]) -> tuple[str, ...]:
    known = [item.seconds for item in items if item.seconds is not None]
    took = time_text(sum(known)) if known else "-"
    return kind, str(len(items)), size_text(sum(item.bytes for item in items)), took, KINDS.get(kind, "")


def refuse_if_busy(root: Path) -> None:
    """Raise a KardError if a live process is making an artefact: it may be reading any other."""
    for lock in sorted(Path(root).glob("*/*.lock")):
        if not (lock.with_suffix("") / KEY).exists():  # that of a finished artefact is not held, and holds its time
            with _held(lock):
                pass


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        name = f"{lock.parent.name} {lock.stem}"
        raise KardError(f"{name}: a running process is making it; nothing more is removed before it ends") from None


def remove(item: Item) -> None:
    """Remove one artefact or leftover with its lock file, so that it is never seen half removed.

    Raises:
        KardError: a process has begun to make it anew, or the files cannot be removed.
    """
    lock = lock_of(item.path)
    try:
        with _held(lock):
            if item.path.is_dir():
                gone = item.path.with_suffix(GONE)
                if gone.exists() and gone != item.path:
                    shutil.rmtree(gone)
                os.replace(item.path, gone)
                shutil.rmtree(gone)
            if not any(lock.with_suffix(ending).exists() for ending in ("", ".partial", GONE)):
                with suppress(PermissionError):  # Windows removes it itself when it is let go
                    lock.unlink(missing_ok=True)
    except OSError as error:
        raise KardError(f"{item.path}: cannot be removed ({error.strerror or error})") from None


def clean(
    kinds: Sequence[str] = (),
    unused: bool = False,
    dry_run: bool = False,
    agreed: bool = False,
    say: Callable[[str], None] = print,
    ask: Callable[[str], str] | None = None,
) -> int:
    """Say what would go, ask, and remove it. Without a kind and without ``unused`` it only shows what there is.

    Args:
        kinds, unused: see :func:`chosen`.
        dry_run: remove nothing.
        agreed: do not ask.
        ask: puts a question to the user; None where nobody can be asked.

    Returns:
        Bytes that were freed.

    Raises:
        KardError: a kind is not known, a live process is making an artefact, or nobody can be asked.
    """
    root = runs_root() / "artefacts"
    selects = bool(kinds) or unused
    items = chosen(root, kinds, unused) if selects else everything(root)
    if not items:
        say(f"{root}: nothing of that kind" if selects else f"{root}: there is nothing in it")
        return 0
    for line in [f"{root}:", *table(items)]:
        say(line)
    total = sum(item.bytes for item in {item.path: item for item in items}.values())
    say(f"{size_text(total)} in all. Records and the predictions beside them stay.")
    if not selects or dry_run:
        say("Nothing was removed." + ("" if selects else " --kind NAME or --unused chooses what goes."))
        return 0
    refuse_if_busy(root)
    if not agreed and not _agrees(ask):
        say("Nothing was removed.")
        return 0
    refuse_if_busy(root)  # it may have taken a while to answer
    for item in items:
        remove(item)
    say(f"{size_text(total)} freed.")
    return total


def _agrees(ask: Callable[[str], str] | None) -> bool:
    if ask is None:
        raise KardError("clean: nobody can be asked here; --yes removes without asking, --dry-run only shows")
    try:
        return ask("Remove all this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
