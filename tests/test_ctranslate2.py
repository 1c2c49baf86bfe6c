"""CTranslate2 writes what transformers writes, or does not write at all."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import smallest_runs
from tiny_formats import save_t5_v1_1

from kardlib import ctranslate2_engine, ctranslate2_export
from kardlib.ctranslate2_engine import CTranslate2Generator
from kardlib.decoding import TOP_K, TOP_P
from kardlib.engines import generator_of
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.generate import Generator
from kardlib.mini import MiniSet
from kardlib.presets import resolve
from kardlib.prompts import ANSWER_MARK, build_prompt

pytest.importorskip("ctranslate2")


@pytest.fixture(scope="module")
def prompts(mini: MiniSet) -> list[str]:
    """Nine prompts of uneven length."""
    return [build_prompt(q, [p.text for p in mini.passages[: i % 4]]) for i, q in enumerate(mini.splits["test"][:9])]


@pytest.fixture(scope="module", params=["t5", "t5 v1.1"])
def folder(request: pytest.FixtureRequest, tiny_t5: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_t5 if request.param == "t5" else save_t5_v1_1(tmp_path_factory.mktemp("formats") / "t5-v1_1-tiny")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the artefacts: each checkpoint is exported once for the whole file."""
    return tmp_path_factory.mktemp("artefacts")


def told(folder: str, root: Path, batch: int = 4, tokens: int = 10) -> tuple[CTranslate2Generator, list[str]]:
    lines: list[str] = []
    return CTranslate2Generator(folder, 256, tokens, batch, root=root, tell=lines.append), lines


def test_texts_are_those_of_transformers(folder: str, prompts: list[str], root: Path) -> None:
    usual = Generator(folder, 256, 10)
    forced = [f"bordema and kilalgy fit {'well ' * (i % 3)}. {ANSWER_MARK}" for i in range(len(prompts))]
    generator, lines = told(folder, root)
    assert generator.greedy(prompts) == usual.greedy(prompts) and not lines
    assert generator._translator is not None, "transformers wrote: this test would see nothing"
    assert generator.greedy(prompts, forced) == usual.greedy(prompts, forced)
    options = [q.split()[:4] for q in prompts]
    assert generator.likeliest(prompts, forced, options) == usual.likeliest(prompts, forced, options)
    first, lines = told(folder, root)
    assert first.greedy(prompts, forced) == usual.greedy(prompts, forced) and not lines, "a check on forced texts"


def test_samples_depend_on_the_seed_alone(folder: str, prompts: list[str], root: Path) -> None:
    generator, lines = told(folder, root)
    first = generator.sample(prompts, seed=0)
    generator.greedy(prompts[:2])
    assert generator.sample(prompts, seed=0) == first != generator.sample(prompts, seed=1)
    assert told(folder, root)[0].sample(prompts, seed=0) == first and not lines
    assert [len(texts) for texts in first] == [5] * len(prompts)
    assert any(len(set(texts)) > 1 for texts in first)


def test_samples_have_the_authors_distribution(folder: str, prompts: list[str], root: Path) -> None:
    """The first token of many samples against the model's own probabilities, cut at 50 tokens and 95 %."""
    generator, draws, found = told(folder, root, tokens=1)[0], 12_000, Counter[str]()
    for seed in range(6):
        found.update(generator.sample(prompts[:1], seed, draws // 6)[0])
    assert generator._translator is not None
    model, tokenizer = generator._model, generator.tokenizer
    with torch.inference_mode():
        ids, start = torch.tensor(generator._encoded(prompts[:1])), torch.tensor([[0]])
        logits, tokens = model(input_ids=ids, decoder_input_ids=start).logits[0, -1].topk(TOP_K)
    shares = logits.softmax(-1)
    kept = int((shares.cumsum(-1) - shares < TOP_P).sum())  # the token that crosses 95 % still counts
    expected: Counter[str] = Counter()
    for token, share in zip(tokens[:kept].tolist(), (shares[:kept] / shares[:kept].sum()).tolist(), strict=True):
        expected[tokenizer.decode([token], skip_special_tokens=True).strip()] += share
    assert len(expected) > 3, "an all but certain token would show nothing"
    apart = sum(abs(found[text] / draws - expected[text]) for text in {*found, *expected}) / 2
    assert set(found) <= set(expected)
    assert apart < 0.04, "total variation; chance alone gives 0.4 sqrt(tokens / draws), that is up to 0.026"


def test_an_export_is_made_once(tiny_t5: str, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = ctranslate2_export.exported(tiny_t5, root)
    made: list[Path] = []
    monkeypatch.setattr(ctranslate2_export, "_convert", lambda folder, out: (made.append(out), out.mkdir()))
    moved = tmp_path / Path(tiny_t5).name
    shutil.copytree(tiny_t5, moved)
    assert ctranslate2_export.exported(str(moved), root) == first and not made, "the same bytes under the same name"
    (moved / "model.safetensors").write_bytes((moved / "model.safetensors").read_bytes() + b"\0")
    assert ctranslate2_export.exported(str(moved), root) != first and len(made) == 1
    monkeypatch.setattr(ctranslate2_export.metadata, "version", lambda name: "99.0")
    assert ctranslate2_export.exported(tiny_t5, root) != first and len(made) == 2
    assert json.loads((first.parent / "key.json").read_text())["checkpoint"][0] == Path(tiny_t5).name


def wrong_weights(folder: str, root: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[str]) -> str:
    other = save_t5_v1_1(root / "other")
    export = ctranslate2_export.exported(other, root)
    monkeypatch.setattr(ctranslate2_engine, "exported", lambda *given: export)
    return "greedy texts differ"


def wrong_temperature(folder: str, root: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[str]) -> str:
    """What a converter makes that scales the output of T5 1.1: the same greedy texts, other samples."""
    monkeypatch.setattr(ctranslate2_engine.Generator, "_seq2seq_scores", halved(Generator._seq2seq_scores))
    return "nats a token"


def halved(score: Callable[..., list[list[float]]]) -> Callable[..., list[list[float]]]:
    return lambda self, *given: [[value / 2 for value in row] for row in score(self, *given)]


def unreadable(folder: str, root: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[str]) -> str:
    (root / "empty").mkdir(exist_ok=True)
    monkeypatch.setattr(ctranslate2_engine, "exported", lambda *given: root / "empty")
    return "model.bin"


@pytest.mark.parametrize("damage", [wrong_weights, wrong_temperature, unreadable])
def test_where_it_is_not_the_same_transformers_writes_and_one_line_says_so(
    damage: Callable[..., str], tiny_t5: str, prompts: list[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Generator(tiny_t5, 256, 10, batch=4).sample(prompts, seed=3)
    reason = damage(tiny_t5, root, monkeypatch, prompts)
    generator, lines = told(tiny_t5, root)
    assert generator.sample(prompts, seed=3) == expected
    assert generator.greedy(prompts) == Generator(tiny_t5, 256, 10).greedy(prompts)
    assert len(lines) == 1 and reason in lines[0] and "tiny-t5" in lines[0] and "\n" not in lines[0]


def test_the_output_layer_of_t5_v1_1_is_not_scaled(root: Path, tmp_path: Path, prompts: list[str]) -> None:
    """A scale would leave greedy texts as they are and make samples all but random."""
    generator, lines = told(save_t5_v1_1(tmp_path / "t5-v1_1"), root)
    texts = generator.greedy(prompts)
    assert not lines and generator._likelihood_gap(prompts, texts) < 1e-4
    scaled = generator._model.config.d_model**-0.5
    generator._model.lm_head.weight.data *= scaled  # as if it were
    assert generator._likelihood_gap(prompts, texts) > ctranslate2_engine.TOLERANCE


def test_the_engine_of_the_settings_answers(tiny_t5: str, tmp_path: Path) -> None:
    name = "Base model with passages, untrained"
    with smallest_runs(tmp_path, {"train": 8, "dev": 4, "test": 5}):
        usual = Experiment(resolve("mini", size="smoke", student=tiny_t5, seeds=(0,), target_tokens=8))
        other = usual.with_settings(engine="ctranslate2")
        assert other.predictions(name, 0) == usual.predictions(name, 0)
        assert len(list((tmp_path / "artefacts" / "ctranslate2").glob("*/model/model.bin"))) == 1
        folders = {e.folder("predictions", name=name, seed=0) for e in (usual, other)}
        assert len(folders) == 2 and all((folder / "predictions.jsonl").is_file() for folder in folders)


def test_a_causal_student_is_left_to_transformers(tiny_opt: str, prompts: list[str], root: Path) -> None:
    generator, lines = told(tiny_opt, root)
    assert generator.greedy(prompts) == Generator(tiny_opt, 256, 10).greedy(prompts)
    assert len(lines) == 1 and "no encoder-decoder" in lines[0]


def test_without_the_package_it_is_one_line(tiny_t5: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(generator_of("ctranslate2", tiny_t5, 256, 8, root)) is CTranslate2Generator
    monkeypatch.setattr(ctranslate2_export.util, "find_spec", lambda name: None)
    with pytest.raises(KardError, match="ctranslate2: the package is not installed"):
        generator_of("ctranslate2", tiny_t5, 256, 8, root)


def test_a_model_of_the_hub_is_known_by_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(ctranslate2_export, "load_config", asked.append)
    for commit in ("4f2a", "77b0"):
        cached = f"/hub/models--some--t5/snapshots/{commit}/config.json"
        monkeypatch.setattr(ctranslate2_export, "try_to_load_from_cache", lambda *_, cached=cached: cached)
        assert ctranslate2_export._content("some/t5") == ["some/t5", commit]
    assert asked == ["some/t5"] * 2
