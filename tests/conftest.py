"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("KARD_TEST_DEVICES", "")  # they build their tensors on the CPU

import torch
from tiny import save_random

from kardlib.bm25 import BM25
from kardlib.mini import MiniSet, make_mini_medqa
from kardlib.pretrain import SMALL_WORLD

if TYPE_CHECKING:
    from kardlib.reranker import LateInteraction

torch.set_num_threads(1)


@pytest.fixture
def data_dir() -> Path:
    """The folder with the real question sets; tests that need it are skipped where KARD_DATA does not name one."""
    folder = os.environ.get("KARD_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("KARD_DATA names no folder with the real question sets")
    return Path(folder)


@pytest.fixture(scope="session")
def mini() -> MiniSet:
    """A small mini set of the development inventory."""
    return make_mini_medqa(11, "development", {"train": 60, "dev": 20, "test": 20}, SMALL_WORLD)


@pytest.fixture(scope="session")
def search(mini: MiniSet) -> BM25:
    """BM25 over the passages of ``mini``."""
    return BM25(mini.passages)


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random T5 of one layer."""
    return save_random("seq2seq", tmp_path_factory.mktemp("models") / "tiny-t5")


@pytest.fixture(scope="session")
def tiny_opt(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random OPT of one layer."""
    return save_random("causal", tmp_path_factory.mktemp("models") / "tiny-opt")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random BERT of one layer."""
    return save_random("encoder", tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(params=["seq2seq", "causal"])
def base(request: pytest.FixtureRequest, tiny_t5: str, tiny_opt: str) -> str:
    """A tiny student of either family."""
    return tiny_t5 if request.param == "seq2seq" else tiny_opt


@pytest.fixture(scope="module")
def encoder(tiny_bert: str) -> LateInteraction:
    from kardlib.reranker import LateInteraction

    return LateInteraction(tiny_bert)


@pytest.fixture(scope="module")
def texts(mini: MiniSet) -> dict[str, str]:
    """Passages of very different lengths."""
    short = {p.id: p.text for p in mini.passages[:40]}
    return short | {f"long{i}": " ".join(list(short.values())[i : i + 4]) for i in range(10)}
