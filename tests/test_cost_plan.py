"""Costs beforehand: counts and lengths, what a step comes to at given rates, the page, and calibration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import torch

from kardlib import calibration, cost_plan, sample_lengths, step_costs, student_fit, training_steps
from kardlib.calibration import Rates, calibrated, product_rate, rates_file, trains_in_bf16
from kardlib.devices import OwnDevice, own_device, sheet_of, sheets
from kardlib.errors import KardError
from kardlib.jobs import Job, step_memory
from kardlib.methods import METHODS, TRAININGS
from kardlib.model_flops import example_flops, prompt_flops
from kardlib.model_shape import config_of, shape_of
from kardlib.plan import main_cells, plan
from kardlib.presets import Settings, resolve
from kardlib.prompts import Pair
from kardlib.published_counts import PUBLISHED
from kardlib.reranker_lora import Lora
from kardlib.sample_lengths import published_questions, sample_of
from kardlib.step_costs import Work, cost
from kardlib.step_work import SEARCHES, work_of
from kardlib.student_lora import lora_parameters
from kardlib.training_memory import largest_batch, safe_bytes, training_bytes

GB = 1e9
RATES = Rates(
    device="a processor", model="m", measured=date(2020, 1, 1), torch="2", bf16=False, product=2e12, product_fp32=1e12,
    training=1e12, turn=2e-9, update=1e-9, reading=5e11, writing=1e10, token=3e-9, share=0.4, how="by hand",
)  # fmt: skip


REAL = os.environ.get("KARD_DATA", "")
"""Read before the tests forget it."""


@pytest.fixture
def real_data() -> Path:
    if not REAL or not Path(REAL).is_dir():
        pytest.skip("KARD_DATA names no folder with the real question sets")
    return Path(REAL)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KARD_TEACHER_STORE", str(tmp_path / "teacher"))
    monkeypatch.delenv("KARD_DATA", raising=False)
    sample_of.cache_clear()
    yield tmp_path / "runs"
    sample_of.cache_clear()


def told(**change: object) -> Settings:
    return resolve("paper", **change)


# --- counts and lengths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_without_data_the_published_counts_are_taken_and_lengths_are_called_assumed(dataset: str) -> None:
    settings = told(dataset=dataset, data_dir="")
    sample = sample_of(settings)
    assert sample.questions == published_questions(dataset) and sample.passages is None
    assert len(sample.notes) == 1 and "assumed" in sample.notes[0]
    assert set(sample.training) == set(TRAININGS) and set(sample.asked) == {row.name for row in METHODS}
    for lengths in (*sample.training.values(), *sample.asked.values()):
        assert all(0 < s <= settings.source_tokens and 0 < t <= settings.target_tokens for s, t in lengths)


def test_the_questions_of_the_paper_are_all_there_whoever_gets_them() -> None:
    assert sum(published_questions("strategyqa").values()) == 2290
    assert published_questions("strategyqa")["test"] == 687
    assert published_questions("medqa") == {"train": 10178, "dev": 1272, "test": 1273}
    assert published_questions("openbookqa") == {"train": 4957, "dev": 500, "test": 500}


def test_lengths_are_those_of_the_texts_that_students_read() -> None:
    settings = resolve("mini", size="smoke", seeds=0)
    sample = sample_of(settings)
    assert sample.notes == (f"lengths of {sample.questions['train']} training questions of 96",)
    rd, kard, bare = (sample.training[name] for name in ("Reasoning Distillation", "KARD", "Fine-tuning"))
    for (short, one), (long, same), (_, answer) in zip(rd, kard, bare, strict=True):
        assert short < long <= settings.source_tokens and one == same > answer
    assert sample.asked["CoT from teacher (oracle)"][0][1] < sample.asked["Reasoning Distillation"][0][1]
    assert max(s for s, _ in sample.asked["KA Few-shot + CoT"]) <= settings.source_tokens


def test_files_in_part_lend_their_lengths_to_the_published_counts(real_data: Path, tmp_path: Path) -> None:
    sample = sample_of(told(dataset="openbookqa", data_dir=str(real_data)))
    assert sample.questions == published_questions("openbookqa")
    assert any(note.startswith("counts as published, lengths from files in part") for note in sample.notes)
    assert any("rationales of 60 words each are assumed" in note for note in sample.notes)
    assert not (tmp_path / "teacher").exists()  # looking for rationales makes no store
    laptop = sample_of(resolve("laptop", dataset="openbookqa", data_dir=str(real_data)))
    assert laptop.questions["train"] + laptop.questions["dev"] < 4957
    assert not any("published" in note for note in laptop.notes)


def test_a_set_of_ones_own_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KardError, match="no such file"):
        sample_of(resolve("laptop", dataset="own", data_dir=str(tmp_path)))


# --- what a step comes to ---------------------------------------------------------------------------------------------


def one_length(act: str, **change: object) -> Work:
    work = Work("train", "google/flan-t5-small", ((100, 20),), 640, 32)
    return replace(work, act=act, **change)  # type: ignore[arg-type]


def test_training_of_equal_examples_has_no_padding() -> None:
    shape = shape_of("google/flan-t5-small")
    found = cost(one_length("train"), shape, 80 * GB, False)
    assert found.flops == pytest.approx(640 * example_flops(shape, 100, 20).training())
    assert found.training == pytest.approx(found.flops) and found.updates == 20 and found.tokens == 640 * 120
    assert found.seconds(RATES) == pytest.approx(found.flops / 1e12 + 20 * shape.parameters * 3e-9)
    assert found.passes == 20


def test_padding_takes_time_and_is_no_operation_of_the_examples() -> None:
    shape, lengths = shape_of("google/flan-t5-small"), tuple((s, 20) for s in range(20, 500, 7))
    found = cost(one_length("train", lengths=lengths), shape, 80 * GB, False)
    assert found.flops < found.training < 1.5 * found.flops


def test_checkpointing_where_memory_is_short_costs_a_third_more_at_most() -> None:
    shape, work = shape_of("google/flan-t5-base"), one_length("train", lengths=((512, 256),))
    roomy, tight = (cost(work, shape, memory * GB, False) for memory in (80, 8))
    assert roomy.fit and tight.fit and not roomy.fit.checkpointing and tight.fit.checkpointing
    assert roomy.training < tight.training < 4 / 3 * roomy.training
    assert tight.fit.batch * tight.fit.accumulation == work.batch
    assert tight.passes == pytest.approx(tight.updates * tight.fit.accumulation)


def test_a_students_own_settings_are_those_of_the_plan() -> None:
    """As ``training_steps.safe_options`` takes them: a largest part, checkpointing, few weights that are trained."""
    shape, work = shape_of("google/flan-t5-xl"), one_length("train", model="google/flan-t5-xl", lengths=((512, 100),))
    assert cost(work, shape, 24 * GB, False).fit is None
    trained = lora_parameters(shape, Lora())
    few = cost(replace(work, trained=trained), shape, 24 * GB, False)
    expected = largest_batch(shape, 32, 512, 100, 24 * GB, False, None, trained)
    assert few.fit == expected and expected is not None
    whole, less = (cost(w, shape, 80 * GB, False) for w in (work, replace(work, trained=trained, checkpointing=True)))
    assert less.fit and less.fit.checkpointing and less.trained == trained
    assert 0.64 < cost(replace(work, trained=trained), shape, 800 * GB, False).flops / whole.flops < 0.68
    part = cost(replace(work, most=4), shape, 800 * GB, False)
    assert part.fit and (part.fit.batch, part.fit.accumulation) == (4, 8)


def test_dapt_and_rag_take_a_batch_at_once_in_the_plan_too() -> None:
    settings = told(dataset="strategyqa", dapt="knowledge base")
    sample = sample_of(settings)
    for job in (Job("adapted", {"seed": 0}), Job("rag", {"seed": 0})):
        work = work_of(job, settings, replace(sample, passages=1000))
        assert isinstance(work, Work) and work.part == work.batch
        shape = shape_of(work.model)
        assert cost(work, shape, 800 * GB, False).fit and cost(work, shape, 6 * GB, False).fit is None


def test_what_does_not_go_in_is_told_and_has_its_operations_all_the_same() -> None:
    found = cost(one_length("train"), shape_of("google/flan-t5-xl"), 8 * GB, False)
    assert found.fit is None and found.flops > 0


def test_samples_and_scoring_cost_more() -> None:
    shape = shape_of("google/flan-t5-small")
    greedy, vote, scored = (
        cost(one_length("write", samples=n, options=o), shape, 80 * GB, False) for n, o in ((1, 0), (5, 0), (1, 4))
    )
    assert vote.writing == pytest.approx(5 * greedy.writing) and greedy.reading < vote.reading < 5 * greedy.reading
    assert scored.reading > greedy.reading and scored.writing == greedy.writing
    assert greedy.turns == pytest.approx(20 * 640 / 32)


def test_scoring_options_reads_no_prompt_twice() -> None:
    t5, opt = shape_of("google/flan-t5-small"), shape_of("facebook/opt-350m")
    for shape in (t5, opt):
        plain, scored = (cost(one_length("write", options=n), shape, 80 * GB, False) for n in (0, 4))
        assert scored.reading - plain.reading == pytest.approx(scored.flops - plain.flops)
    plain, scored = (cost(one_length("write", options=n), t5, 80 * GB, False) for n in (0, 4))
    decoder = example_flops(t5, 100, 20).forward - prompt_flops(t5, 100).forward
    assert scored.flops - plain.flops == pytest.approx(640 * decoder)


def test_a_reranker_pads_what_is_in_memory_as_it_comes_and_less_in_chunks() -> None:
    shape, lengths = shape_of("michiyasunaga/LinkBERT-base"), tuple((s, 0) for s in range(10, 250, 7))
    work = one_length("train", lengths=lengths, batch=144, unit=9, examples=1440, part=36, sorted=False)
    whole, chunked, easy = (
        cost(one, shape, 80 * GB, False) for one in (work, replace(work, chunk=8), replace(work, sorted=True))
    )
    assert whole.fit and (whole.fit.batch, whole.fit.accumulation) == (36, 4) and whole.passes == 40
    assert whole.flops == pytest.approx(chunked.flops) and easy.training < chunked.training < whole.training
    assert cost(work, shape, 2 * GB, False).fit is None, "the part is not made smaller"


def test_a_batch_of_prompts_is_halved_until_it_goes_in() -> None:
    shape = shape_of("google/flan-t5-small")
    roomy, tight, none = (cost(one_length("write"), shape, m * GB, False).fit for m in (80, 1.3, 1))
    assert roomy and roomy.batch == 32 and tight and tight.batch < 32 and none is None


def test_a_faster_sheet_takes_less_time_and_writing_at_least_reads_the_weights() -> None:
    shape = shape_of("google/flan-t5-base")
    train, write = (cost(one_length(act), shape, 80 * GB, True) for act in ("train", "write"))
    h100, a100, t4 = (sheet_of(name) for name in ("H100", "A100 80GB", "T4"))
    for one in (train, write):
        times = [one.projected(RATES, None, sheet) for sheet in (h100, a100, t4)]
        assert times == sorted(times) and times[0] > 0
    assert write.projected(RATES, None, a100) > write.turns * 4 * shape.parameters / 2.039e12
    # measured on the very device that is asked about, the projection gives back what was measured
    own = RATES.model_copy(update={"bf16": True})  # a part of the peak that its product does not reach either
    assert train.projected(own, a100, a100) == pytest.approx(
        train.training / (0.4 * own.product) + train.updates * shape.parameters * 28 / 2.039e12
    )


def test_every_step_of_the_main_table_has_its_work_or_needs_none() -> None:
    for settings in (told(dataset="medqa"), told(dataset="strategyqa", reranker_form="cross-encoder")):
        sample = sample_of(settings)
        for cell in main_cells(settings, ("greedy", "vote5")):
            work = work_of(cell.job, settings, sample)
            assert (work is None) == (cell.job.step in (*SEARCHES, "rationales")), cell.job
            assert work is None or (work.examples > 0 and work.batch % work.unit == 0)


def test_examples_are_questions_times_rationales_times_epochs() -> None:
    settings = told(dataset="medqa", l=5)
    sample = sample_of(settings)
    work = work_of(Job("student", {"training": "KARD", "seed": 0}), settings, sample)
    assert work is not None and work.examples == 10178 * 5 * 3 and work.batch == 32
    assert work_of(Job("verdicts"), settings, sample).examples == 10178 * 5  # type: ignore[union-attr]
    ranked = work_of(Job("reranked", {"seed": 0}), settings, sample)
    assert ranked is not None and ranked.examples == 1273 * 101  # no passage is known to come twice


def test_a_reader_behind_an_endpoint_is_asked_and_computes_nothing_here(measured: list[str]) -> None:
    page = plan(told(dataset="medqa", reader="openai"))
    line = next(line for line in page[page.index("Costs, before") :].splitlines() if "verdicts" in line)
    assert "asked of the teacher" in line


def test_a_small_model_is_projected_in_float32_and_a_large_one_in_bfloat16(tiny_t5: str) -> None:
    costs = cost_plan.Costs("A100 80GB")
    costs.own = OwnDevice("here", "cpu", 8 * GB)
    for name, peak in ((tiny_t5, 19.5e12), ("google/flan-t5-base", 312e12)):
        found = cost(one_length("train"), shape_of(name), 80 * GB, False)
        other, seconds = costs.there(found, RATES)
        update = other.updates * other.shape.parameters * 28 / 2.039e12
        assert seconds == pytest.approx(other.training / (0.4 * peak) + update)


def test_smoke_size_is_costed_as_smoke_without_files() -> None:
    assert sample_of(told(dataset="medqa", size="smoke", data_dir="")).questions == {"train": 96, "dev": 32, "test": 48}


def test_steps_side_by_side_share_a_cpus_memory_but_not_a_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARD_WORKERS", "4")
    memory = [step_memory(OwnDevice("x", kind, 8 * GB), told()) for kind in ("cpu", "cuda")]
    assert memory == [2 * GB, 8 * GB]


def test_a_student_is_trained_in_parts_that_memory_has_room_for(tiny_t5: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARD_WORKERS", "1")
    settings, shape = told(student=tiny_t5), shape_of(tiny_t5)
    pairs = [Pair("why " * 400, "because " * 100)] * 2
    asked = student_fit.Options.of(settings)
    monkeypatch.setattr(training_steps, "own_device", lambda threads: OwnDevice("x", "cpu", 80 * GB))
    assert training_steps.safe_options(settings, asked, pairs) == asked
    monkeypatch.setattr(training_steps, "own_device", lambda threads: OwnDevice("x", "cpu", 0.82 * GB))
    less = training_steps.safe_options(settings, asked, pairs)
    assert 1 <= less.part < asked.part
    room = safe_bytes(0.82 * GB)
    assert training_bytes(shape, less.part, 401, 101, False, less.checkpointing) <= room
    monkeypatch.setenv("KARD_WORKERS", "2")
    assert training_steps.safe_options(settings, asked, pairs).part == 1, "not a row, by the estimate"


# --- devices ----------------------------------------------------------------------------------------------------------


def test_every_gpu_has_its_sheet_and_a_misspelt_one_its_neighbour() -> None:
    for sheet in sheets().values():
        assert sheet.source.startswith("https://") and sheet.dated < date.today()
        assert (sheet.bf16 or sheet.fp32) >= sheet.fp32 and sheet.peak(False) == sheet.fp32 * 1e12
    assert sheet_of("a100 80gb").memory == 80 and sheet_of("T4").peak(True) == sheet_of("T4").peak(False)
    with pytest.raises(KardError, match="did you mean 'A100 80GB'"):
        sheet_of("A100 80 GB")


@pytest.mark.parametrize(
    "change, fault",
    [("fp32 = 1", "field memory"), ("fp32 = -1\nmemory = 1\nbandwidth = 1", "field fp32"), ("fp33 = 1", "field")],
)
def test_a_bad_row_of_devices_is_named(tmp_path: Path, change: str, fault: str) -> None:
    file = tmp_path / "devices.toml"
    file.write_text(f'[[device]]\nname = "x"\ndated = 2020-01-01\nsource = "s"\n{change}\n')
    with pytest.raises(KardError, match=f"device 1: {fault}"):
        sheets(file)


# --- calibration ------------------------------------------------------------------------------------------------------


def test_calibration_is_kept_for_this_device_and_shape(tiny_t5: str, root: Path) -> None:
    first = calibrated(1, tiny_t5, 12, 6, 4, 4)
    file = rates_file(own_device(1), shape_of(tiny_t5), False, 12)
    assert json.loads(file.read_text())["device"] == first.device == own_device(1).name
    file.write_text(first.model_copy(update={"training": 123.0}).model_dump_json())
    assert calibrated(1, tiny_t5, 12, 6, 4, 4).training == 123.0
    assert calibrated(1, tiny_t5, 30, 6, 4, 4).training != 123.0, "attention takes another share of it"
    assert calibrated(1, tiny_t5, 12, 6, 4, 4, again=True).training != 123.0
    file.write_text("{}")
    assert calibrated(1, tiny_t5, 12, 6, 4, 4).training != 123.0


def test_another_device_is_measured_anew(tiny_t5: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    calibrated(1, tiny_t5, 12, 6, 4, 4)
    monkeypatch.setattr(calibration, "own_device", lambda threads: OwnDevice("another", "cpu", 8 * GB))
    assert calibrated(1, tiny_t5, 12, 6, 4, 4).device == "another"
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("role", ["opt", "bert"])
def test_other_kinds_of_models_are_measured_too(role: str, tiny_opt: str, tiny_bert: str) -> None:
    folder, target = (tiny_opt, 6) if role == "opt" else (tiny_bert, 0)
    rates = calibrated(1, folder, 12, target, 4, 4)
    assert min(rates.training, rates.reading, rates.writing, rates.product) > 0 and "all layers" in rates.how
    assert (rates.reading == rates.writing) == (role == "bert")


def test_a_large_model_is_measured_with_fewer_layers() -> None:
    config = config_of("google/flan-t5-xl")
    whole = shape_of("google/flan-t5-xl")
    cut, small, how = calibration._small_enough(config, whole, 512, 200, 1e11, 16 * GB)
    assert small.layers == small.decoder_layers == cut.num_layers == 1 and how == "1 of 24 layers"
    assert (small.hidden, small.feed_forward, small.vocabulary) == (whole.hidden, whole.feed_forward, whole.vocabulary)
    assert calibration._small_enough(config, whole, 512, 200, 1e15, 1000 * GB)[1] == whole
    assert config.num_layers == 24


def test_what_is_measured_has_room_in_memory(tiny_t5: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[int]] = {"training": [], "writing": []}

    def training(model: object, shape: object, kind: str, bf16: bool, batch: int, *_: object) -> tuple[float, ...]:
        seen["training"].append(batch)
        return 0.1, 0.2, 0.1

    def writing(model: object, shape: object, kind: str, rows: int, *_: object) -> tuple[float, ...]:
        seen["writing"].append(rows)
        return 1.0, 1.0, 0.0

    monkeypatch.setattr(calibration, "_training_seconds", training)
    monkeypatch.setattr(calibration, "_inference_rates", writing)
    monkeypatch.setattr(calibration, "product_rate", lambda *_, **__: 1e15)
    shape, config = shape_of(tiny_t5), config_of(tiny_t5)
    for memory in (80 * GB, 0.81 * GB, 0.1 * GB):
        device = OwnDevice("x", "cpu", memory)
        calibration.measure(config, shape, device, "x", False, 400, 100, 32, 64)
    assert seen["training"][0] == 32 and seen["writing"][0] == 64
    assert seen["training"][1] < 32 and training_bytes(shape, seen["training"][1], 400, 100) <= safe_bytes(0.81 * GB)
    assert (seen["training"][2], seen["writing"][2]) == (1, 2), "what cannot be less is tried"


def test_small_models_are_trained_in_float32_and_a_product_has_a_rate() -> None:
    assert not trains_in_bf16(1000)
    assert product_rate("cpu", bf16=False, seconds=0.0) > 1e6


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models that are asked to be measured; the rates are given by hand."""
    asked: list[str] = []

    def rates(threads: int, model: str, *rest: object) -> Rates:
        asked.append(model)
        return RATES.model_copy(update={"model": model})

    monkeypatch.setattr(cost_plan, "calibrated", rates)
    return asked


def test_the_plan_of_the_paper_tells_costs_of_every_step_offline(measured: list[str]) -> None:
    page = plan(told(dataset="medqa"), gpu="A100 80GB")
    costs = page[page.index("Costs, before") :].splitlines()
    steps = {line.split()[0] for line in costs if line.startswith("  ")}
    assert {"verdicts", "reranker", "student", "reranked", "predictions", "pools", "rationales", "all"} <= steps
    assert any("search only" in line for line in costs) and any("asked of the teacher" in line for line in costs)
    assert any(line.startswith("medqa: counts as published, all lengths assumed") for line in costs)
    assert any(line.startswith("A100 80GB: projected from its sheet (312 TFLOP/s") for line in costs)
    assert any(line.startswith("our choice") and "tau1" in line for line in costs)
    names = ["google/flan-t5-large", "michiyasunaga/BioLinkBERT-base", "google/flan-t5-base"]
    assert sorted(measured) == sorted(names)  # once each


def test_at_mini_costs_are_told_where_they_are_asked_for(measured: list[str]) -> None:
    settings = resolve("mini", size="smoke", seeds=0, retrain=True)
    assert "Costs" not in plan(settings) and not measured
    page = plan(settings, costs=True)
    assert "Costs, before anything is made" in page and page.startswith(plan(settings))
    assert "Costs" in plan(settings, calibrate=True)


def test_costs_can_be_left_out_and_an_unknown_gpu_is_one_line(measured: list[str]) -> None:
    settings = told(dataset="medqa")
    assert "Costs" not in plan(settings, costs=False)
    with pytest.raises(KardError, match="--gpu 'abacus'"):
        plan(settings, gpu="abacus")


@pytest.mark.parametrize("count, text", [(999, "999"), (12_345, "12.3 k"), (4.56e15, "4.56 P"), (2.5e21, "2,500 E")])
def test_short_numbers(count: float, text: str) -> None:
    assert cost_plan._short(count) == text


def test_modules_name_no_threads_twice() -> None:
    assert own_device(1).name.endswith("1 thread") and own_device(2).name.endswith("2 threads")
    assert own_device(1).memory > GB and sample_lengths.SAMPLE < step_costs._DRAWN
