"""The command line: refusals before a kernel starts, runs that are not repeated, failures in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tiny_notebook import PARAMETERS, write_notebook

from kardlib import notebook_params, notebook_run, selftest
from kardlib.cli import main
from kardlib.demo import MAIN_PATH, with_cells
from kardlib.doctor import model_finding, pinned
from kardlib.errors import KardError
from kardlib.notebook_params import check_parameters, find_notebook, notebook_parameters, plan_run, plan_runs
from kardlib.presets import REPOSITORY

KARD = [sys.executable, "-m", "kardlib.cli"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("KARD_DATA", raising=False)
    monkeypatch.setattr(notebook_params, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path / "runs"


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a kernel would have been started")

    monkeypatch.setattr(notebook_run, "_papermill", refuse)


def kernels(root: Path) -> list[str]:
    """The interpreters of all kernels that ran the tiny notebook."""
    return [line for log in root.rglob("kernels.txt") for line in log.read_text().split("\n") if line]


def test_parameters_are_read_from_the_cell(tmp_path: Path) -> None:
    spec = {p.name: p for p in notebook_parameters(write_notebook(tmp_path))}
    assert (spec["k"].type, spec["k"].default) == ("int", 0)
    assert spec["k"].meaning == "passages that the student reads; 0 = as the preset has it"
    assert spec["seeds"].default == [] and spec["shout"].default is False


@pytest.mark.parametrize(
    "line, told",
    [
        ("k = 0  # no type", "type = literal"),
        ("k: int = 0", "no comment"),
        ("k: int = 1 + len('x')  # computed", "no literal"),
        ("k: dict = {}  # odd type", "has type dict"),
        ("k: int = = 0", "line 1"),
    ],
)
def test_a_parameters_cell_of_another_form_is_refused(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(KardError, match=told):
        notebook_parameters(write_notebook(tmp_path, parameters=line))


@pytest.mark.parametrize(
    "text, value",
    [
        ("student_lr=1e-4", 1e-4), ("k=2", 2), ("seeds=0,1,2", [0, 1, 2]), ("seeds=[0, 1]", [0, 1]), ("seeds=[]", []),
        ("seeds=7", [7]), ("shout=true", True), ("shout=False", False), ("dataset=openbookqa", "openbookqa"),
    ],
)  # fmt: skip
def test_strings_become_the_declared_type(tmp_path: Path, text: str, value: object) -> None:
    name, _, given = text.partition("=")
    got = check_parameters({name: given}, notebook_parameters(write_notebook(tmp_path)))
    assert got == {name: value} and type(got[name]) is type(value)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["-p", "kk=2"], "did you mean 'k'"),
        (["-p", "k=two"], "int was expected"),
        (["-p", "k=2.5"], "int was expected"),
        (["-p", "shout=perhaps"], "bool was expected"),
        (["-p", "seeds=a,b"], "list was expected"),
        (["-p", "k=-1"], "parameter k"),
        (["-p", "size=huge"], "parameter size"),
        (["-p", "k"], "name=value"),
        (["-p", "k=1", "-p", "k=2"], "given twice"),
        (["--preset", "labtop"], "did you mean 'laptop'"),
        (["--dataset", "medqu"], "parameter dataset"),
        (["--preset", "laptop", "-p", "data_dir=/no/such/folder"], "data_dir"),
    ],
)
def test_bad_parameters_are_refused_before_a_kernel_starts(
    tmp_path: Path, arguments: list[str], told: str, no_kernel: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_notebook(tmp_path / "notebooks")
    assert main(["run", str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kard: ") and told in error and error.count("\n") == 1


def test_refusals_come_without_heavy_imports(tmp_path: Path) -> None:
    path = write_notebook(tmp_path)
    script = (
        "import sys; from kardlib.cli import main; code = main(sys.argv[1:]);"
        "print(code, [m for m in ('torch', 'transformers', 'papermill', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", str(path), "-p", "kk=1"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stdout.strip() == "2 []"


def test_notebooks_are_found_by_number_name_and_path(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "notebooks")
    assert {find_notebook(name) for name in ("06", "06_tiny", str(path))} == {path}
    with pytest.raises(KardError, match="did you mean '06_tiny'"):
        find_notebook("06_tinny")


def test_of_several_notebooks_each_gets_what_it_declares(tmp_path: Path) -> None:
    paths = [
        write_notebook(tmp_path / "notebooks"),
        write_notebook(tmp_path / "notebooks", parameters='preset: str = "mini"  # one alone\n', name="02_tiny"),
    ]
    plans = plan_runs(paths, {"k": "2", "preset": "laptop"})
    assert [plan.given for plan in plans] == [{"k": 2, "preset": "laptop"}, {"preset": "laptop"}]
    with pytest.raises(KardError, match="did you mean 'shout'"):
        plan_runs(paths, {"shuot": "true"})


def test_all_leaves_out_notebooks_without_cells_in_one_line_and_alone_they_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_kernel: None
) -> None:
    paths = [write_notebook(tmp_path / "notebooks", name=name) for name in ("02_tiny", "10_tiny", "13_tiny")]
    laptop, mini = (with_cells(plan_runs(paths, {"preset": preset})) for preset in ("laptop", "mini"))
    assert [plan.notebook for plan in laptop] == ["02_tiny"] and len(mini) == 3
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "10_tiny, 13_tiny" in out
    assert main(["run", "10", "--preset", "laptop"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kard: 10_tiny: no cells for Fig 3") and error.count("\n") == 1


def test_a_run_leaves_record_and_notebook_and_is_not_repeated(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered = tmp_path / "share" / "kernels" / "python3"  # another interpreter that calls itself python3
    registered.mkdir(parents=True)
    (registered / "kernel.json").write_text(json.dumps({"argv": ["/no/python"], "display_name": "x", "language": "y"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    write_notebook(tmp_path / "notebooks")
    assert main(["run", "06", "-p", "k=2", "-p", "seeds=4,5"]) == 0
    assert "The middle" in capsys.readouterr().out
    record = next(root.rglob("record.json"))
    assert json.loads(record.read_text())["parameters"]["seeds"] == [4, 5]
    executed = (record.parent / "06_tiny.ipynb").read_text()
    assert str(tmp_path) not in executed and "injected-parameters" in executed
    assert kernels(root) == [sys.executable]
    assert main(["run", "06", "-p", "k=2", "-p", "seeds=4,5"]) == 0
    assert "finished before" in capsys.readouterr().out and len(kernels(root)) == 1
    assert main(["run", "06", "-p", "k=2", "-p", "seeds=4,5", "--again"]) == 0
    assert len(kernels(root)) == 2
    write_notebook(tmp_path / "notebooks", middle="edited = True")
    assert main(["run", "06", "-p", "k=2", "-p", "seeds=4,5"]) == 0
    assert len(kernels(root)) == 3
    assert main(["report"]) == 0 and "KARD (BM25)" in capsys.readouterr().out


def test_demo_tells_the_cost_first_and_then_where_everything_is(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in MAIN_PATH:
        picture = f"(run.folder / 'figure_{number}.png').write_bytes(b'')"
        write_notebook(tmp_path / "notebooks", middle=picture, name=f"{number}_tiny")
    write_notebook(tmp_path / "notebooks", middle="1 / 0", name="07_off_the_path")
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "minutes on two cores" in out.splitlines()[0] and "0 of 5" in out.splitlines()[1]
    for told in ("KARD (BM25)", "a note", "executed notebooks:", "06_tiny.ipynb", "figure_04.png", "raw predictions"):
        assert told in out
    assert len(kernels(root)) == 5
    assert main(["demo"]) == 0
    assert "5 of 5" in capsys.readouterr().out and len(kernels(root)) == 5
    assert main(["demo", "-p", "kk=1"]) == 2
    (tmp_path / "notebooks" / "07_off_the_path.ipynb").unlink()
    assert main(["run", "all"]) == 0
    assert "KARD (BM25)" in capsys.readouterr().out, "it ends with the tables too"


def test_demo_misses_no_notebook_silently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(tmp_path / "notebooks")
    assert main(["demo"]) == 2
    assert "notebooks 02, 03, 04, 05: not there" in capsys.readouterr().err


def test_a_failing_cell_is_one_line_and_the_notebook_is_kept(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    middle = "from kardlib.errors import KardError\nraise KardError('questions.jsonl:3: field options: none')"
    write_notebook(tmp_path / "notebooks", middle=middle)
    assert main(["run", "06"]) == 1
    error = capsys.readouterr().err
    assert "06_tiny, cell [3]: questions.jsonl:3: field options: none" in error and "Traceback" not in error
    assert [p.name for p in root.rglob("*.ipynb")] == ["06_tiny.failed.ipynb"]
    assert not list(root.rglob("record.json"))
    write_notebook(tmp_path / "notebooks", middle="1 / 0")
    assert main(["run", "06"]) == 1
    assert "cell [3]: ZeroDivisionError: division by zero" in capsys.readouterr().err
    write_notebook(tmp_path / "notebooks")
    assert main(["run", "06"]) == 0
    assert [p.name for p in root.rglob("*.ipynb")] == ["06_tiny.ipynb"]


def test_a_dead_kernel_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(tmp_path / "notebooks", middle="import os; os._exit(9)")
    assert main(["run", "06"]) == 1
    assert "06_tiny: the kernel died" in capsys.readouterr().err


def test_a_notebook_that_leaves_no_record_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(tmp_path / "notebooks", middle="run = type('R', (), {'finish': lambda *_: None})()")
    assert main(["run", "06"]) == 1
    assert "without a record" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_two_processes_run_it_once_and_a_stopped_one_goes_on(tmp_path: Path, root: Path) -> None:
    path = write_notebook(tmp_path, middle="import time; time.sleep(2)")
    both = [subprocess.Popen([*KARD, "run", str(path)], cwd=REPOSITORY) for _ in range(2)]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert len(kernels(root)) == 1
    path = write_notebook(tmp_path, middle="import time; time.sleep(60)")
    stopped = subprocess.Popen(
        [*KARD, "run", str(path)], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
        # a shell's background job ignores Ctrl-C, and so would all that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(kernels(root)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    stopped.send_signal(signal.SIGINT)
    _, error = stopped.communicate(timeout=60)
    assert stopped.returncode == 130 and "run the same command again to go on" in error and "Traceback" not in error


def test_params_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(tmp_path / "notebooks")
    assert main(["params", "06"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(PARAMETERS.splitlines())
    assert lines[4].split()[:3] == ["k", "int", "0"] and "passages that the student reads" in lines[4]


def test_data_dir_is_meant_from_the_callers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    plan = plan_run(write_notebook(tmp_path), {"preset": "laptop", "data_dir": "mine"})
    assert Path(plan.given["data_dir"]) == (tmp_path / "mine").resolve()


def test_unknown_arguments_are_refused_but_test_passes_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "--colour"])
    seen: list[str] = []
    monkeypatch.setattr(selftest, "run_stages", lambda todo, say: seen.extend(todo[0].command) or 0)
    assert main(["test", "-k", "bm25", "-x"]) == 0
    assert seen[-3:] == ["-k", "bm25", "-x"]


def test_stages_are_counted_and_a_failure_shows(capsys: pytest.CaptureFixture[str]) -> None:
    todo = [selftest.Stage("good", ["-c", ""]), selftest.Stage("bad", ["-c", "raise SystemExit(3)"])]
    assert selftest.run_stages(todo) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed"
    assert selftest.run_stages(todo[:1]) == 0


def test_a_stage_beside_another_runs_meanwhile_and_is_shown_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    wait = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(.05)\nprint('first')"
    with tempfile.TemporaryDirectory() as folder:
        sign = f"{folder}/sign"
        todo = [
            selftest.Stage("waits", ["-c", wait, sign]),
            selftest.Stage("tells", ["-c", f"open({sign!r}, 'w'); print('second')"], beside=True),
            selftest.Stage("fails", ["-c", "raise SystemExit(2)"]),
        ]
        said: list[str] = []
        assert selftest.run_stages(todo, said.append) == 1
    assert capfd.readouterr().out == "first\n", "shown at once"
    assert said[:2] == ["== waits", "== tells\nsecond\n"] and said[2] == "== fails"
    assert said[-1] == "2 passed, 1 failed"


def test_the_smoke_stage_has_runs_of_its_own_and_other_parameters() -> None:
    last = next(stage for stage in selftest.stages("elsewhere") if stage.name == "notebooks with other parameters")
    assert last.env == {"KARD_RUNS": "elsewhere"} and "size=smoke" in last.command and "k=2" in last.command


def _safetensors(size: int, cut: int = 0) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size - cut)


def test_doctor_tells_a_whole_model_from_a_broken_one(tmp_path: Path) -> None:
    assert not model_finding(tmp_path)[0]
    (tmp_path / "config.json").write_text("{}")
    for content, fine in ((_safetensors(64), True), (_safetensors(64, cut=4), False), (b"no header", False)):
        (tmp_path / "model.safetensors").write_bytes(content)
        assert model_finding(tmp_path)[0] is fine


def test_pins_are_exact_versions() -> None:
    assert pinned()["sentence-transformers"] and "+" not in pinned()["torch"]


def test_a_report_of_nothing_is_made_of_what_ships(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(notebook_params, "NOTEBOOKS", REPOSITORY / "notebooks")
    stages: list[list[notebook_params.Plan]] = []
    monkeypatch.setattr("kardlib.demo.run_side_by_side", lambda plans, *_: stages.extend(plans) or [])
    assert main(["report"]) == 2, "nothing was run, so there is still nothing to report"
    told = capsys.readouterr()
    assert "raw outputs that ship" in told.err and not told.out
    tables, report = ([plan.notebook[:2] for plan in stage] for stage in stages)
    assert tables == sorted(tables) and {"06", "07", "13"} <= set(tables) and min(tables) == "06"
    assert report == ["99"], "it sums up what the others have recorded"
    assert not any(plan.settings.retrain for stage in stages for plan in stage)


@pytest.mark.parametrize("given", [(), ("retrain=true",), ("retrain=false",)])
def test_all_makes_every_cell_and_makes_it_anew_where_asked(
    given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook_params, "NOTEBOOKS", REPOSITORY / "notebooks")
    made: list[notebook_params.Plan] = []
    monkeypatch.setattr("kardlib.demo.run_plans", lambda plans, *_, **__: made.extend(plans) or [])
    assert main(["all", *(part for text in given for part in ("-p", text))]) == 0
    table = next(plan for plan in made if plan.notebook.startswith("06"))
    assert table.extra.get("everything") is True
    assert table.extra.get("anew", False) is ("retrain=true" in given)
