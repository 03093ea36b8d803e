"""Prompts: rendered as the tokenizer's own template does it, with a neutral form of every template."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from emo.config.check import REPOSITORY
from emo.config.schema import ElicitationConfig
from emo.data.scenarios import Sample
from emo.data.texts import emotion_words, read_jsonl
from emo.model.chat import DATE, Message
from emo.model.lm import LM
from emo.model.prompts import example_set, messages, plain_text, prompt_ids, reply_ids, tokenize
from emo.model.tiny import tiny_tokenizer

TEMPLATES = sorted(path.stem for path in (REPOSITORY / "conf" / "elicitation").glob("*.yaml"))
EMOTIONS = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")
SAMPLE = Sample("w1/neutral", "w1", "Work/Job", "neutral", "I sent the list on Monday.", "It was read on Friday.")


def config(template: str, separator: str = "newline") -> ElicitationConfig:
    """Return an elicitation."""
    return ElicitationConfig(template=template, separator=separator)


def own_ids(lm: LM, turns: list[Message]) -> list[int]:
    """Return the ids that the tokenizer renders itself."""
    options = {"date_string": DATE, "enable_thinking": False}
    rendered = lm.tokenizer.apply_chat_template(
        turns, tokenize=True, add_generation_prompt=True, return_dict=True, **options
    )
    return list(rendered["input_ids"])


def with_bos(models: dict[str, LM], chat: str = "auto") -> LM:
    """Return a model whose tokenizer writes a BOS of its own before every text, as Llama-3's does."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    llama = models["llama"]
    return LM(llama.model, tokenizer, llama.spec._replace(chat=chat))


def test_every_template_is_tested() -> None:
    """A template of conf/ that falls through to another one's text."""
    assert set(TEMPLATES) == {"paper", "persona", "few_shot", "priming"}
    texts = [messages(config(t), SAMPLE, e, 0) for t, e in product(TEMPLATES, (*EMOTIONS, None))]
    assert len({str(turns) for turns in texts}) == len(TEMPLATES) * (len(EMOTIONS) + 1)


def test_the_papers_words() -> None:
    """The wording is the paper's; the separator stands in both places."""
    for separator, gap in (("newline", "\n"), ("space", " ")):
        system, user = messages(config("paper", separator), SAMPLE, "anger", 0)
        assert system["content"] == f"Always reply in anger.{gap}Keep the reply to at most two sentences."
        assert user["content"] == f"I sent the list on Monday.{gap}It was read on Friday."
        assert (system["role"], user["role"]) == ("system", "user")
        neutral = messages(config("paper", separator), SAMPLE, None, 0)
        assert neutral == [{"role": "system", "content": "Keep the reply to at most two sentences."}, user]


@pytest.mark.parametrize("template", TEMPLATES)
def test_rendering_is_the_tokenizers_own(models: dict[str, LM], template: str) -> None:
    """A second rendering of the template, or text tokenized apart, gives other ids."""
    for lm, emotion in product((models["llama"], with_bos(models)), ("fear", None)):
        turns = messages(config(template), SAMPLE, emotion, example_set(SAMPLE))
        assert tokenize(lm, turns) == own_ids(lm, turns)
        assert prompt_ids(lm, config(template), [SAMPLE] * 6, emotion)[5] == tokenize(lm, turns)


def test_the_first_token_stands_there_once(models: dict[str, LM]) -> None:
    """A template that prints BOS and a tokenizer that adds one: the first token once, not twice."""
    chat, plain = with_bos(models), with_bos(models, "plain")
    turns = messages(config("paper"), SAMPLE, "fear", 0)
    bos = chat.tokenizer.bos_token_id
    for lm in (chat, plain):
        assert tokenize(lm, turns)[0] == bos
        assert tokenize(lm, turns)[1] != bos
    assert bos not in reply_ids(chat, "Fine.") + reply_ids(plain, "Fine.")


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_ends_with_the_assistant_header(models: dict[str, LM], template: str) -> None:
    """The last token is the one that predicts the reply's first: all of the header, nothing after it."""
    lm = models["llama"]
    for emotion in (*EMOTIONS, None):
        turns = messages(config(template), SAMPLE, emotion, 1)
        text = lm.tokenizer.decode(tokenize(lm, turns))
        assert text.endswith("It was read on Friday.<|im_end|>\n<|im_start|>assistant\n")
        assert turns[-1]["role"] == "user"
    first = reply_ids(lm, "Fine.")
    whole = lm.tokenizer(text + "Fine.", add_special_tokens=False)["input_ids"]
    assert tokenize(lm, turns) + first == whole


@pytest.mark.parametrize("template", TEMPLATES)
def test_gemma2_folds_the_system_text(models: dict[str, LM], template: str) -> None:
    """Gemma-2's template refuses a system turn: system text, blank line, first user text."""
    lm = models["gemma2"]
    turns = messages(config(template), SAMPLE, "fear", 2)
    folded = [{"role": "user", "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}, *turns[2:]]
    assert tokenize(lm, turns) == own_ids(lm, folded)
    assert "system" not in lm.tokenizer.decode(tokenize(lm, turns))


def test_other_template_errors_are_not_hidden(models: dict[str, LM]) -> None:
    """Folding is for a missing system role; a conversation without one must fail as it fails."""
    lm = with_bos(models)
    lm.tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(Exception, match="never"):
        tokenize(lm, [{"role": "user", "content": "a"}])
    with pytest.raises(Exception, match="never"):
        tokenize(lm, messages(config("paper"), SAMPLE, None, 0))


def test_plain_text_for_models_without_a_template(models: dict[str, LM]) -> None:
    """gpt2 and base models: turns as text, the reply starts after a space."""
    turns = messages(config("few_shot"), SAMPLE, "fear", 0)
    llama = models["llama"]
    plain = LM(llama.model, llama.tokenizer, llama.spec._replace(chat="plain"))
    for lm in (models["gpt2"], plain):
        text = lm.tokenizer.decode(tokenize(lm, turns))
        assert text == plain_text(turns)
        assert text.startswith(turns[0]["content"] + "\n\nFriend: ")
        assert text.endswith(f"Friend: {turns[-1]['content']}\n\nReply:")
        assert lm.tokenizer.decode(reply_ids(lm, "Fine.")) == " Fine."


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_neutral_form_names_no_emotion(template: str) -> None:
    """A baseline that asks for an emotion after all; and an emotional form that does not ask for its own."""
    for index in range(len(read_jsonl("few_shot.jsonl"))):
        text = " ".join(turn["content"] for turn in messages(config(template), SAMPLE, None, index))
        assert not set(re.findall(r"[a-z]+", text.lower())) & (set(EMOTIONS) | emotion_words() | {"emotion"})
        for emotion in EMOTIONS:
            turns = messages(config(template), SAMPLE, emotion, index)
            named = [e for e in EMOTIONS if e in turns[0]["content"]]
            assert named == ([] if template == "priming" else [emotion])


def test_priming_stands_before_the_scenario_and_asks_for_nothing() -> None:
    """An instruction that slips in, a neutral form without a passage, or one passage for all emotions or groups."""
    sets = read_jsonl("priming.jsonl")
    assert len(sets) >= 12
    for index, separator in ((0, "newline"), (5, "space"), (len(sets) + 3, "newline")):
        passages, gap = sets[index % len(sets)]["passages"], {"newline": "\n", "space": " "}[separator]
        for emotion in (*EMOTIONS, None):
            system, user = messages(config("priming", separator), SAMPLE, emotion, index)
            assert system == messages(config("paper"), SAMPLE, None, 0)[0]
            before = passages[emotion or "neutral"]
            assert user["content"] == f"{before}{gap}I sent the list on Monday.{gap}It was read on Friday."
    assert len({text for r in sets for text in r["passages"].values()}) == 7 * len(sets)
    request = SAMPLE._replace(scenario="Name three rivers.", event="")
    assert messages(config("priming"), request, "fear", 1)[1]["content"].endswith(".\nName three rivers.")


def test_words_stand_in_for_names() -> None:
    """A user's own wording of an emotion; the neutral form and emotions without one are as before."""
    for template in ("paper", "persona", "few_shot"):
        own = ElicitationConfig(template=template, words={"fear": "a fear of heights"})
        plain, worded = (messages(ask, SAMPLE, "fear", 0)[0]["content"] for ask in (config(template), own))
        assert worded == plain.replace("fear", "a fear of heights")
        for emotion in ("anger", None):
            assert messages(own, SAMPLE, emotion, 0) == messages(config(template), SAMPLE, emotion, 0)


def test_few_shot_sets_are_spread_over_samples() -> None:
    """One fixed pair imprints its own words; within a group all emotions share scenarios, not replies."""
    sets = len(read_jsonl("few_shot.jsonl"))
    assert sets >= 12
    asked = [messages(config("few_shot"), SAMPLE, "fear", i) for i in range(2 * sets)]
    assert len({turns[1]["content"] for turns in asked}) == sets
    assert asked[:sets] == asked[sets:]
    for index in range(sets):
        group = [messages(config("few_shot"), SAMPLE, emotion, index) for emotion in (*EMOTIONS, None)]
        users = [[t["content"] for t in turns if t["role"] == "user"] for turns in group]
        replies = [[t["content"] for t in turns if t["role"] == "assistant"] for turns in group]
        assert all(u == users[0] for u in users)
        assert [t["role"] for t in group[0]] == [
            "system",
            *["user", "assistant"] * (len(users[0]) - 1),
            "user",
        ]
        assert len({text for reply in replies for text in reply}) == len(group) * len(replies[0])


def test_date_and_thinking_are_fixed(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama-3.x prints today's date, Qwen3 thinks first: prompts would change from day to day."""
    lm, calls = with_bos(models), list[dict[str, Any]]()
    lm.tokenizer.chat_template = "{{ date_string }}|{{ enable_thinking }}|{{ add_generation_prompt }}"
    turns = messages(config("paper"), SAMPLE, None, 0)
    assert lm.tokenizer.decode(tokenize(lm, turns)) == "26 Jul 2024|False|True"

    def record(_: list[Message], **options: Any) -> str:
        calls.append(options)
        return "text"

    monkeypatch.setattr(lm.tokenizer, "apply_chat_template", record)
    assert lm.tokenizer.decode(tokenize(lm, turns)) == "text"
    expected = {
        "tokenize": False,
        "add_generation_prompt": True,
        "date_string": "26 Jul 2024",
        "enable_thinking": False,
    }
    assert calls == [expected]
