"""Readers of OpenBookQA, StrategyQA and MedQA in their publishers' own files.

A reader gives the publisher's splits as they are; ``dev`` is empty where the publisher's dev split is the reported one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .dataset import DataSet
from .errors import KardError
from .passage_source import PassageSource
from .raw_rows import (
    Seen,
    as_object,
    gzip_rows,
    id_field,
    json_entries,
    letter_index,
    make_question,
    present,
    repeated,
    text_field,
    text_lines,
    texts_field,
)
from .records import Passage, Question, Rationale, json_rows
from .splits import hash_share
from .store import fingerprint

Row = tuple[str, dict[str, Any]]
"""``file:line`` and the row that stands there."""
REPORTED_SHARE = 0.3
PARAGRAPH_WORDS = 100
HUB_NAME = "allenai/openbookqa"
MEDQA_TRAIN = ("train.jsonl", "phrases_no_exclude_train.jsonl", "train_partial.jsonl")
MEDQA_DEV = ("dev.jsonl", "phrases_no_exclude_dev.jsonl")
MEDQA_TEST = ("test.jsonl", "phrases_no_exclude_test.jsonl")
KNEW_GOLD = "the rationales are the set's own annotations; people wrote them with the gold answer in view"
KNEW_QUESTIONS = "the knowledge base was built knowing the questions, so retrieval is easier than over open text"
OWN_SPLIT = "the labelled questions are split 7:3 by a hash of their ids, which is not the paper's split"
REPORTS_DEV = "the reported split is the publisher's dev split (test is not at hand); every choice was made on train"


def read_openbookqa(folder: Path) -> DataSet:
    """OpenBookQA: ``train_complete.jsonl``, ``dev_complete.jsonl``, ``openbook.txt``, ``crowdsourced-facts.txt``.

    ``test_complete.jsonl`` is the reported split where it is there, else dev is.

    Raises:
        KardError: names the file, the line and the field of the first fault.
    """
    splits = {name: _file_rows(folder / f"{name}_complete.jsonl") for name in ("train", "dev")}
    if (folder / "test_complete.jsonl").exists():
        splits["test"] = _file_rows(folder / "test_complete.jsonl")
    lines = [line for name in ("openbook.txt", "crowdsourced-facts.txt") for line in text_lines(folder / name)]
    # The publisher quotes each sentence of the open book, and repeats some among the crowd's facts.
    return _openbookqa(splits, (line.strip('"') for line in lines), [])


def fetch_openbookqa() -> DataSet:
    """OpenBookQA from the hub, without the open book, which is not there: the ``fact1`` sentences stand in for it.

    Raises:
        KardError: the hub cannot be reached.
    """
    try:
        from datasets import load_dataset

        fetched = load_dataset(HUB_NAME, "additional")
    except Exception as error:  # noqa: BLE001  (the hub's client has no common base for "offline" and "not found")
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        hint = "set KARD_DATA or -p data_dir= to a folder that holds its files"
        raise KardError(f"dataset openbookqa: it cannot be fetched; {hint} ({reason})") from None
    hub_names = {"train": "train", "dev": "validation", "test": "test"}
    splits = {name: _hub_rows(fetched, hub_name) for name, hub_name in hub_names.items()}
    facts = [text_field(row, "fact1", where) for rows in splits.values() for where, row in rows]
    return _openbookqa(splits, facts, ["the knowledge base is the fact1 column; the whole open book is not on the hub"])


def _file_rows(path: Path) -> list[Row]:
    rows = [(f"{path}:{number}", row) for number, row in json_rows(path)]
    if not rows:
        raise KardError(f"{path}: it holds no questions")
    return rows


def _hub_rows(fetched: Any, split: str) -> list[Row]:
    """Rows of a hub split in the shape of the publisher's files."""
    rows = []
    for number, row in enumerate(fetched[split], 1):
        pairs = zip(row["choices"]["text"], row["choices"]["label"], strict=True)
        choices = [{"text": text, "label": label} for text, label in pairs]
        question = {"stem": row["question_stem"], "choices": choices}
        rows.append((f"{HUB_NAME}/{split}:{number}", {**row, "question": question}))
    return rows


def _openbookqa(splits: dict[str, list[Row]], facts: Iterable[str], notes: list[str]) -> DataSet:
    seen, annotations = Seen(), {}
    questions: dict[str, list[Question]] = {}
    for split, rows in splits.items():
        read = [(where, row, _openbookqa_question(row, where, seen)) for where, row in rows]
        questions[split] = [question for _, _, question in read if question]
        notes = notes + _dropped(len(rows) - len(questions[split]), split)
        for where, row, question in read:
            if question:
                text = f"{text_field(row, 'fact1', where)} {question.answer_text}"
                annotations[question.id] = Rationale(question_id=question.id, index=0, text=text, saw_gold=True)
    return DataSet(
        name="openbookqa",
        paper_name="OpenbookQA",
        **_roles(questions),
        passages=_passages(facts, "fact"),
        annotations=annotations,
        notes=[KNEW_GOLD, KNEW_QUESTIONS, *([] if "test" in questions else [REPORTS_DEV]), *notes],
        rows={split: len(rows) for split, rows in splits.items()},
    )


def _openbookqa_question(row: dict[str, Any], where: str, seen: Seen) -> Question | None:
    """The question of a row, or None where two of its options are the same."""
    identifier = id_field(row, "id", where)
    seen.add(identifier, where)
    block = as_object(present(row, "question", where), "question", where)
    choices = present(block, "choices", f"{where}: question")
    if not isinstance(choices, list) or not choices:
        raise KardError(f"{where}: field question.choices: a list of options was expected")
    choices = [as_object(choice, "question.choices", where) for choice in choices]
    options = [text_field(choice, "text", f"{where}: question.choices") for choice in choices]
    labels = [text_field(choice, "label", f"{where}: question.choices") for choice in choices]
    answer = letter_index(text_field(row, "answerKey", where), labels, "answerKey", where)
    stem = text_field(block, "stem", f"{where}: question")
    if repeated(options):
        return None
    return make_question(identifier, stem, options, answer, where)


def read_strategyqa(folder: Path) -> DataSet:
    """StrategyQA: ``train.json`` and ``paragraphs.json``; three in ten questions, by hash, are the reported part.

    Raises:
        KardError: names the file, the line and the field of the first fault.
    """
    seen, annotations = Seen(), {}
    questions: dict[str, list[Question]] = {"train": [], "test": []}
    for where, _, row in json_entries(folder / "train.json", "["):
        question = _strategyqa_question(row, where, seen)
        text = " ".join(texts_field(row, "facts", where))
        annotations[question.id] = Rationale(question_id=question.id, index=0, text=text, saw_gold=True)
        reported = hash_share(question.id, "strategyqa reported") < REPORTED_SHARE
        questions["test" if reported else "train"].append(question)
    return DataSet(
        name="strategyqa",
        paper_name="StrategyQA",
        train=questions["train"],
        dev=[],
        test=questions["test"],
        test_split="train (held out 3:7)",
        passages=_strategyqa_passages(folder / "paragraphs.json"),
        annotations=annotations,
        notes=[
            KNEW_GOLD,
            KNEW_QUESTIONS,
            OWN_SPLIT,
        ],
        rows={"labelled": sum(map(len, questions.values()))},
    )


def _strategyqa_question(row: dict[str, Any], where: str, seen: Seen) -> Question:
    identifier = id_field(row, "qid", where)
    seen.add(identifier, where, "qid")
    answer = present(row, "answer", where)
    if not isinstance(answer, bool):
        raise KardError(f"{where}: field answer: true or false was expected, not {answer!r}")
    question = make_question(identifier, text_field(row, "question", where), ("yes", "no"), 0 if answer else 1, where)
    return question.model_copy(update={"meta": {"evidence": sorted(_evidence(row.get("evidence", [])))}})


def _evidence(annotated: Any) -> set[str]:
    """Ids of the paragraphs that any annotator named, wherever they stand in the nested lists of steps."""
    if isinstance(annotated, str):
        return set() if annotated in ("no_evidence", "operation") else {annotated}
    return set().union(*map(_evidence, annotated)) if isinstance(annotated, list) else set()


def _strategyqa_passages(path: Path) -> list[Passage]:
    seen, passages = Seen(), []
    for where, key, row in json_entries(path, "{"):
        seen.add(key, where)
        text = f"{text_field(row, 'title', where)}. {text_field(row, 'content', where)}"
        passages.append(Passage(id=key, text=text))
    return passages


def read_medqa(folder: Path, base: PassageSource | None = None) -> DataSet:
    """MedQA-USMLE with four options, and MedQuAD's answers in paragraphs as its knowledge base.

    Questions have no ids of their own: a hash of stem and options stands in, so that the same question has the same id
    in every file. MedQuAD is looked for in the folder and beside it: ``medquad/qa.jsonl.gz``, a question and answer a
    row, of which ``focus`` and ``answer`` are read.

    Args:
        base: takes the place of MedQuAD, which is not needed then.

    Raises:
        KardError: names the file, the line and the field of the first fault.
    """
    files = {"train": _first(folder, MEDQA_TRAIN), "dev": _first(folder, MEDQA_DEV)}
    if any((folder / name).exists() for name in MEDQA_TEST):
        files["test"] = _first(folder, MEDQA_TEST)
    notes = ["the knowledge base is MedQuAD's answers; the paper's is Wikipedia"]
    if files["train"].name == "train_partial.jsonl":
        notes.append("train is a part of the publisher's train split")
    questions, drops, rows = _medqa_splits(files)
    return DataSet(
        name="medqa",
        paper_name="MedQA-USMLE",
        **_roles(questions),
        passages=_passages(_medquad_paragraphs(folder), "medquad") if base is None else base,
        notes=[*notes, *drops, *([] if "test" in questions else [REPORTS_DEV])],
        rows=rows,
    )


def _medqa_splits(files: dict[str, Path]) -> tuple[dict[str, list[Question]], list[str], dict[str, int]]:
    """Questions of each split, every one once, notes about the dropped ones, and how many rows the files have."""
    notes: list[str] = []
    first_of: set[str] = set()
    questions: dict[str, list[Question]] = {}
    counts: dict[str, int] = {}
    # The reported questions come first: one that train repeats is dropped from train.
    for split in reversed(files):
        rows = [_medqa_question(row, where) for where, row in _file_rows(files[split])]
        kept = {question.id: question for question in rows if question and question.id not in first_of}
        first_of |= kept.keys()
        questions[split] = list(kept.values())
        notes += _dropped(len(rows) - len(kept), split)
        counts[split] = len(rows)
    return questions, notes, counts


def _first(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise KardError(f"{folder / names[0]}: no such file (nor {', '.join(names[1:])})")


def _medqa_question(row: dict[str, Any], where: str) -> Question | None:
    """The question of a row, or None where two of its options are the same."""
    stem = text_field(row, "question", where)
    block = as_object(present(row, "options", where), "options", where)
    if not block:
        raise KardError(f"{where}: field options: it is empty")
    options = [text_field(block, label, f"{where}: options") for label in block]
    answer = letter_index(text_field(row, "answer_idx", where), list(block), "answer_idx", where)
    if repeated(options):
        return None
    return make_question(f"medqa-{fingerprint(stem, options)}", stem, options, answer, where)


def medquad_folder(folder: Path) -> Path:
    """Where MedQuAD's files are: in MedQA's folder or beside it."""
    beside = folder.parent / "medquad"
    return beside if beside.is_dir() and not (folder / "medquad").is_dir() else folder / "medquad"


def _medquad_paragraphs(folder: Path) -> Iterator[str]:
    medquad = medquad_folder(folder) / "qa.jsonl.gz"
    if not medquad.exists():
        raise KardError(f"{medquad}: no such file (MedQuAD's pairs); -p index=FOLDER takes other passages instead")
    for where, row in gzip_rows(medquad):
        # A few of MedQuAD's answers have an empty focus.
        title = f"{text_field(row, 'focus', where)}. " if present(row, "focus", where) != "" else ""
        for paragraph in paragraphs(text_field(row, "answer", where)):
            yield title + paragraph


def paragraphs(text: str, most: int = PARAGRAPH_WORDS) -> list[str]:
    """Cut a text into paragraphs of at most ``most`` words, at ends of sentences; only a longer sentence is cut."""
    parts: list[list[str]] = [[]]
    for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
        words = sentence.split()
        while words:
            if parts[-1] and len(parts[-1]) + len(words) > most:
                parts.append([])
            parts[-1] += words[:most]
            words = words[most:]
    return [" ".join(part) for part in parts if part]


def _roles(questions: dict[str, list[Question]]) -> dict[str, Any]:
    """The publisher's splits by role: without a test split, dev is reported and no dev part is left."""
    if "test" in questions:
        return {**questions, "test_split": "test"}
    return {"train": questions["train"], "dev": [], "test": questions["dev"], "test_split": "dev"}


def _passages(texts: Iterable[str], prefix: str) -> list[Passage]:
    """Passages of the texts, without blank and repeated ones, numbered from 0 in the order they first come."""
    unique = dict.fromkeys(text.strip() for text in texts)
    unique.pop("", None)
    return [Passage(id=f"{prefix}-{number:05d}", text=text) for number, text in enumerate(unique)]


def _dropped(count: int, split: str) -> list[str]:
    """A note about rows that the publisher's files hold and the set does not, or none."""
    reason = "two options are the same, or the question occurs twice"
    return [f"rows of {split} dropped: {count} ({reason})"] if count else []
