"""``kard ask``: one question to a folder that ``kard export`` has made. Heavy imports wait until it runs."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .answering import Answer

WIDTH = 100


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``ask`` to the subcommands of ``kard``."""
    text = "ask a trained student: passages, rationale and answer; nothing leaves this machine"
    parser = commands.add_parser("ask", help=text, description=text, allow_abbrev=False)
    parser.set_defaults(command=_ask)
    parser.add_argument("folder", type=lambda text: Path(text).expanduser(), help="what kard export has made")
    parser.add_argument("question", help="without its options")
    parser.add_argument("--option", dest="options", action="append", default=[], metavar="TEXT",
                        help="an answer to choose from; two to ten of them. Without any the answer is free text, or "
                        "yes or no where that is the task")  # fmt: skip
    parser.add_argument("--passages", type=int, default=0, metavar="N",
                        help="passages that the student reads; as many as in training by default")  # fmt: skip
    parser.add_argument(
        "--index",
        type=lambda text: text and str(Path(text).expanduser()),
        default="",
        metavar="FOLDER",
        help="where the index is now, if it has been moved",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def _ask(options: argparse.Namespace, rest: list[str]) -> int:
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    from .answering import Answerer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    answer = Answerer(options.folder, options.index).ask(options.question, options.options, options.passages)
    print(answer.model_dump_json(indent=1) if options.format == "json" else page(answer))
    return 0


def page(answer: Answer) -> str:
    """An answer as one reads it: passages, rationale, answer, options with their scores, notes."""
    return "\n\n".join("\n".join(section) for section in _sections(answer))


def _sections(answer: Answer) -> Iterator[list[str]]:
    from .prompts import LETTERS

    if answer.passages:
        yield ["Passages", *(line for i, _ in enumerate(answer.passages) for line in _passage(answer, i))]
    if answer.rationale:
        yield ["Rationale", *_lines(answer.rationale)]
    said = answer.answer or "(nothing was written)"
    if answer.chosen is not None:
        named = "" if answer.parsed == answer.chosen else f"  (as written: {said})"
        said = f"({LETTERS[answer.chosen]}) {answer.options[answer.chosen]}{named}"
    elif answer.options:
        said += "  (this names no option)"
    yield ["Answer", *_lines(said)]
    if answer.scores:
        lines = [
            f"  {score:8.3f}  ({LETTERS[i]}) {option}"
            for i, (score, option) in enumerate(zip(answer.scores, answer.options, strict=True))
        ]
        yield ["Options, mean log-likelihood of a token in nats", *lines]
    if answer.notes:
        yield ["Notes", *(line for note in answer.notes for line in _lines(note))]


def _passage(answer: Answer, place: int) -> list[str]:
    found = answer.passages[place]
    beside = "" if found.score == found.bm25 else f", BM25 {found.bm25:.2f}"
    return [f"  [{place + 1}] {found.id}  (score {found.score:.2f}{beside})", *_lines(found.text, 6)]


def _lines(text: str, indent: int = 2) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent) or [""]
