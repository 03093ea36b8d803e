"""The judge against a server on the loopback: what it asks for, keeps, survives and never shows."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter

import pytest
from support.fake_judge import (
    KEY,
    SEVEN,
    SIX,
    FakeJudge,
    Request,
    Response,
    blind,
    completion,
    failing,
    files,
    honest,
    judge,
    lines,
    match,
    number,
)

from emo.config.check import REPOSITORY
from emo.core import console
from emo.core.errors import UserError
from emo.measure import judge as openai_judge
from emo.measure.judge import Judge, JudgeSettings
from emo.measure.judge_questions import messages


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    yield
    console.setup("rich")


def test_answers_are_in_order_and_equal_questions_are_asked_once(tmp_path, capsys):
    questions = [match(3), blind(3), match(2), match(3), blind(13), blind(3)._replace(emotion="fear")]
    with FakeJudge() as server:
        one = judge(server, tmp_path, price_input=1.0, price_output=10.0)
        answers = one.ask(questions)
    assert [a.label for a in answers] == [1, SEVEN[3], 0, 1, SEVEN[6], SEVEN[3]]
    assert answers[0].reason == "number 3" and json.loads(answers[0].raw)["match"] == 1
    assert len(server.requests) == 4
    assert one.usage == (4, 0, 4, 0, 400, 40, pytest.approx(800e-6), 0)
    assert all(r.authorization == f"Bearer {KEY}" and r.body["temperature"] == 0 for r in server.requests)
    assert {r.form for r in server.requests} == {"json_schema"}
    assert "4 requests (0 repeats), 400 + 40 tokens" in capsys.readouterr().out
    assert one.ask([]) == []


def test_a_second_run_asks_nothing_and_needs_no_key(tmp_path, monkeypatch):
    questions = [q for n in range(10) for q in (match(n), blind(n))]
    with FakeJudge() as server:
        first = judge(server, tmp_path).ask(questions)
        monkeypatch.setenv("OPENAI_API_KEY", "")
        again = judge(server, tmp_path, structured="text", concurrency=2, timeout_s=1.0).ask(questions)
        assert len(server.requests) == 20
        assert [a._replace(cached=False) for a in again] == first
        assert all(a.cached for a in again) and not any(a.cached for a in first)
        other = judge(server, tmp_path, model="another").ask(questions[:2])
        assert len(server.requests) == 22 and not any(a.cached for a in other)
    assert {r.authorization for r in server.requests[20:]} == {"Bearer EMPTY"}


def test_a_torn_or_foreign_line_is_as_good_as_not_there(tmp_path):
    with FakeJudge() as server:
        judge(server, tmp_path, concurrency=1).ask([match(n) for n in range(5)])
        (path,) = tmp_path.iterdir()
        path.write_bytes(b'\xff\n[]\n{"key": 1}\n' + path.read_bytes()[:-20])
        for asked in (6, 6):  # the torn one, once; it must not swallow the line after it
            assert [a.label for a in judge(server, tmp_path).ask([match(n) for n in range(5)])] == [0, 1, 0, 1, 0]
            assert len(server.requests) == asked


def test_malformed_answers_are_asked_for_once_more_then_unjudged_and_not_kept(tmp_path, capsys):
    def plan(request: Request) -> Response:
        if "#1 " in request.text or ("#2 " in request.text and request.attempt == 0):
            return completion("I would rather not say.")
        return honest(request)

    with FakeJudge(plan) as server:
        one = judge(server, tmp_path)
        answers = one.ask([match(0), match(1), match(2)])
        assert [a.label for a in answers] == [0, None, 0]
        assert answers[1].raw == "I would rather not say." and "malformed" in answers[1].reason
        assert [a.input_tokens for a in answers] == [100, 200, 200]
        assert (one.usage.requests, one.usage.retries, one.usage.unjudged) == (5, 2, 1)
        assert "1 of 3 questions unjudged" in capsys.readouterr().out
        assert len(lines(tmp_path)) == 2
        one.ask([match(0), match(1), match(2)])
        assert len(server.requests) == 7


def test_three_in_ten_requests_fail(tmp_path):
    questions = [q for n in range(40) for q in (match(n), blind(n))]
    with FakeJudge(failing(0.3, seed=5, hang=1.0)) as server:
        one = judge(server, tmp_path, concurrency=16, timeout_s=0.5, retries=6)
        answers = one.ask(questions)
    right = [label for n in range(40) for label in (n % 2, SEVEN[n % 7])]
    for answer, label in zip(answers, right, strict=True):  # in order; a failure is None, never another label
        assert answer.label in (label, None)
    unjudged = sum(a.label is None for a in answers)
    assert one.usage.unjudged == unjudged <= 8
    # On a busy machine a request may run into the timeout before the server has seen it.
    assert one.usage.questions == 80 and one.usage.requests >= len(server.requests) > 80
    assert one.usage.retries == one.usage.requests - 80
    kept = [row["key"] for row in lines(tmp_path)]
    assert len(kept) == len(set(kept)) == 80 - unjudged
    assert server.statuses[429] and server.statuses[500]


def test_a_killed_run_asks_only_for_what_is_missing(tmp_path):
    script = (
        "import sys; from emo.measure.judge import *\n"
        f"questions = [Question('match', {SIX}[n % 6], f'Reply #{{n}} .', {SIX}) for n in range(60)]\n"
        "Judge(JudgeSettings(model='fake', base_url=sys.argv[1], concurrency=3), sys.argv[2]).ask(questions)\n"
    )
    with FakeJudge(lambda request: honest(request)._replace(delay=0.03)) as server:
        child = subprocess.Popen([sys.executable, "-c", script, server.url, str(tmp_path)], cwd=REPOSITORY)
        deadline = time.monotonic() + 15
        while len(server.requests) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        time.sleep(0.1)  # what the server was still writing
        kept, asked = len(lines(tmp_path)), len(server.requests)
        assert 10 <= kept <= asked < 60
        answers = judge(server, tmp_path).ask([match(n) for n in range(60)])
        assert [a.label for a in answers] == [n % 2 for n in range(60)]
        assert len(server.requests) - asked == 60 - kept
        assert sum(a.cached for a in answers) == kept
    texts = Counter(r.text for r in server.requests)
    assert sum(count - 1 for count in texts.values()) <= 3  # only what was in flight is asked twice


def test_no_more_requests_in_flight_than_asked_for(tmp_path):
    with FakeJudge(lambda request: honest(request)._replace(delay=0.02)) as server:
        judge(server, tmp_path, concurrency=5).ask([match(n) for n in range(40)])
    assert 2 <= server.most_in_flight <= 5


def test_retry_after_is_honoured(tmp_path):
    def plan(request: Request) -> Response:
        wait = Response(429, "{}", {"Retry-After": "1.2"})  # twice what the backoff alone would wait
        return wait if request.attempt == 0 and "#1 " in request.text else honest(request)

    with FakeJudge(plan) as server:
        answers = judge(server, tmp_path).ask([match(0), match(1)])
    times = [r.time for r in server.requests if "#1 " in r.text]
    assert len(times) == 2 and times[1] - times[0] > 1.15
    assert answers[1].label == 1


def test_a_server_that_knows_only_json_object(tmp_path):
    def plan(request: Request) -> Response:
        return Response(500, '{"error": "grammar"}') if request.form == "json_schema" else honest(request)

    with FakeJudge(plan) as server:
        one = judge(server, tmp_path)
        assert [a.label for a in one.ask([match(n) for n in range(10)])] == [n % 2 for n in range(10)]
        assert Counter(r.form for r in server.requests) == {"json_schema": 2, "json_object": 10}
        one.ask([blind(n) for n in range(10)])
    assert Counter(r.form for r in server.requests) == {"json_schema": 2, "json_object": 20}


def test_a_server_that_knows_no_form(tmp_path):
    def plan(request: Request) -> Response:
        return honest(request) if request.form == "text" else Response(400, '{"error": {"message": "what?"}}')

    with FakeJudge(plan) as server:
        assert [a.label for a in judge(server, tmp_path).ask([match(n) for n in range(6)])] == [0, 1] * 3
        assert Counter(r.form for r in server.requests) == {"json_schema": 1, "json_object": 1, "text": 6}
        with pytest.raises(UserError, match="what\\?"):
            judge(server, tmp_path / "b", structured="json_schema").ask([match(n) for n in range(20)])


def test_a_model_without_temperature(tmp_path):
    def plan(request: Request) -> Response:
        error = {"error": {"message": "no", "param": "temperature", "code": "unsupported_value"}}
        return Response(400, json.dumps(error)) if "temperature" in request.body else honest(request)

    with FakeJudge(plan) as server:
        assert judge(server, tmp_path).ask([match(1)])[0].label == 1
    assert [r.form for r in server.requests] == ["json_schema"] * 2


@pytest.mark.parametrize(("status", "advice"), [(401, "OPENAI_API_KEY"), (403, "evaluator.model"), (404, "/v1")])
def test_refusals_stop_at_the_first_request(tmp_path, status, advice):
    with FakeJudge(lambda _: Response(status, '{"error": {"message": "no such thing"}}')) as server:
        with pytest.raises(UserError, match=advice) as caught:
            judge(server, tmp_path).ask([match(n) for n in range(50)])
        assert "no such thing" in str(caught.value) and str(status) in str(caught.value)
        assert len(server.requests) == 1


def test_a_refusal_in_the_middle_keeps_what_came_before(tmp_path):
    def plan(request: Request) -> Response:
        return Response(401, "{}") if "#9 " in request.text else honest(request)

    with FakeJudge(plan) as server:
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            judge(server, tmp_path, concurrency=2).ask([match(n) for n in range(50)])
        assert 8 <= len(lines(tmp_path)) <= len(server.requests) <= 14


def test_no_credit_is_said(tmp_path):
    body = '{"error": {"message": "exceeded", "code": "insufficient_quota"}}'
    with (
        FakeJudge(lambda _: Response(429, body, {"x-should-retry": "false"})) as server,
        pytest.raises(UserError, match="no credit"),
    ):
        judge(server, tmp_path).ask([match(1)])


def test_nothing_listening(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(UserError, match="nothing answers there"):
        Judge(JudgeSettings(model="fake", base_url=url, retries=1), tmp_path).ask([match(1)])


def test_a_server_that_dies_stops_the_run(tmp_path):
    def plan(request: Request) -> Response:
        return honest(request) if number(request) < 10 else Response(200, "<html>down</html>")

    with FakeJudge(plan) as server:
        with pytest.raises(UserError, match="20 times in a row"):
            judge(server, tmp_path).ask([match(n) for n in range(200)])
        assert len(lines(tmp_path)) == 10 and len(server.requests) < 50


def test_a_missing_or_broken_key(tmp_path, monkeypatch):
    default = Judge(JudgeSettings(), tmp_path)
    for key in ("", "  \n"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        for call in (default.check, lambda: default.ask([match(1)])):
            with pytest.raises(UserError, match="export OPENAI_API_KEY="):
                call()
    monkeypatch.setenv("OPENAI_API_KEY", "secret\nsecret")
    with pytest.raises(UserError) as caught:
        default.check()
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")  # as cat leaves it
    with FakeJudge() as server:
        judge(server, tmp_path).ask([match(1)])
    assert server.requests[0].authorization == f"Bearer {KEY}"


def test_one_address_however_it_is_given(tmp_path, monkeypatch):
    with FakeJudge() as server:
        judge(server, tmp_path, base_url=server.url + "/").ask([match(1)])
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert judge(server, tmp_path, base_url=None).ask([match(1)])[0].cached


def test_questions_and_folders_that_are_none(tmp_path):
    (tmp_path / "file").write_text("")
    with FakeJudge() as server:
        for wrong in (
            match(1)._replace(kind="mach"),
            match(1)._replace(emotion="angr"),
            match(1)._replace(emotion=None),
        ):
            with pytest.raises(UserError, match="not one of"):
                judge(server, tmp_path).ask([wrong])
        with pytest.raises(UserError, match="another folder"):
            judge(server, tmp_path / "file").ask([match(1)])
        assert not server.requests


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_the_key_is_found_in_nothing(tmp_path, capsys, caplog, status):
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)

    def plan(request: Request) -> Response:
        echo = f"you sent {request.authorization}"
        if "#0 " in request.text and status != 401:
            return completion(json.dumps({"match": 1, "reason": echo}))
        if status == 200:
            return completion(echo)
        body = json.dumps({"error": {"message": echo, "code": echo, "param": echo}})
        return Response(status, body, {"X-Echo": echo, "Retry-After": "0.01"})

    with FakeJudge(plan) as server:
        one = judge(server, tmp_path, retries=1)
        answers, said = [], ""
        try:
            answers = one.ask([match(0), match(1)])
        except UserError as error:
            said = f"{error!r} {error.__cause__!r} {error.__context__!r}" + "".join(traceback.format_exception(error))
        assert KEY in server.requests[0].authorization
    captured = capsys.readouterr()
    everything = [said, repr(answers), files(tmp_path), captured.out, captured.err, caplog.text, repr(one.settings)]
    assert [KEY in text for text in everything] == [False] * 7
    assert "***" in said + repr(answers)  # the echo is there, without the key
    assert (status == 401) == bool(said)
    assert logging.getLogger("httpx2").level == logging.DEBUG  # given back


def test_a_large_run_says_its_size_and_cost_first(tmp_path, capsys, monkeypatch):
    assert openai_judge.LARGE == 200
    monkeypatch.setattr(openai_judge, "LARGE", 20)
    with FakeJudge() as server:
        one = judge(server, tmp_path, price_input=10.0, price_output=100.0)
        one.ask([blind(n) for n in range(20)])
        assert "about" not in capsys.readouterr().out  # 20 are not large
        questions = [match(n) for n in range(21)]
        one.ask(questions)
    out = capsys.readouterr().out.splitlines()
    tokens = sum(len(m["content"]) for q in questions for m in messages(q)) // 4
    cost = (tokens * 10 + 21 * 40 * 100) / 1e6
    assert out[0] == (
        f"judge: 21 requests to fake, about {tokens:,} input tokens (characters / 4) and 840 output tokens, "
        f"about {cost:.2f} USD"
    )
    assert out[1].startswith("judge: 21 questions in ")
    assert out[2].startswith("judge: 21 questions, 0 known, 21 requests (0 repeats), 2,100 + 210 tokens")
    assert one.usage.cost == pytest.approx((2_100 * 10 + 210 * 100) / 1e6)


def test_quiet_says_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(openai_judge, "LARGE", 5)
    console.setup("quiet")
    with FakeJudge() as server:
        judge(server, tmp_path).ask([match(n) for n in range(10)])
    assert capsys.readouterr() == ("", "")
