"""No key, header or value of the environment anywhere: each is planted, brought into errors, and searched for."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import pytest
from fault_server import Served, serving
from teacher_asks import an_ask

from kardlib.errors import KardError
from kardlib.teacher_client import Endpoint, host_of
from kardlib.teacher_exchange import export
from kardlib.teacher_faults import Fault, NotAnswered, Refused, Unsupported, fault_of, scrubbed
from kardlib.teacher_limits import Limits
from kardlib.teacher_run import collect_now
from kardlib.teacher_salvage import salvage
from kardlib.teacher_store import TeacherStore

KEY, OTHER = "sk-planted-7Fq2XwZ9aB31", "another planted value 88"
PLANTED = (KEY, OTHER, "Bearer", "uthorization", KEY[3:15])
LIMITS = Limits(concurrency=8, first_wait=0.01, longest_wait=0.02, tries=4)


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("SOME_SETTING", OTHER)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def fill(store: TeacherStore, server: Served, log: list[str]) -> None:
    """A run whose errors are told as fully as Python can."""
    try:
        asks = [an_ask(i) for i in range(30)]
        collect_now(asks, 2, store, Endpoint(server.url, timeout=1), LIMITS, progress=True)
    except KardError as error:
        log += [str(error), repr(error), *traceback.format_exception(error)]


def test_nothing_planted_is_found_anywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    path = tmp_path / "teacher.sqlite"
    with TeacherStore(path) as store:
        for behaviour in ({"key": "right"}, {"key": KEY, "fault_rate": 0.4}, {"quota": 3}, {"models": ("none",)}):
            with serving(**behaviour) as server:
                fill(store, server, told)
        left = b"".join(file.read_bytes() for file in tmp_path.iterdir())  # with -wal and -shm
        assert Path(f"{path}-wal").stat().st_size and "teacher.sqlite.lock" in map(
            str, (f.name for f in tmp_path.iterdir())
        )
        assert export(store.everything(), tmp_path / "all.jsonl") > 3
    export(salvage(path), tmp_path / "salvaged.jsonl")
    streams = capfd.readouterr()
    texts = [*told, caplog.text, streams.out, streams.err, left.decode("latin-1")]
    texts += [file.read_bytes().decode("latin-1") for file in tmp_path.iterdir()]
    assert len(told) > 6 and "teacher" in streams.err and len(caplog.text) > 1000
    for secret in PLANTED:
        assert not [text[:200] for text in texts if secret in text]


def test_a_traceback_does_not_lead_to_the_request(tmp_path: Path) -> None:
    with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(key="right") as server:
        with pytest.raises(KardError) as caught:
            collect_now([an_ask()], 1, store, Endpoint(server.url), LIMITS, progress=False)
    error: BaseException | None = caught.value
    while error is not None:
        assert isinstance(error, KardError) and not hasattr(error, "request")
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("status", (400, 401, 403, 404, 405, 413, 422))
def test_what_a_server_says_is_told_without_secrets(status: int) -> None:
    said = f"Refused.\n{OTHER}: your key {KEY}, header 'Authorization: Bearer {KEY}', key sk-pro****jf9 is too long"
    for body in ({"error": {"message": said}}, {"detail": said}, said, {"error": said}):
        error = fault_of(status, {}, body, "http://host", "m", "OPENAI_API_KEY")
        assert isinstance(error, Refused) and "\n" not in str(error) and "http://host" in str(error)
        assert not [secret for secret in (KEY, OTHER, "Bearer", "jf9") if secret in str(error)]


def test_addresses_are_told_without_credentials() -> None:
    assert host_of("https://user:secret@example.org:8443/v1?api-key=secret") == "https://example.org:8443"
    assert host_of("http://[::1]:8000/v1") == "http://[::1]:8000"
    for wrong in ("localhost:8000", "ftp://host", "http://", "http://host:secret/v1", "http://[", ""):
        with pytest.raises(KardError) as error:
            host_of(wrong)
        assert "secret" not in str(error.value)


def test_a_key_that_is_missing_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(KardError, match="OPENAI_API_KEY is not set"):
        Endpoint()
    with pytest.raises(KardError, match="MY_KEY is not set"):
        Endpoint(key_name="MY_KEY")
    Endpoint("http://localhost:8000/v1")
    assert "is not set" in str(fault_of(401, {}, None, "http://host", "m", "MY_KEY"))


@pytest.mark.parametrize("key", ("two words-0123", "umlaut-\u00fc-0123", "line\nbreak-0123"))
def test_a_key_that_no_header_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with TeacherStore(tmp_path / "teacher.sqlite") as store, pytest.raises(KardError) as error:
        collect_now([an_ask()], 1, store, Endpoint("http://localhost/v1", "MY_KEY"), LIMITS, progress=False)
    assert "MY_KEY" in str(error.value) and "0123" not in "".join(traceback.format_exception(error.value))


def test_a_line_end_after_the_key_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(key=KEY) as server:
        assert collect_now([an_ask()], 1, store, Endpoint(server.url), LIMITS, progress=False).stored == 1


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    (
        (429, {"code": "rate_limit_exceeded"}, Fault),
        (429, {"code": "insufficient_quota"}, Refused),
        (429, {"type": "insufficient_quota"}, Refused),
        (402, {"message": "Insufficient Balance"}, Refused),
        (500, {}, Fault),
        (529, {"message": "overloaded"}, Fault),
        (408, {}, Fault),
        (400, {"param": "n", "message": "n must be 1"}, Unsupported),
        (422, {"message": "Unexpected fields in the request: {'n'}"}, Unsupported),
        (400, {"message": "Use 'max_completion_tokens' instead."}, Unsupported),
        (400, {"code": "context_length_exceeded", "message": "This model's maximum context length is 9"}, NotAnswered),
        (400, {"code": "content_filter", "message": "The response was filtered"}, NotAnswered),
        (400, {"message": "The model `x` does not exist"}, Refused),
        (404, {"message": "model 'x' not found, try pulling it first"}, Refused),
    ),
)
def test_what_a_status_means(status: int, error: dict[str, str], kind: type[Exception]) -> None:
    told = fault_of(status, {"retry-after": "3"}, {"error": error}, "http://host", "x", "OPENAI_API_KEY")
    assert type(told) is kind
    if kind is Fault:
        assert told.kind == str(status) and told.retry_after == 3.0
    if status in (400, 404) and kind is Refused:
        assert "no model 'x'" in str(told)


def test_scrubbing_leaves_the_rest() -> None:
    assert scrubbed(f"a  temperature\nof {OTHER} is too high") == "a temperature of *** is too high"
    assert len(scrubbed("x" * 1000)) == 200
