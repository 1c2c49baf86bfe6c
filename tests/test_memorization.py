"""The theory made runnable: closed forms, the simulation beside them, small networks, and the link to the students."""

from __future__ import annotations

import itertools
import math
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch
from constructed import answer, experiment_on
from scipy import stats

from kardlib import sliders
from kardlib.errors import KardError
from kardlib.figures import Curve, compact, panels
from kardlib.head_and_tail import HEAD, cells_by_student, gain_beyond_head, gaps_by_frequency, head_above_frequent
from kardlib.leakage import by_frequency_alone
from kardlib.memorization import (
    LEARNERS,
    MOST_SYMBOLS,
    Toy,
    binary_entropy,
    bits_needed,
    bound,
    excess_error,
    least_excess_alone,
    sufficient_bits,
    wrong_hit,
)
from kardlib.memorization_rows import network_rows, toy_rows
from kardlib.memorization_simulation import check_memory, draw_world, random_toys, search, simulate, standard_errors
from kardlib.memorizing_networks import (
    Networks,
    Task,
    Trained,
    examples,
    parameters_needed,
    stored_bits,
    train_networks,
)
from kardlib.mini import MiniSet
from kardlib.presets import resolve
from kardlib.study_run import ready
from kardlib.tables import ASKED, asked_in_training

TOYS = random_toys(24, seed=1, most=64)
KNOWN = Toy(64, 192, 64)


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learner", "b", "value"),
    [("alone", 8, 0.278), ("alone", 20, 0.218), ("alone", 64, 0.0)]
    + [("fingerprint", 8, 0.117), ("fingerprint", 12, 0.0097), ("fingerprint", 20, 0.00004)],
)
def test_the_values_that_the_method_gives_for_64_strings(learner: str, b: int, value: float) -> None:
    digits = 10.0 ** -len(f"{value:.5f}".rstrip("0").split(".")[1])
    assert abs(excess_error(KNOWN, b, learner) - value) <= digits / 2


@pytest.mark.parametrize("entries", [1, 2, 7, 300])
@pytest.mark.parametrize("b", [0, 1, 3, 9, 20, 40])
def test_a_wrong_hit_is_as_likely_as_the_binomial_sum_says(entries: int, b: int) -> None:
    others = np.arange(entries)
    summed = (stats.binom.pmf(others, entries - 1, 2.0**-b) * others / (1 + others)).sum()
    assert wrong_hit(entries, b) == pytest.approx(summed, rel=1e-8, abs=1e-18)


def test_a_wrong_hit_has_no_step_where_the_series_takes_over() -> None:
    values = wrong_hit(39_880_064, np.arange(20, 70))
    halved = values[1:] / values[:-1]
    assert np.all(np.diff(halved[20:]) < 1e-6) and halved[-1] == pytest.approx(0.5)


def exact(toy: Toy, b: int, learner: str) -> float:
    """Excess error by going through all strings, positions and tied entries of a tiny problem."""
    tries = []
    for flat in itertools.product((0, 1), repeat=toy.entries * toy.d):
        strings = np.array(flat).reshape(toy.entries, toy.d)
        for j, t in itertools.product(range(toy.N), range(toy.d)):
            lengths = {"prefix": (b, None), "prefix and question": (max(b, t), t)}[learner]
            wrong = [0.5 if length is None else _tied(strings, j, t, length) for length in lengths]
            tries.append(toy.seen * wrong[0] + (1 - toy.seen) * wrong[1])
    return float(np.mean(tries)) - toy.optimal_error


def _tied(strings: np.ndarray, j: int, t: int, length: int) -> float:
    same = (strings[:, :length] == strings[j, :length]).all(axis=1)
    return float((strings[same, t] != strings[j, t]).mean())


@pytest.mark.parametrize("learner", ["prefix", "prefix and question"])
@pytest.mark.parametrize(
    ("toy", "b"), [(Toy(2, 1, 3), 1), (Toy(1, 2, 2, 1), 1), (Toy(2, 2, 2, 3), 0), (Toy(3, 0, 3), 2)]
)
def test_closed_forms_equal_the_sum_over_all_strings(toy: Toy, b: int, learner: str) -> None:
    assert excess_error(toy, b, learner) == pytest.approx(exact(toy, b, learner), abs=1e-12)


@pytest.mark.parametrize(("toy", "_"), TOYS)
def test_order_of_the_learners_and_of_the_bounds(toy: Toy, _: int) -> None:
    b = np.arange(toy.d + 1)
    alone, hashed, prefix, free = (excess_error(toy, b, one) for one in LEARNERS)
    assert alone[0] == pytest.approx(toy.seen / 2) and alone[-1] == prefix[-1] == 0
    assert hashed[0] == pytest.approx(toy.seen / 2 * (1 - 1 / toy.entries))
    for curve in (alone, hashed, prefix, free):
        assert np.all(np.diff(curve) <= 1e-12), "more bits are never worse"
    assert np.all(prefix <= hashed + 1e-15) and np.all(free <= prefix + 1e-12)
    assert np.all(hashed <= bound(toy, b) + 1e-15), "Theorem 2 is an upper bound"
    assert np.all(alone >= least_excess_alone(toy, b) - 1e-12), "no learner without S is below the limit"


def test_the_limit_turns_the_entropy_round() -> None:
    toy, b = Toy(5, 0, 40, 10**6), np.arange(41)  # every string is seen
    assert np.allclose(toy.d * (1 - binary_entropy(least_excess_alone(toy, b))), b, atol=1e-9)


@pytest.mark.parametrize(("toy", "_"), TOYS[:8])
def test_sufficient_bits_are_sufficient_and_the_bound_read_backwards(toy: Toy, _: int) -> None:
    for epsilon in (0.3, 0.01, 1e-5):
        m = sufficient_bits(toy, epsilon)
        simple = math.log2(toy.entries**2 / (2 * epsilon))
        assert 0 <= m <= max(simple, 0)
        if 0 < math.ceil(m) <= toy.d:
            assert bound(toy, math.ceil(m)) <= epsilon < bound(toy, math.ceil(m) - 1)
            assert excess_error(toy, math.ceil(m)) <= epsilon


def test_twice_the_entries_cost_two_bits_of_the_bound_and_one_of_the_search() -> None:
    small, large = (Toy(100, entries - 100, 500) for entries in (10**6, 2 * 10**6))
    assert sufficient_bits(large, 0.01) - sufficient_bits(small, 0.01) == pytest.approx(2, abs=1e-5)
    assert bits_needed(large, 0.01) - bits_needed(small, 0.01) == 1
    assert sufficient_bits(Toy(1, 0, 5), 0.01) == 0, "one entry needs no key"


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize(("toy", "_"), TOYS[:8])
def test_bits_needed_are_those_that_a_scan_finds(toy: Toy, _: int, learner: str) -> None:
    for excess in (0.0, 0.003, 0.1, 0.9):
        enough = [b for b in range(toy.d) if excess_error(toy, b, learner) <= excess]
        assert bits_needed(toy, excess, learner) == min(enough, default=toy.d)


def test_a_search_among_all_passages_needs_no_memory_for_them() -> None:
    toy = Toy(10_178, 39_880_064 - 10_178, 190)
    assert math.log2(toy.entries) < bits_needed(toy, 0.01) < sufficient_bits(toy, 0.01) < 2 * math.log2(toy.entries) + 8


# --- the simulation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", LEARNERS)
def test_closed_forms_are_within_five_standard_errors_of_the_simulation(learner: str) -> None:
    count = 24 if learner != "prefix and question" else 10  # it searches once for each position
    found = [simulate(toy, b, learner, 60, seed) for seed, (toy, b) in enumerate(TOYS[:count])]
    apart = [standard_errors(toy, b, learner, one) for (toy, b), one in zip(TOYS, found, strict=False)]
    assert max(apart) < 5 and max(apart) > 0.1


def test_five_standard_errors_tell_one_learner_from_another() -> None:
    toy = Toy(64, 64, 16)
    found = {learner: simulate(toy, 7, learner, 400) for learner in LEARNERS}
    for one, other in itertools.permutations(LEARNERS, 2):
        assert standard_errors(toy, 7, one, found[other]) > 5


def test_a_simulation_depends_on_its_seed_alone() -> None:
    assert simulate(KNOWN, 6, worlds=5, seed=3) == simulate(KNOWN, 6, worlds=5, seed=3)
    assert simulate(KNOWN, 6, worlds=5, seed=3) != simulate(KNOWN, 6, worlds=5, seed=4)


@pytest.mark.parametrize("b", [0, 1, 5, 30, 31, 70])
def test_search_returns_every_entry_that_fits_and_no_other(b: int) -> None:
    rng = np.random.default_rng(b)
    keys = rng.integers(2, size=(12, b), dtype=np.uint8)
    keys[6:] = keys[:6]  # each key twice, at least
    hits = np.stack([search(keys[:4], keys, rng) for _ in range(600)])
    for query, found in enumerate(hits.T):
        fitting = np.flatnonzero((keys == keys[query]).all(axis=1))
        counts = [int((found == entry).sum()) for entry in fitting]
        assert sum(counts) == 600 and stats.chisquare(counts).pvalue > 1e-6


def test_worlds_are_what_they_should_be() -> None:
    world = draw_world(Toy(3, 5, 7, 1), np.random.default_rng(0))
    assert world.strings.shape == world.fingerprints.shape == (8, 7) and world.seen.sum() == 1
    assert set(np.unique(world.strings)) == {0, 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Toy(0, 1, 8), "N = 0: a whole number of at least 1"),
        (lambda: Toy(4, -1, 8), "R = -1: a whole number of at least 0"),
        (lambda: Toy(4, 1, 0), "d = 0: a whole number of at least 1"),
        (lambda: Toy(4, 1, 8, -2), "n = -2"),
        (lambda: Toy(2.5, 1, 8), "N = 2.5"),
        (lambda: Toy(4, 1, MOST_SYMBOLS + 1), f"d = {MOST_SYMBOLS + 1}: too large for memory; at most {MOST_SYMBOLS}"),
        (lambda: check_memory(Toy(64, 192, 200_000)), f"d = 200000: .* at most d = {MOST_SYMBOLS // 256}"),
        (lambda: simulate(Toy(64, 192, 200_000), 3), "too large for memory"),
        (lambda: check_memory(Toy(1, MOST_SYMBOLS, 2)), f"at most {MOST_SYMBOLS} strings"),
        (lambda: check_memory(Toy(1, 1, 2, MOST_SYMBOLS + 1)), "n = .*too many samples"),
        (lambda: excess_error(KNOWN, 65), "b = 65: a string has d = 64 bits; from 0 to 64"),
        (lambda: simulate(KNOWN, 65), "b = 65"),
        (lambda: bound(KNOWN, np.array([3, -1])), "b = -1"),
        (lambda: excess_error(KNOWN, 2.5), "b = 2.5: whole bits"),
        (lambda: excess_error(KNOWN, 2, "prefx"), "learner 'prefx'.*did you mean 'prefix'"),
        (lambda: sufficient_bits(KNOWN, 0.0), "epsilon = 0.0"),
        (lambda: bits_needed(KNOWN, -0.1), "excess = -0.1"),
        (lambda: simulate(KNOWN, 3, worlds=1), "worlds = 1"),
        (lambda: Task(0, 4, False, 0), "N = 0"),
        (lambda: Task(4, 4, True, 0, b=-1), "b = -1"),
        (lambda: Task(33, 4, False, 0, key_size=6), "N = 33, key_size = 6: at most 32 strings"),
        (lambda: Task(4, 4, False, 0, key_size=40), "20 signs a key"),
        (lambda: train_networks([], 4), "tasks = 0"),
        (lambda: train_networks([Task(2, 4, False, 0)], 0), "width = 0"),
        (lambda: train_networks([Task(2, 4, False, 0), Task(2, 5, False, 0)], 4), "different d"),
        (lambda: train_networks([Task(2, 40_000, False, 0)], 4), "too many for memory"),
    ],
)
def test_what_is_out_of_range_is_refused_in_one_line(call: Any, message: str) -> None:
    with pytest.raises(KardError, match=message) as told:
        call()
    assert "\n" not in str(told.value)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_a_question_shows_what_comes_before_its_symbol_and_nothing_else() -> None:
    task = Task(5, 6, False, seed=1)
    inputs, symbols = examples(task)
    key, prefix, place, found = torch.split(inputs.reshape(5, 6, -1), [16, 6, 6, 6], dim=2)
    strings = 2 * symbols.reshape(5, 6) - 1
    for t in range(6):
        assert torch.equal(prefix[:, t, :t], strings[:, :t]) and not prefix[:, t, t:].any()
        assert torch.equal(place[:, t], torch.eye(6)[t].expand(5, 6))
    assert not found.any() and torch.equal(key, key[:, :1].expand_as(key))


@pytest.mark.parametrize("b", [0, 40])
def test_what_was_found_is_one_string_of_s_and_with_a_long_key_the_right_one(b: int) -> None:
    task = Task(30, 12, True, seed=2, R=60, b=b)
    inputs, symbols = examples(task)
    found = inputs.reshape(30, 12, -1)[:, :, -12:]
    assert torch.equal(found, found[:, :1].expand_as(found)) and bool((found.abs() == 1).all())
    right = (found[:, 0] == 2 * symbols.reshape(30, 12) - 1).all(dim=1)
    assert bool(right.all()) == (b == 40), "with no key it takes any of 90"


def test_no_two_strings_have_one_key_and_fresh_ones_are_others() -> None:
    task = Task(32, 10, True, seed=0, R=5, b=20, key_size=6)  # there are 64 keys of that size
    (seen, first), (fresh, second) = examples(task), examples(task, fresh=True)
    keys = [tuple(row) for x in (seen, fresh) for row in x.reshape(32, 10, -1)[:, 0, :6].tolist()]
    assert len(set(keys)) == 64 and not torch.equal(first, second)


def test_a_batch_of_networks_is_the_same_as_one_at_a_time() -> None:
    tasks = [Task(4, 6, False, 0), Task(8, 6, True, 1, R=8, b=8), Task(2, 6, False, 1)]
    together = train_networks(tasks, 5, steps=25, batch=16)
    alone = [train_networks([task], 5, steps=25, batch=16)[0] for task in tasks]
    assert together == alone


def test_parameters_are_those_that_some_question_reaches() -> None:
    for found in (False, True):
        task = Task(6, 5, found, seed=0, R=6, b=9)
        inputs, symbols = examples(task)
        networks = Networks(inputs.shape[1], 300, [0])
        torch.nn.functional.binary_cross_entropy_with_logits(networks(inputs[None])[0], symbols).backward()
        reached = (networks.first.grad != 0).any(dim=2).sum() * 300 + 300 + 300 + 1  # of the inputs' rows
        # the prefix never shows a string's last symbol
        assert int(reached) + 300 == task.parameters(300)


def test_a_wide_network_learns_by_heart_and_knows_nothing_else() -> None:
    one, reader = train_networks([Task(6, 8, False, 0), Task(6, 8, True, 0, R=6, b=20)], 32, steps=300, batch=48)
    assert one.accuracy == reader.accuracy == 1
    assert one.parameters < reader.parameters and 0.2 < one.fresh < 0.8


def test_stored_bits_and_their_limits() -> None:
    assert stored_bits(1.0, 100) == 100 and stored_bits(0.5, 100) == stored_bits(0.3, 100) == 0
    values = [stored_bits(share, 1000) for share in np.linspace(0.5, 1, 30)]
    assert np.all(np.diff(values) > 0)
    # a network that stores half of the symbols and tosses coins for the rest holds more than the estimate says
    assert 0 < stored_bits(0.75, 1000) < 500


def test_parameters_needed_lie_between_the_widths_around_the_level() -> None:
    def network(parameters: int, accuracy: float) -> Trained:
        return Trained(Task(4, 4, False, 0), 1, parameters, accuracy, 0.5)

    few = [network(10, 0.6), network(100, 0.8), network(1000, 1.0), network(100, 0.8)]
    assert parameters_needed(few, 0.8) == pytest.approx(100) and parameters_needed(few, 0.6) == 10
    assert parameters_needed(few, 0.9) == pytest.approx(math.sqrt(100 * 1000))
    assert math.isnan(parameters_needed(few[:2], 0.9))


# --- rows, figures, sliders -------------------------------------------------------------------------------------------


def test_rows_of_the_record() -> None:
    networks = [Trained(Task(4, 4, True, seed), 2, 77, value, 0.5) for seed, value in ((0, 0.8), (1, 0.9))]
    toy, (network,) = toy_rows("mini-medqa", Toy(8, 8, 8), 2, 4), network_rows("mini-medqa", networks)
    assert [row.method for row in toy] == [f"toy, {one}" for one in LEARNERS]
    assert all(row.ci95[0] <= row.value <= row.ci95[1] and row.n == 32 for row in toy)
    assert (network.value, network.seeds, network.n) == (pytest.approx(85), [80, 90], 16)
    assert {row.table for row in (*toy, network)} == {"theory"}


def test_panels_share_one_legend() -> None:
    line, dots = Curve([1, 2], [3, 4]), Curve([1, 2], [3, 4], "o", [(2, 4), (3, 5)], "green")
    figure = panels({"a": {"x": line, "_hidden": dots}, "b": {"x": line, "y": dots}}, ["p", "q"], "r")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "y"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["p", "q"]
    plt.close(figure)


def test_a_compact_figure_is_the_same_picture_in_fewer_bytes() -> None:
    figure = panels({"a": {"x": Curve(np.arange(50), np.sin(np.arange(50)))}}, ["p"], "r")
    whole = BytesIO()
    figure.savefig(whole, format="png", bbox_inches="tight", dpi=plt.rcParams["figure.dpi"])
    small = compact(figure).data
    pictures = [np.asarray(PIL.Image.open(one).convert("RGB"), dtype=float) for one in (whole, BytesIO(small))]
    assert len(small) < len(whole.getvalue()) / 2 and np.abs(pictures[0] - pictures[1]).mean() < 1
    assert figure.number not in plt.get_fignums()


@pytest.mark.parametrize(("metadata", "live"), [({}, False), ({"cellId": "x"}, True)])
def test_sliders_only_where_somebody_can_move_them(
    metadata: dict[str, str], live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = SimpleNamespace(get_parent=lambda channel: {"metadata": metadata})
    monkeypatch.setattr(sliders, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
    made: dict[str, ipywidgets.IntSlider] = {}
    monkeypatch.setattr(ipywidgets, "interact", lambda draw, **given: made.update(given))
    drawn: list[dict[str, int]] = []
    monkeypatch.setattr(sliders, "display", lambda figure: None)
    sliders.show(lambda **values: drawn.append(values) or plt.figure(), d=(1, 9, 4), N=(1, 5, 8))
    assert drawn == ([] if live else [{"d": 4, "N": 8}])
    assert {name: (one.min, one.max, one.value) for name, one in made.items()} == (
        {"d": (1, 9, 4), "N": (1, 8, 8)} if live else {}
    )


def test_a_picture_that_cannot_be_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def draw(d: int, b: int) -> plt.Figure:
        excess_error(Toy(4, 4, d), b)
        return plt.figure()

    sliders.show(draw, d=(1, 9, 4), b=(0, 9, 5))
    assert capsys.readouterr().out == "b = 5: a string has d = 4 bits; from 0 to 4 can be stored\n"


# --- the link to the students -----------------------------------------------------------------------------------------


def test_three_sizes_of_one_family_where_the_set_is_generated() -> None:
    methods = ("Reasoning Distillation", "KARD (Reranker)")
    found = cells_by_student(resolve("mini", seeds=(4, 5)), methods)
    assert list(found) == ["mini-t5-base", "mini-t5-large", "mini-t5-xl"]
    for student, cells in found.items():
        assert [cell.method for cell in cells] == list(methods)
        assert all(cell.settings.student == student and cell.seeds == (4, 5) for cell in cells)
    assert cells_by_student(resolve("laptop"), methods) == {} == cells_by_student(resolve("paper"), methods)


def test_nothing_is_there_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    (cells, *_) = cells_by_student(resolve("mini", retrain=True, size="smoke"), ("KARD (BM25)",)).values()
    assert not any(map(ready, cells)) and not any(tmp_path.iterdir())


def test_gaps_are_of_the_questions_of_each_group(mini: MiniSet) -> None:
    first, second, seeds = "KARD (BM25)", "Reasoning Distillation", (0, 1)
    test, rng = mini.splits["test"], np.random.default_rng(0)
    right = {(name, seed): rng.random(len(test)) < 0.5 for name in (first, second) for seed in seeds}
    predictions = [
        answer(question, name, question.gold if right[name, seed][i] else (question.gold + 1) % 4, seed=seed)
        for name, seed in right
        for i, question in enumerate(test)
    ]
    one = experiment_on(mini, predictions, seeds=seeds)
    gaps = gaps_by_frequency(one, first, second)
    groups = {group: ids for group, ids in asked_in_training(one).items() if ids}
    assert list(gaps) == list(groups) and set(groups) < set(ASKED)
    for group, ids in groups.items():
        inside = np.array([question.id in ids for question in test])
        shares = {name: np.mean([right[name, seed][inside].mean() for seed in seeds]) for name in (first, second)}
        assert gaps[group].gap == pytest.approx(100 * (shares[first] - shares[second]))
        assert gaps[group].n == inside.sum()
    one.data.train *= 6  # now every topic that training asks about is in the head
    gaps = gaps_by_frequency(one, first, second)
    assert list(beyond := gain_beyond_head(one, first, second)) == ["never"]
    for group, more in beyond.items():
        assert more.gap == pytest.approx(gaps[group].gap - gaps[HEAD].gap)
        assert more.ci95[0] < more.gap < more.ci95[1] and more.n == gaps[group].n + gaps[HEAD].n
    head = [question for question in test if question.id in asked_in_training(one)[HEAD]]
    known = [np.mean([right[second, seed][i] for seed in seeds]) for i, q in enumerate(test) if q in head]
    above = head_above_frequent(one, second)
    assert above.gap == pytest.approx(100 * np.mean(known) - by_frequency_alone(one.data.train, head))
