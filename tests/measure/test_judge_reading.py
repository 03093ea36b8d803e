"""What a judge is asked, word for word, which of its answers count, and what it cannot be set to."""

from __future__ import annotations

import json

import pytest
from support.fake_judge import SEVEN, SIX, blind, match

from emo.core.errors import UserError
from emo.measure.judge import Judge, JudgeSettings
from emo.measure.judge_questions import Question, messages, names, read, schema


def test_match_is_asked_as_printed():
    system, user = (m["content"] for m in messages(Question("match", "anger", "Fine {then}.", ("anger", "fear"))))
    assert system == (
        "You are a careful rater. Given a target emotion and a text, decide if the text's STYLE matches the target "
        "emotion among: anger, fear. Focus on tone/attitude, not content valence."
    )
    assert user == (
        "Target emotion: anger\nText: Fine {then}.\nDecide if the text's STYLE matches the target emotion. "
        'Return a compact JSON with keys exactly: {"match": <0 or 1>, "reason": <short string>}'
    )


def test_blind_is_never_told_the_target():
    told = Question("blind", "disgust", "Fine.", SIX)
    assert messages(told) == messages(told._replace(emotion=None))
    assert schema(told)["properties"]["emotion"]["enum"] == list(SEVEN) == list(names(told))
    sent = json.dumps([messages(told), schema(told)])
    assert {emotion: sent.count(emotion) for emotion in SIX} == dict.fromkeys(SIX, 2)  # once listed, once in the schema


MATCH = [
    ('{"match": 1, "reason": "sharp"}', 1),
    ('{"match":0}', 0),
    ('```json\n{"match": 1, "reason": "x"}\n```', 1),
    ('Sure! Here it is:\n{"match": 0, "reason": "a {b} c"}\nHope that helps {smile}.', 0),
    ("{'match': 1, 'reason': 'calm'}", 1),
    ("{'match': True, 'reason': 'calm',}", 1),
    ("{'match': false}", 0),
    ('{"match": true}', 1),
    ('{"match": False, "reason": "no"}', 0),
    ('{"match": "1"}', 1),
    ('{"Match": "True."}', 1),
    ('{"match": 1.0}', 1),
    ('{"reason": "first\nline", "match": 0}', 0),
    ('<think>maybe {"match": 0}</think>{"match": 1}', 1),
    ('{"match": 1} and again {"match": 1}', 1),
    ('{"match": 1} or rather {"match": 0}', None),
    ('{"match": 2}', None),
    ('{"match": 0.5}', None),
    ('{"match": null}', None),
    ('{"match": "maybe"}', None),
    ('{"match": [1]}', None),
    ('{"matches": 1}', None),
    ('{"match": 1, "rea', None),
    ("match: 1", None),
    ("1", None),
    ("[1]", None),
    ("Yes, it matches.", None),
    ("", None),
    ("<html><body>502</body></html>", None),
    ("{" * 30_000, None),
    ('{"match": ' + "[" * 9_000, None),
]
BLIND = [
    ('{"emotion": "anger"}', "anger"),
    ('{"emotion": "Anger."}', "anger"),
    ("Anger.", "anger"),
    ("**Angry**", "anger"),
    ('"disgusted"', "disgust"),
    ("{'Emotion': 'HAPPY'}", "happiness"),
    ('{"emotion": "joy"}', "happiness"),
    ('{"emotion": "sad"}', "sadness"),
    ('{"emotion": "afraid"}', "fear"),
    ('{"emotion": "scared"}', "fear"),
    ('{"emotion": "fearful"}', "fear"),
    ('{"emotion": "surprised"}', "surprise"),
    ('```\n{"emotion": "disgusted"}\n```', "disgust"),
    ("```\nneutral\n```", "neutral"),
    ('{"emotion": "contempt"}', None),
    ('{"emotion": "anger, fear"}', None),
    ('{"emotion": "not anger"}', None),
    ('{"emotion": ["anger"]}', None),
    ('{"emotion": "anger"} {"emotion": "fear"}', None),
    ('{"emotion": "anger"} {"emotion": "ANGRY"}', "anger"),
    ('{"emotion": ""}', None),
    ('{"emotion": "ang', None),
    ("It is anger", None),
    ("", None),
]


@pytest.mark.parametrize(("content", "label"), MATCH)
def test_reading_a_match(content, label):
    reading = read(match(1), content)
    assert (reading and reading.label) == label
    assert reading is None or type(reading.label) is int


JOINT = [
    ('{"expresses": 2, "coherent": 2, "on_topic": 2}', 2.0),
    ('{"expresses": 1, "coherent": 2, "on_topic": 2}', 1.5),
    ('{"expresses": "2", "coherent": 1.0, "on_topic": 2}', 1.5),
    ('{"expresses": 0, "coherent": 2, "on_topic": 2}', 0.0),
    ('{"expresses": 2, "coherent": 2}', None),
    ('{"expresses": 3, "coherent": 2, "on_topic": 2}', None),
    ('{"expresses": true, "coherent": 2, "on_topic": 2}', None),
    ('{"expresses": 1, "coherent": 1, "on_topic": 1} {"expresses": 2, "coherent": 1, "on_topic": 1}', None),
    ("2, 2, 2", None),
]


@pytest.mark.parametrize(("content", "label"), JOINT)
def test_reading_marks(content, label):
    """Their harmonic mean, so that one 0 makes it 0; a mark that is none is not guessed."""
    asked = Question("joint", "anger", "Fine.", SIX, prompt="My train was late.")
    assert getattr(read(asked, content), "label", None) == (label if label is None else pytest.approx(label))


def test_marks_are_asked_with_the_message_that_was_answered():
    asked = Question("joint", "anger", "Fine.", SIX, prompt="My train was late.")
    system, user = (m["content"] for m in messages(asked))
    assert "expresses anger" in system and user.startswith("Message: My train was late.\nReply: Fine.\n")
    assert list(schema(asked)["properties"]) == ["expresses", "coherent", "on_topic"]


@pytest.mark.parametrize(("content", "label"), BLIND)
def test_reading_a_blind_answer(content, label):
    assert getattr(read(blind(1), content), "label", None) == label


def test_forms_map_to_the_names_that_are_asked_for():
    assert read(Question("blind", None, "", ("joy",)), "Happy").label == "joy"
    assert read(Question("blind", None, "", ("joy", "happiness")), "glad, happy") is None
    assert read(Question("blind", None, "", ("joy", "happiness")), "happy") is None  # either one
    assert read(Question("blind", None, "", ("anger",)), "sad") is None


def test_half_an_emoji_can_be_sent():
    assert messages(match(1)._replace(text="Ha \ud83d"))[1]["content"].encode().count(b"Ha ?") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"structured": "jsn_schema"}, {"concurrency": 0}, {"timeout_s": 0.0}, {"retries": -1}, {"model": " "},
        {"price_input": -1.0}, {"base_url": "localhost:8000"}, {"base_url": "http://"}, {"base_url": "http://h:x/v1"},
        {"base_url": "http://me:hunter2@host/v1"},
    ],
)  # fmt: skip
def test_settings_out_of_range(tmp_path, wrong):
    with pytest.raises(UserError, match=f"evaluator.{next(iter(wrong)).removesuffix('_input')}") as caught:
        Judge(JudgeSettings(**wrong), tmp_path)
    assert "hunter2" not in str(caught.value)
