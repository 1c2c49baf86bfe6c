"""``kard index build``, ``kard index doctor`` and ``kard candidates``: text into passages, index and candidates.

A folder that ``kard index build`` has made holds ``passages`` (the knowledge base) and ``index``; ``kard candidates``
adds ``candidates``. Everything heavy is imported when a command runs.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import KardError

if TYPE_CHECKING:
    from .knowledge_base import KnowledgeBase
    from .knowledge_base_sources import Choices


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``index`` and ``candidates`` to the subcommands of ``kard``."""
    text = "knowledge bases and their index: build one, check one"
    index = commands.add_parser("index", help=text, description=text, allow_abbrev=False)
    actions = index.add_subparsers(required=True, metavar="ACTION")
    _build_options(actions)
    text = "is an index sound, and does it belong to its passages? Prints one line a check"
    doctor = actions.add_parser("doctor", help=text, description=text, allow_abbrev=False)
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("folder", type=Path, help="what kard index build has made")
    _candidates_options(commands)


def _build_options(actions: argparse._SubParsersAction) -> None:
    text = "make passages of text and an index of them; says first what it takes"
    build = actions.add_parser("build", help=text, description=text, allow_abbrev=False)
    build.set_defaults(command=_build)
    build.add_argument("sources", nargs="+", metavar="SOURCE", help="a file or folder with text, JSONL or Parquet; a "
                       "knowledge base; set:strategyqa; hub:wikimedia/wikipedia:20231101.en; several, each as "
                       "NAME=SOURCE, are merged, and ids begin with NAME/; =SOURCE keeps its ids")  # fmt: skip
    build.add_argument("out", type=Path, metavar="OUT", help="folder to be made")
    build.add_argument("--rule", choices=("paragraphs", "windows", "whole"), default="paragraphs",
                       help="what is a passage: each line (the default), each N words, a whole document")  # fmt: skip
    build.add_argument("--words", type=int, metavar="N", help="words of a window; default 100")
    build.add_argument(
        "--min-words", type=int, metavar="N", help="drop shorter pieces; default 10, windows 20, whole 0"
    )
    for name in ("id", "title", "text"):
        build.add_argument(f"--{name}-field", metavar="FIELD", help=f"the field of a row that holds its {name}")
    build.add_argument("--name", default="", help="how tables call it; the source's name by default")
    build.add_argument("--licence", default="", help="of the text; goes into the manifest")
    _index_options(build)
    build.add_argument("--again", action="store_true", help="make passages and index anew, whatever is there")
    build.add_argument("--dry-run", action="store_true", help="make the passages, say what the index takes, and stop")
    _parameter_option(build)


def _index_options(build: argparse.ArgumentParser) -> None:
    build.add_argument("--analysis", choices=("plain", "lucene"), default="plain", help="how text becomes terms")
    build.add_argument("--lengths", default="exact", help="how a passage's length is counted: exact, or lucene")
    build.add_argument("--k1", type=float, default=0.9, help="of BM25; default 0.9")
    build.add_argument("--b", type=float, default=0.4, help="of BM25; default 0.4")
    build.add_argument("--shard-passages", type=int, metavar="N", help="passages of a shard; memory follows it")
    build.add_argument("--workers", type=int, metavar="N", help="processes; one a core by default")


def _candidates_options(commands: argparse._SubParsersAction) -> None:
    text = "find the best passages of every query once; what is stored is not searched for again"
    parser = commands.add_parser("candidates", help=text, description=text, allow_abbrev=False)
    parser.set_defaults(command=_candidates)
    parser.add_argument("folder", type=Path, help="what kard index build has made")
    parser.add_argument("queries", type=Path, nargs="?", help="JSONL with the fields id and text; or -p dataset=NAME")
    parser.add_argument("--to", type=Path, metavar="DIR", help="where they are stored; default FOLDER/candidates")
    parser.add_argument("--depth", type=int, default=300, metavar="N", help="passages kept of each; default 300")
    parser.add_argument("--rationales", choices=("train", "all", "none"), default="train",
                        help="which of the set's own rationales are queries too; all is for oracle rows")  # fmt: skip
    _parameter_option(parser)


def _parameter_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE",
                        help="of the data set: dataset=strategyqa, data_dir=FOLDER; may be repeated")  # fmt: skip


def _parameters(options: argparse.Namespace) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in options.parameters:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise KardError(f"-p {text}: name=value was expected")
        if name in given:
            raise KardError(f"parameter {name!r}: given twice")
        given[name] = value
    return given


def _choices(options: argparse.Namespace) -> Choices:
    from .documents import FIELDS
    from .knowledge_base_sources import Choices
    from .passage_rules import RULES, PassageRule
    from .records import parse_record

    usual = RULES[options.rule]
    if options.words is not None and options.rule != "windows":
        raise KardError(f"--words: the rule {options.rule} has none; --rule windows has")
    words = usual.words if options.words is None else options.words
    min_words = usual.min_words if options.min_words is None else options.min_words
    rule = parse_record({"kind": options.rule, "words": words, "min_words": min_words}, PassageRule, "--rule")
    named = {name: getattr(options, f"{name}_field") for name in ("id", "title", "text")}
    fields = FIELDS.model_copy(update={name: (field,) for name, field in named.items() if field})
    return Choices(rule, fields, options.name, options.licence, _parameters(options), options.again)


def _build(options: argparse.Namespace, rest: list[str]) -> int:
    from .index_build import check_choices
    from .index_folder import PASSAGES
    from .knowledge_base_sources import make_knowledge_base, spec_of

    check_choices(options.k1, options.b, options.lengths, options.shard_passages)  # before hours of reading
    specs = [spec_of(text) for text in options.sources]
    base = make_knowledge_base(options.out / PASSAGES, specs, _choices(options))
    print(f"{base.manifest}; {base.folder}")
    return _index(base, options)


def _index(base: KnowledgeBase, options: argparse.Namespace) -> int:
    from .analysis import ANALYSES
    from .index_build import build_index
    from .index_estimate import estimate_index
    from .index_folder import INDEX

    folder = options.out / INDEX
    settings = {"analysis": ANALYSES[options.analysis], "k1": options.k1, "b": options.b, "lengths": options.lengths}
    if not options.again and _is_of(folder, base, settings):
        print(f"index: it is there already; {folder}")
        return 0
    work = {"shard_passages": options.shard_passages, "workers": options.workers}
    estimate = estimate_index(base, settings["analysis"], **work)
    print(f"index: {estimate.line}")
    if options.dry_run:
        return 0
    free = shutil.disk_usage(base.folder).free / 1e6
    if estimate.disk_mb > free:
        raise KardError(f"{folder}: {free:,.0f} MB of disk are free, about {estimate.disk_mb:,.0f} MB are needed")
    build_index(base, folder, **settings, **work)
    return _told(base, options.out, whole=False)  # its files and passages were hashed as they were written


def _is_of(folder: Path, base: KnowledgeBase, settings: Mapping[str, Any]) -> bool:
    """Whether the index is there, whole, and what would be built."""
    from .index import Index
    from .index_manifest import MANIFEST

    if not (folder / MANIFEST).is_file():
        return False
    try:
        Index.open(folder, base, **settings)
    except KardError:
        return False
    return True


def _doctor(options: argparse.Namespace, rest: list[str]) -> int:
    from .index_folder import PASSAGES
    from .knowledge_base import KnowledgeBase

    return _told(KnowledgeBase.open(options.folder / PASSAGES), options.folder, whole=True)


def _told(base: KnowledgeBase, folder: Path, whole: bool) -> int:
    """One line a check, the candidates' with them; 1 where one has failed."""
    from .index_doctor import index_doctor
    from .index_folder import INDEX

    findings = [*index_doctor(folder / INDEX, base, whole=whole), *_candidates_found(folder)]
    for name, fine, line in findings:
        print(f"{'ok  ' if fine else 'FAIL'} {name}: {line}")
    return 0 if all(fine for _, fine, _ in findings) else 1


def _candidates_found(folder: Path) -> Iterator[tuple[str, bool, str]]:
    from .candidate_store import CandidateStore
    from .index_folder import CANDIDATES, INDEX
    from .index_key import index_key
    from .index_manifest import read_manifest

    if not (folder / CANDIDATES).is_dir():
        return
    try:
        store = CandidateStore(folder / CANDIDATES, index_key(read_manifest(folder / INDEX)))
        others = sum(path.is_dir() and path != store.folder for path in store.folder.parent.iterdir())
    except KardError as error:
        yield "candidates", False, str(error)
    else:
        of_others = f"; {others} more folders are of other indexes" if others else ""
        yield "candidates", True, f"{len(store):,} queries are stored{of_others}"


def _candidates(options: argparse.Namespace, rest: list[str]) -> int:
    from .candidate_queries import dataset_queries, file_queries
    from .candidate_store import CandidateStore
    from .index_folder import CANDIDATES, opened
    from .index_key import index_key
    from .presets import resolve
    from .readers import read_dataset

    given = _parameters(options)
    if (options.queries is None) == ("dataset" not in given):
        raise KardError("kard candidates: a file of queries, or -p dataset=NAME, was expected (one of them)")
    if options.queries is not None:
        queries = file_queries(options.queries)
    else:
        queries = dataset_queries(read_dataset(resolve(**{"preset": "laptop", **given})), options.rationales)
    index = opened(options.folder)
    store = CandidateStore(options.to or options.folder / CANDIDATES, index_key(index.manifest))
    added = store.add_missing(queries, index, options.depth, progress=True)
    print(f"{len(queries):,} queries, {added:,} of them searched for; {len(store):,} are stored in {store.folder}")
    return 0
