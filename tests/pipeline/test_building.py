"""task=build_*: what a server that breaks every rule leaves; what is kept, refused, asked again, never asked twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_judge import KEY, FakeJudge, Request, Response, completion, files
from support.fake_writer import writing
from support.jobs import config

from emo.cli.tasks import run_task
from emo.config.check import REPOSITORY
from emo.config.schema_build import BuildConfig
from emo.core import console
from emo.core.errors import UserError
from emo.data.language_words import read_language
from emo.data.scenarios import read_records
from emo.data.text_rules import event_rules, scenario_rules
from emo.measure import batch_api
from emo.measure.encoder import embed
from emo.pipeline.building import sets
from emo.pipeline.building.known import Known

LITTLE = ("build.themes=[Work/Job,Housing/Living facilities]", "build.count=4", "build.at_once=4")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give a key, and leave the shipped texts out, which take seconds to embed."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(sets, "SHIPPED", dict.fromkeys(sets.SHIPPED, ()))
    yield
    console.setup("rich")


def words(folder: Path, server: FakeJudge | None, *more: str, task: str = "build_sev") -> list[str]:
    """Return what is typed."""
    asked = [] if server is None else ["build.model=fake", f"build.base_url={server.url}"]
    return [f"task={task}", f"paths.outputs={folder}", f"build.path={folder / 'set'}", *asked, *LITTLE, *more]


def build(folder: Path, server: FakeJudge | None, *more: str, task: str = "build_sev") -> int:
    """Run the task; returns its exit code."""
    typed = words(folder, server, *more, task=task)
    return run_task(config(folder, *typed), typed)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of a file of the set."""
    return [json.loads(line) for line in (folder / "set" / name).read_text(encoding="utf-8").splitlines()]


def test_a_server_that_breaks_every_rule_gives_valid_records_or_the_list_of_what_is_missing(tmp_path: Path) -> None:
    with FakeJudge(writing(0.7)) as server:
        assert build(tmp_path, server, "build.tries=14", "build.structured=text") == 0
        asked = len(server.requests)
        assert {request.authorization for request in server.requests} == {f"Bearer {KEY}"}
        records, lost = read_records(tmp_path / "set" / "sev.jsonl"), rows(tmp_path, "missing.jsonl")
        assert len(records) + len({row["id"] for row in lost}) == 8 and len(records) >= 6
        english = read_language("en")
        for record in records:
            assert scenario_rules(record["scenario"], english) == event_rules(record["event"], english) == []
        texts = embed([record["scenario"] for record in records])
        assert float((texts @ texts.T).fill_diagonal_(0).max()) <= 0.9
        log = rows(tmp_path, "log.jsonl")
        broken = {rule for row in log if "slot" in row for rule, _ in row["broken"]}
        assert broken >= {"length", "first person", "one sentence", "emotion words", "language"}
        assert broken >= {"spread", "same participants", "alike", "restates", "unreadable"}
        # Every answer is logged once; a later call asks for nothing that is there, and writes the same files.
        before = {name: (tmp_path / "set" / name).read_text() for name in ("sev.jsonl", "provenance.jsonl")}
        assert build(tmp_path, server, "build.tries=14", "build.structured=text") == 0
        assert len(server.requests) == asked
        assert before == {name: (tmp_path / "set" / name).read_text() for name in before}
    made = {(row["id"], row["stage"]): row for row in rows(tmp_path, "provenance.jsonl")}
    assert len(made) == 2 * len(records)
    for (name, stage), row in made.items():
        tries = sum(one.get("slot") == name and one["stage"] == stage for one in log)
        assert row["tries"] == tries and row["model"] == f"fake at {server.url}" and len(row["prompt"]) == 64
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert f"{100 * asked:,} + {10 * asked:,} tokens by the server's count" in card  # of both calls
    assert "| scenarios | 8 |" in card and "Field of life: Work/Job." in card and f"fake at {server.url}" in card
    page = (tmp_path / "set" / "report.html").read_text(encoding="utf-8")
    assert records[0]["scenario"].replace("'", "&#x27;") in page and "http:" not in page.replace(server.url, "")
    assert KEY not in files(tmp_path)


def test_what_is_refused_is_sent_back_with_its_rule_and_given_up_after_so_many_answers(tmp_path: Path) -> None:
    def plan(request: Request) -> Response:
        n = request.text.partition("Subjects:")[2].count("\n") - 2
        return completion(json.dumps({"scenarios": ["I packed."] * n}))

    with FakeJudge(plan) as server:
        assert build(tmp_path, server, "build.tries=3") == 1  # not one record
        assert len(server.requests) == 2 * 3  # two themes, three answers
        assert "it has 2 words; 15 to 25 are needed" in server.requests[-1].text
        assert '"I packed."' in server.requests[-1].text or "refused: I packed." in server.requests[-1].text
        lost = rows(tmp_path, "missing.jsonl")
        assert [row["tries"] for row in lost] == [3] * 8 and lost[0]["last"] == "I packed."
        assert lost[0]["broken"][0][0] == "length"
        build(tmp_path, server, "build.tries=4")  # one more answer each
        assert len(server.requests) == 2 * 4


def test_a_text_that_is_there_already_is_refused(tmp_path: Path) -> None:
    """In the set itself, and in a file of another one."""
    with FakeJudge(writing(0.0)) as server:
        build(tmp_path, server)
    told = read_records(tmp_path / "set" / "sev.jsonl")[0]["scenario"]

    def plan(request: Request) -> Response:
        if '"scenarios"' not in request.text:
            return writing(0.0)(request)
        return completion(json.dumps({"scenarios": [told.replace(" I ", " I slowly ")] * 4}))

    for against, had in ((f"build.against=[{tmp_path / 'set' / 'sev.jsonl'}]", 0), ("build.against=[]", 1)):
        with FakeJudge(plan) as server:
            folder = tmp_path / str(had)
            build(folder, server, "build.tries=2", against)
            assert len(read_lines(folder / "set" / "sev.jsonl")) == had
            assert {rule for row in rows(folder, "missing.jsonl") for rule, _ in row["broken"]} == {"duplicate"}


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file."""
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_a_killed_run_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:0] = ['tests']\n"
        "from emo.pipeline.building import sets; sets.SHIPPED = dict.fromkeys(sets.SHIPPED, ())\n"
        "from support.jobs import config; from emo.cli.tasks import run_task; from pathlib import Path\n"
        "typed = sys.argv[2:]; run_task(config(Path(sys.argv[1]), *typed), typed)\n"
    )

    plan = writing(0.4)

    def slow(request: Request) -> Response:
        return plan(request)._replace(delay=0.05)

    with FakeJudge(slow) as server:
        more = ("build.count=8", "build.at_once=1", "build.concurrency=3", "build.tries=20")
        typed = words(tmp_path, server, *more)
        child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), *typed], cwd=REPOSITORY)
        deadline = time.monotonic() + 60
        while len(server.requests) < 15 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        time.sleep(0.2)  # what the server was still writing
        asked, logged = len(server.requests), len(rows(tmp_path, "log.jsonl")) - 1
        assert 10 <= logged <= asked < 40 and asked - logged <= 3  # in flight
        assert not (tmp_path / "set" / "sev.jsonl").exists()
        assert build(tmp_path, server, *more) == 0
        log = [row for row in rows(tmp_path, "log.jsonl") if "slot" in row]
        assert len(read_records(tmp_path / "set" / "sev.jsonl")) == 16
        assert len(server.requests) - asked == len(log) - logged  # nothing that was answered is asked again


def test_an_answer_is_never_asked_for_twice_even_for_another_folder(tmp_path: Path) -> None:
    any_text = "build.max_cosine=1"  # which of two alike texts is refused hangs on which comes first
    with FakeJudge(writing(0.0)) as server:
        build(tmp_path, server, any_text)
        asked = len(server.requests)
        build(tmp_path, server, any_text, f"build.path={tmp_path / 'other'}")
        assert len(server.requests) == asked
        assert (tmp_path / "other" / "sev.jsonl").read_text() == (tmp_path / "set" / "sev.jsonl").read_text()
        build(tmp_path, server, any_text, f"build.path={tmp_path / 'third'}", "build.temperature=0.1")
        assert len(server.requests) > asked


def test_batches_carry_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "FIRST_POLL_S", 0.01)
    with FakeJudge(writing(0.3)) as server:
        assert build(tmp_path, server, "build.batch=true", "build.tries=12") == 0
        assert len(server.batches.batches) >= 2
        assert len(read_records(tmp_path / "set" / "sev.jsonl")) == 8


def test_dialogues_and_stories(tmp_path: Path) -> None:
    """Labelled texts of every topic and emotion, by rules of their own."""
    turns = (
        "A: The {0} driver left the crates at the wrong gate and drove off before noon.\nB: Did {0} sign for them?\n"
    )
    turns += (
        "A: Nobody did, and the {1} is still out there in the rain with all of it.\nB: Then we go and fetch it now."
    )
    story = "The {0} came at nine and Mara carried the {1} up the stairs, one by one, without a word to anybody. "

    def plan(request: Request) -> Response:
        mark = zlib.crc32(request.text.encode()) % 9973
        parts = (f"Name{mark}", f"thing{mark % 97} of {mark % 89} kinds and {mark % 83} parts in box {mark % 79}")
        if '"dialogue"' in request.text:
            bad = request.attempt == 0 and "Emotion: fear" in request.text and "refused" not in request.text
            return completion(json.dumps({"dialogue": "A: Hm." if bad else turns.format(*parts)}))
        return completion(json.dumps({"story": (story * 3).format(*parts).strip()}))

    with FakeJudge(plan) as server:
        more = ("build.count=2", "emotions.names=[anger,fear]", "build.max_cosine=1")
        assert build(tmp_path, server, *more, task="build_dialogues") == 0
        made = [json.loads(line) for line in read_lines(tmp_path / "set" / "dialogues.jsonl")]
        assert [(row["id"], row["emotion"]) for row in made][:2] == [("d000_anger", "anger"), ("d000_fear", "fear")]
        assert len(made) == 4 and len(server.requests) == 6 and set(made[0]) == {"id", "topic", "emotion", "dialogue"}
        with pytest.raises(UserError, match="holds the set of task=build_dialogues"):
            build(tmp_path, server, *more, task="build_stories")
        other = f"build.path={tmp_path / 'stories'}"
        assert build(tmp_path, server, *more, other, "build.tries=1", task="build_stories") == 0
        assert set(json.loads(read_lines(tmp_path / "stories" / "stories.jsonl")[0])) == {
            "id", "topic", "emotion", "text",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("there", "near", "other"),
    [
        (
            "Am Dienstag habe ich den neuen Lieferplan an die drei Fahrer im Norden geschickt.",
            "Gestern habe ich den neuen Lieferplan an die drei Fahrer im Norden geschickt.",
            "Am Dienstag habe ich mit meiner Schwester im Keller die alten Kisten umgeräumt.",
        ),
        (
            "星期二早上我把修改过的送货时间表发给了负责北边路线的三位司机师傅。",
            "昨天早上我把修改过的送货时间表发给了负责北边路线的三位司机师傅。",
            "上个周末我和妹妹一起把地下室里的旧箱子搬到了院子的另一边。",
        ),
    ],
)
def test_duplicates_in_languages_that_the_encoder_does_not_know(there: str, near: str, other: str) -> None:
    known = Known(0.9, english=False, others=[("a file", there)])
    assert [broken.rule for broken in known.repeated("x", [near])] == ["duplicate"]
    assert known.repeated("x", [other]) == []
    known.add("x", [other])
    assert known.repeated("x", [other]) == []  # its own
    assert known.repeated("y", [other]) != []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["build.count=0"], "build.count=0"),
        (["build.language=it"], "build.language_file=FILE"),
        (["build.language=d3"], "en, de, zh, fr, es"),
        (["build.against=[nowhere.jsonl]"], "no such file"),
        (["build.max_cosine=0"], "build.max_cosine"),
        (["build.at_once=99"], "1 to 50"),
        (["build.model=x", "build.base_url=nowhere"], "build.base_url=nowhere"),
        (["build.model=x", "build.price_input=1"], "one of them is missing"),
        (["build.model=x", "build.temperature=3"], "build.temperature"),
        (["build.model=x", "build.base_url=http://localhost:1/v1", "device=cpu"], "leave device out"),
        (["build.base_url=http://localhost:1/v1"], "build.model=NAME"),
        (["intervention.alpha=2"], "not read by task=build_sev"),
    ],
)
def test_a_wrong_key_is_refused_before_anything_is_asked_or_written(
    tmp_path: Path, typed: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said.replace("[", "\\[").replace(".", "\\.")):
        run_task(config(tmp_path, "task=build_sev", *typed), ["task=build_sev", *typed])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_key_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    typed = ["task=build_sev", "build.model=gpt-4o-mini"]
    with pytest.raises(UserError, match="export OPENAI_API_KEY"):
        run_task(config(tmp_path, *typed), typed)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_this_process_goes_the_same_road(tmp_path: Path) -> None:
    """A tiny model writes noise: every answer is logged with what it broke, nothing is accepted."""
    typed = [word for word in words(tmp_path, None, "build.tries=2", "build.at_once=1", "build.count=1")]
    assert run_task(config(tmp_path, *typed), typed) == 1
    log = [row for row in rows(tmp_path, "log.jsonl") if "slot" in row]
    assert len(log) == 4 and all(row["broken"] for row in log)
    assert len(rows(tmp_path, "missing.jsonl")) == 2


def test_a_small_model_of_this_process_is_told_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to type instead; a server's model, whose size is not known, is not judged."""
    console.setup("rich")
    typed = words(tmp_path, None, "build.tries=1", "build.at_once=1", "build.count=1", "console=rich")
    run_task(config(tmp_path, *typed), typed)
    said = capsys.readouterr().out
    doubt = said.index("rarely keep the rules")
    assert doubt < said.index("scenarios: 2 scenarios")
    assert "type build.base_url=URL build.model=NAME (a server), or model=NAME" in said
    with FakeJudge(writing(0.0)) as server:
        build(tmp_path / "other", server, "console=rich")
    assert "rarely keep" not in capsys.readouterr().out


def test_another_author_in_the_same_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whose texts are kept and how to have a set of one's own; not where nothing is left to write."""
    console.setup("rich")
    more = ("console=rich", "build.max_cosine=1")
    with FakeJudge(writing(0.0)) as server:
        build(tmp_path, server, *more)
        other = "build.model=other"
        build(tmp_path, server, *more, other)
        assert "another author" not in capsys.readouterr().out
        build(tmp_path, server, *more, other, "build.count=5")
        said = capsys.readouterr().out
        assert f"answers of another author are kept (16 by fake at {server.url})" in said
        assert "texts of both (provenance.jsonl says which); for a set of its own type build.path=FOLDER" in said
    assert {row["model"].split()[0] for row in rows(tmp_path, "provenance.jsonl")} == {"fake", "other"}


def test_the_defaults_are_those_of_the_published_set() -> None:
    assert (BuildConfig().count, len(sets._themes(None)), sets._themes(None)[0][0]) == (20, 8, "Work/Job")
