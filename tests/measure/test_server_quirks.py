"""What servers demand and offer: limits a minute, a second chance for an answer, batches, prices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.fake_judge import KEY, FakeJudge, Request, Response, completion, honest, judge, lines, match

from emo.core.errors import UserError
from emo.measure import batch_api, rate_limit
from emo.measure.judge import JudgeSettings
from emo.measure.prices import Tokens, cost_words, price_of


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(batch_api, "FIRST_POLL_S", 0.01)


def most_in(times: list[float], window: float) -> int:
    """Return the most that lie in any window of so many seconds."""
    return max(sum(start <= t < start + window for t in times) for start in times)


@pytest.mark.parametrize("limit", [{"requests_per_minute": 4}, {"tokens_per_minute": 600}, {}])
def test_no_more_than_so_much_in_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    """A minute is 0.6 s here."""
    monkeypatch.setattr(rate_limit, "WINDOW_S", 0.6)
    with FakeJudge() as server:
        judge(server, tmp_path, concurrency=8, **limit).ask([match(n) for n in range(10)])
    times = [request.time for request in server.requests]
    tokens = min(len(json.dumps(request.body, separators=(",", ":"))) for request in server.requests) // 4
    most = min(limit.get("requests_per_minute", 10), limit.get("tokens_per_minute", 10_000) // tokens)
    assert len(times) == 10 and most >= 2
    assert most_in(times, 0.5) <= most  # 0.1 s for the way to the server
    assert (times[-1] - times[0] > 1.0) == bool(limit)


def test_repeats_count_as_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "WINDOW_S", 0.5)

    def plan(request: Request) -> Response:
        return Response(429, "{}", {"Retry-After": "0.01"}) if request.attempt < 2 else honest(request)

    with FakeJudge(plan) as server:
        judge(server, tmp_path, requests_per_minute=2, structured="text").ask([match(0), match(1)])
    assert len(server.requests) == 6
    assert most_in([request.time for request in server.requests], 0.4) <= 2


def test_one_repair_shows_what_could_not_be_read(tmp_path: Path) -> None:
    def plan(request: Request) -> Response:
        return completion("Quite so, I would say.") if len(request.body["messages"]) == 2 else honest(request)

    with FakeJudge(plan) as server:
        [answer] = judge(server, tmp_path).ask([match(1)])
    assert answer.label == 1 and len(server.requests) == 2
    assert [turn["role"] for turn in server.requests[1].body["messages"]] == ["system", "user", "assistant", "user"]
    assert server.requests[1].body["messages"][2]["content"] == "Quite so, I would say."


def test_a_batch_asks_one_question_plainly_and_the_rest_in_one_file_at_half_the_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan(request: Request) -> Response:
        return completion("No.") if "#7 " in request.text and len(request.body["messages"]) == 2 else honest(request)

    with FakeJudge(plan) as server:
        server.batches.looks, server.batches.lost = 3, {2}
        one = judge(server, tmp_path, batch=True, price_input=10.0, price_output=100.0)
        answers = one.ask([match(n) for n in range(20)])
        assert [a.label for a in answers] == [n % 2 for n in range(20)]
        assert len(server.batches.batches) == 1
        # 1 plainly, 18 in the batch; what was lost there is asked plainly, what was unreadable there twice
        assert len(server.requests) == 1 + 18 + 1 + 2
        direct, batched = 4, 18
        cost = (100 * (direct + batched / 2) * 10 + 10 * (direct + batched / 2) * 100) / 1e6
        assert one.usage.cost == pytest.approx(cost) and one.usage.unjudged == 0
        assert not list(tmp_path.glob("batch-*"))
    said = capsys.readouterr().out
    assert "19 requests sent as batch batch-0" in said and "in_progress" in said and "completed, 19 of 19" in said


def test_a_killed_batch_is_fetched_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [match(n) for n in range(8)]

    async def killed(_: float) -> None:
        raise KeyboardInterrupt

    with FakeJudge() as server:
        server.batches.looks = 2
        with monkeypatch.context() as patch:
            patch.setattr(batch_api.asyncio, "sleep", killed)
            with pytest.raises(KeyboardInterrupt):
                judge(server, tmp_path, batch=True).ask(questions)
        assert len(list(tmp_path.glob("batch-*.json"))) == 1 and len(lines_of(tmp_path)) == 1
        answers = judge(server, tmp_path, batch=True).ask(questions)
        assert [a.label for a in answers] == [n % 2 for n in range(8)]
        assert len(server.batches.batches) == 1


def lines_of(folder: Path) -> list[dict[str, object]]:
    """Return the answers that are kept, without the numbers of batches."""
    return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]


def test_a_server_without_batches_is_named(tmp_path: Path) -> None:
    with FakeJudge() as server:
        server.batches.refused = True
        with pytest.raises(UserError, match=r"evaluator\.batch=true.*404.*leave evaluator\.batch out"):
            judge(server, tmp_path, batch=True).ask([match(n) for n in range(5)])
    assert len(lines(tmp_path)) == 1  # the first answer is kept


def test_a_price_is_given_or_in_the_table_or_not_known() -> None:
    tokens = Tokens(1_000_000, 100_000)
    given = JudgeSettings(model="gpt-4o-mini", price_input=1.0, price_output=2.0)
    assert cost_words(given, tokens, 2) == "1.20 USD"
    table = price_of(JudgeSettings(model="gpt-4o-mini-2024-07-18"))
    assert table is not None and table[:2] == (0.15, 0.6) and "conf/prices.yaml" in table.source
    assert price_of(JudgeSettings(model="gpt-4o-mini", base_url="http://localhost:1/v1")) is None
    unknown = JudgeSettings(model="my-model")
    assert price_of(unknown) is None
    assert "not known" in cost_words(unknown, tokens) and "evaluator.price_input" in cost_words(unknown, tokens)
    assert given.section == "evaluator"
    with pytest.raises(UserError, match="one of them is missing"):
        JudgeSettings(price_input=1.0)
    assert price_of(given).cost(Tokens(0, 0, 1_000_000, 0)) == pytest.approx(0.5)  # type: ignore[union-attr]
