"""Chat templates: the only place that renders them, and that turns text into token ids.

A rendered prompt depends on the conversation alone: clocks of a template stand still, and what a user wrote is text
even where it reads like a control token (`<|im_end|>`), which only the template may put there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from jinja2.exceptions import TemplateError

from emo.core.errors import UserError
from emo.model.lm import LM

Message = dict[str, str]

NOW = datetime(2024, 7, 26)  # the date that Llama-3.x names where it is given none
DATE = NOW.strftime("%d %b %Y")
OPEN, CLOSE = "\ufdd0", "\ufdd1"  # around control tokens of a user; Unicode has no character there
PROBE = "Yes."
THINKS = (
    "The model's chat template opens <think> behind every prompt: replies begin with thoughts, and states and margins "
    "are those of a model that is about to think."
)


def has_template(lm: LM) -> bool:
    """Return whether conversations are rendered by the tokenizer's own template.

    Raises:
        UserError: it has several, by name, and none is the default.
    """
    template = lm.tokenizer.chat_template
    if lm.spec.chat == "plain" or not template:
        return False
    if isinstance(template, dict) and "default" not in template:
        raise UserError(
            f"{lm.spec.title}: its tokenizer has only chat templates with names ({', '.join(sorted(template))}) and no "
            "default; type model.chat=plain or another model"
        )
    return True


def chat_ids(lm: LM, turns: Sequence[Message]) -> list[int]:
    """Return the token ids of a conversation that awaits the assistant; special tokens are the template's alone."""
    return _ids(lm, lambda mark: render(lm, [{**turn, "content": mark(turn["content"])} for turn in turns]))


def text_ids(lm: LM, text: str, specials: bool = False) -> list[int]:
    """Return the token ids of plain text; ``specials``: with those that the tokenizer puts around it."""
    if specials and _control(lm).search(text):
        return list(lm.tokenizer(text, add_special_tokens=True, split_special_tokens=True)["input_ids"])
    if specials:
        return list(lm.tokenizer(text, add_special_tokens=True)["input_ids"])
    return _ids(lm, lambda mark: mark(text))


def render(lm: LM, turns: Sequence[Message]) -> str:
    """Return the text of a conversation that awaits the assistant, as the tokenizer's template writes it."""
    template = _template(lm)
    options = {"tokenize": False, "add_generation_prompt": True, "date_string": DATE, "enable_thinking": False}
    if "strftime_now" in template:
        options["chat_template"] = _clock() + template
    try:
        return str(lm.tokenizer.apply_chat_template(list(turns), **options))
    except TemplateError:
        if turns[0]["role"] != "system":
            raise
        # No system role (Gemma-2): system text, blank line, first user text.
        first = {"role": "user", "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
        return str(lm.tokenizer.apply_chat_template([first, *turns[2:]], **options))


def opens_thinking(lm: LM) -> bool:
    """Return whether a prompt ends within a `<think>` that the template opened: replies begin with thoughts."""
    if not has_template(lm):
        return False
    behind = render(lm, [{"role": "user", "content": PROBE}]).rpartition(PROBE)[2]
    return behind.rfind("<think>") > behind.rfind("</think>")


def _template(lm: LM) -> str:
    template = lm.tokenizer.chat_template
    return str(template["default"] if isinstance(template, dict) else template)


def _clock() -> str:
    """Return a macro that takes the place of transformers' ``strftime_now``: the same time for every day.

    It is no argument of the template, because those are plain data.
    """
    forms = [f"%{flag}{letter}" for letter in "aAbBcdDeFHIjmMpSTuUwWxXyYZ" for flag in ("-", "")]
    turned = "".join(f"|replace({form!r}, {NOW.strftime(form)!r})" for form in forms)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{turned} }}}}{{%- endmacro +%}}"


def _control(lm: LM) -> re.Pattern[str]:
    """Return what finds control tokens: special ones, and added ones that the template writes itself."""
    written = _template(lm) if has_template(lm) else ""
    added = {str(token): token.special for token in lm.tokenizer.added_tokens_decoder.values()}
    added |= dict.fromkeys(lm.tokenizer.all_special_tokens, True)
    found = [text for text, special in added.items() if special or (text in written and not text.isspace())]
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True))) or "(?!)")


def _ids(lm: LM, write: Callable[[Callable[[str], str]], str]) -> list[int]:
    """Return the token ids of what ``write`` makes of users' texts, each of which it hands to a function first."""
    control, met = _control(lm), False

    def mark(text: str) -> str:
        nonlocal met
        marked = control.sub(rf"{OPEN}\g<0>{CLOSE}", text)
        met |= marked != text
        return marked

    text = write(mark)
    if not met:
        return _encode(lm.tokenizer, text)
    pieces = re.split(f"{OPEN}({control.pattern}){CLOSE}", text)  # every other one is a user's control token
    parts = [(_as_text if i % 2 else _encode)(lm.tokenizer, piece) for i, piece in enumerate(pieces) if piece]
    return [token for part in parts for token in part]


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _as_text(tokenizer: Any, control: str) -> list[int]:
    """Return the ids of a control token's letters."""
    ids = list(tokenizer(control, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    if tokenizer.convert_tokens_to_ids(control) in ids:  # one that is added but not special cannot be switched off
        return _encode(tokenizer, control[0]) + _encode(tokenizer, control[1:])
    return ids
