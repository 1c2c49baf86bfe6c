"""The raw outputs that ship with the kit: ``data/records/``, one compressed JSONL file for each set of outputs.

A set is found by its key without the hashes of the code (:class:`kardlib.keys.Keys` with ``coded=False``): settings,
content of the data set, hashes of the models. So a module that is only rewritten does not lose it; its first line says
which commit made it, and whoever loads it can tell. Only generated data sets have shipped outputs.
"""

from __future__ import annotations

import json
import lzma
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from .candidates import Candidates
from .errors import KardError
from .mini import shared_mini
from .presets import MINI_SETS, REPOSITORY, SPLIT_SIZES, Settings
from .records import Prediction, Record, parse_record
from .scoring import hits_at
from .store import fingerprint

RECORDS = REPOSITORY / "data" / "records"
ENDING = ".jsonl.xz"
DEPTH = 10
"""Passages of a ranking that are kept: hits@10 is the deepest that is reported."""
USUAL = {"decoding": "greedy", "split": "test"}
"""Values that go unsaid in names."""


class Ranked(Record):
    """What stands behind hits@k of one question, as ids of passages, best first.

    Attributes:
        bm25, reranker: the first ``DEPTH`` of each ranking.
        truth: what the teacher's rationale finds: it counts as a hit.
    """

    question_id: str
    bm25: tuple[str, ...]
    reranker: tuple[str, ...]
    truth: tuple[str, ...]


def first_passages(
    bm25: Mapping[str, Candidates], reranked: Mapping[str, Candidates], truth: Mapping[str, tuple[str, ...]]
) -> list[Ranked]:
    """The first ``DEPTH`` passages of both rankings, by question id, beside what counts as a hit."""
    return [
        Ranked(question_id=i, bm25=c.passages[:DEPTH], reranker=reranked[i].passages[:DEPTH], truth=truth[i])
        for i, c in bm25.items()
    ]


class Judged(Record):
    """The filter's verdicts on the rationales of one training question, in their order."""

    question_id: str
    verdicts: tuple[str, ...]


KINDS: dict[str, tuple[type[Record], str]] = {
    "predictions": (Prediction, "predictions.jsonl"),
    "rankings": (Ranked, "rankings.jsonl"),
    "controls": (Prediction, "predictions.jsonl"),
}
"""The steps whose outputs ship and are loaded where they are not made here: the record of one question, and the file of
the artefact that holds them."""
_ROWS: dict[str, type[Record]] = {step: kind for step, (kind, _) in KINDS.items()} | {"verdicts": Judged}
"""What the rows of a set are. Verdicts are no answers: they are counted, and tell which rationales were kept."""


class Header(Record):
    """First line of a shipped set.

    Attributes:
        about: data set, student, and the settings that are not the preset's, for whoever reads the file.
        key: of the set, without hashes of code; the file's name ends in its fingerprint.
        data: hash of the data set's content, see :func:`data_hash`.
        commit: of the repository when the set was shipped; its code has made it.
        code: name of the artefact that it was, which depends on the code that made it.
        versions, device: of the machine where it was shipped.
        seconds: what the making of the outputs took, and of the trained models behind them, by step and what of it.
        same: fields that are the same in all rows, which leave them out.
        shots: worked examples that each prompt showed; None where the method shows none.
        counts: what the rows come to, see :func:`counts`.
    """

    step: str
    about: dict[str, Any]
    key: dict[str, Any]
    data: str
    commit: str = Field(min_length=7)
    code: str
    versions: dict[str, str | None]
    device: str
    seconds: dict[str, float]
    same: dict[str, Any]
    shots: tuple[int, ...] | None = None
    counts: dict[str, int]


def data_hash(settings: Settings) -> str:
    """Hash of what a generated data set holds: questions of all splits and passages, in order.

    ``Question.meta``, which only analyses read, and ``share``, which is a setting of its own, are left out.
    """
    sizes = tuple(SPLIT_SIZES[settings.size].items())
    return _data_hash(settings.dataset, settings.world, settings.inventory, sizes)


@lru_cache(maxsize=16)
def _data_hash(dataset: str, world: int, inventory: Any, sizes: tuple[tuple[str, int], ...]) -> str:
    mini = shared_mini(dataset, world, inventory, sizes)
    splits = {name: [q.model_dump(exclude={"meta"}) for q in split] for name, split in mini.splits.items()}
    return fingerprint(splits, [[passage.id, passage.text] for passage in mini.passages])


def ships(step: str, settings: Settings) -> bool:
    """Whether outputs of a step can have been shipped at all; it costs next to nothing to ask."""
    return step in KINDS and settings.dataset in MINI_SETS and (RECORDS / settings.dataset).is_dir()


def set_file(settings: Settings, key: dict[str, Any]) -> Path:
    """Where the shipped set with a key (without hashes of code) is, or would be."""
    about = [key.get("method", key["step"]), *([f"seed {key['seed']}"] if "seed" in key else [])]
    about += [str(key[name]) for name, usual in USUAL.items() if key.get(name, usual) != usual]
    about += [key["control"]] if "control" in key else []
    name = "-".join(re.findall(r"\w+", " ".join(about).lower()))
    student = Path(settings.student).name if "method" in key else key["step"]
    return RECORDS / settings.dataset / student / f"{name}-{fingerprint(key)}{ENDING}"


def pack(header: Header, rows: Sequence[Record]) -> bytes:
    """Bytes of a set: the same for the same header and rows, whenever and wherever they are packed."""
    lines = [header.model_dump(mode="json"), *(_short(row, header.same) for row in rows)]
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    return lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)


def _short(row: Record, same: dict[str, Any]) -> dict[str, Any]:
    return row.model_dump(mode="json", exclude=set(same))


def constant(rows: Sequence[Record]) -> dict[str, Any]:
    """Fields that have one value in all rows, lists and the question's id aside."""
    first = rows[0].model_dump(mode="json")
    return {
        name: value
        for name, value in first.items()
        if name != "question_id" and not isinstance(value, list) and all(getattr(row, name) == value for row in rows)
    }


def counts(rows: Sequence[Record]) -> dict[str, int]:
    """What rows come to: questions; right answers (scored, as written, unparsed), hits of rankings, or verdicts."""
    found: Counter[str] = Counter(questions=len(rows))
    for row in rows:
        if isinstance(row, Prediction):
            found["right"] += row.chosen == row.gold
            found["right as written"] += row.parsed == row.gold
            found["unparsed"] += row.parsed is None
        elif isinstance(row, Ranked):
            for k in (1, 3, 5, DEPTH):
                found[f"BM25 hits@{k}"] += hits_at(row.bm25, row.truth, k)
                found[f"Reranker hits@{k}"] += hits_at(row.reranker, row.truth, k)
        elif isinstance(row, Judged):
            found.update(row.verdicts)
    return dict(found)


def read_set(file: Path) -> tuple[Header, list[Any]]:
    """Header and rows of a shipped set, in the order of the questions.

    Raises:
        KardError: names the file: it cannot be read, or its rows do not come to what its header says.
    """
    try:
        stat = file.stat()
    except OSError as error:
        raise KardError(f"{file}: cannot be read ({error}); {_REMEDY}") from None
    header, rows = _read_set(file, stat.st_size, stat.st_mtime_ns)
    return header, [*rows]


def read_header(file: Path) -> Header:
    """The first line of a shipped set alone, which costs a hundredth of all of it.

    Raises:
        KardError: names the file: it cannot be read, or has no such header.
    """
    try:
        with lzma.open(file, "rt", encoding="utf-8") as lines:
            return Header.model_validate_json(lines.readline())
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:  # pydantic's is a ValueError
        raise KardError(f"{file}: its header cannot be read ({str(error).splitlines()[0]}); {_REMEDY}") from None


# What two tables show is read twice and more; size and time of change are part of the key alone.
@lru_cache(maxsize=128)
def _read_set(file: Path, size: int, changed: int) -> tuple[Header, tuple[Any, ...]]:
    try:
        lines = [json.loads(line) for line in lzma.decompress(file.read_bytes()).decode().split("\n")[:-1]]
        if not lines or not all(isinstance(line, dict) for line in lines):
            raise ValueError("a JSON object was expected in each line")
        header = Header.model_validate(lines[0])
        kind = _ROWS[header.step]
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise KardError(f"{file}: its header has a fault in {field or 'the whole'}; {_REMEDY}") from None
    except (OSError, EOFError, ValueError, lzma.LZMAError, LookupError) as error:
        raise KardError(f"{file}: cannot be read ({error}); {_REMEDY}") from None
    rows = [parse_record(header.same | row, kind, f"{file}:{n}") for n, row in enumerate(lines[1:], 2)]
    if counts(rows) != header.counts:
        raise KardError(f"{file}: its rows do not come to what its header says; {_REMEDY}")
    return header, tuple(rows)


_REMEDY = "git checkout data/records brings it back, without the file its outputs are made anew"


def shipped_files() -> list[Path]:
    """All shipped sets, in order."""
    return sorted(RECORDS.rglob(f"*{ENDING}"))
