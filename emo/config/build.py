"""What is wrong with the section ``build`` before anything is asked."""

from __future__ import annotations

import re
from pathlib import Path

from emo.config.choices import BUILDS, LANGUAGES
from emo.config.schema import Config
from emo.config.values import check_number, check_subset
from emo.core.errors import UserError

MOST_AT_ONCE = 50
CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")  # of a language
# What a server is asked with; where a model of this process writes, they say nothing.
OF_SERVERS = (
    *("base_url", "temperature", "structured", "concurrency", "timeout_s", "retries", "price_input", "price_output"),
    *("requests_per_minute", "tokens_per_minute", "batch"),
)
# Sections and keys that the tasks read beside ``build``; of a local model the last ones.
READ = ("task", "build", "paths", "console", "emotions")
OF_MODELS = ("model", "device", "dtype", "batch_size")


def check_build(config: Config) -> None:
    """Check the section ``build``; what a server takes is checked where it is made.

    Raises:
        UserError: a value out of range, or a language without words.
    """
    b = config.build
    for key, value in (("count", b.count), ("tries", b.tries)):
        if value < 1:
            raise UserError(f"build.{key}={value}: a whole number from 1 on is needed")
    if not 1 <= b.at_once <= MOST_AT_ONCE:
        raise UserError(f"build.at_once={b.at_once}: 1 to {MOST_AT_ONCE} scenarios fit into one request")
    check_number("build.max_cosine", b.max_cosine, above=0.0, below=1.0 + 1e-9)
    if b.themes is not None:
        check_subset("build.themes", b.themes, b.themes, at_least=1)
    if not CODE.fullmatch(b.language):
        raise UserError(f"build.language={b.language}: type a code like {', '.join(LANGUAGES)}")
    if b.language not in LANGUAGES and b.language_file is None and config.task in BUILDS:
        raise UserError(
            f"build.language={b.language}: words are shipped for {', '.join(LANGUAGES)}; for another language type "
            "build.language_file=FILE, a text file with its name, its persons and the emotion words that no text may "
            "have (docs/data.md, or emo/data/texts/languages/de.txt as an example)"
        )
    for key, given in (("language_file", [b.language_file] if b.language_file else []), ("against", b.against)):
        for name in given:
            if config.task in BUILDS and not Path(name).expanduser().is_file():
                raise UserError(f"build.{key}={name}: no such file (looked from {Path.cwd()})")


def refuse_other(config: Config, typed: list[str]) -> None:
    """Refuse typed keys that a task which writes texts does not read.

    Raises:
        UserError: names the key and what is read instead.
    """
    server = config.build.model is not None
    for word in typed:
        key = word.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".")
        if key.startswith("hydra"):
            continue
        if not server and key.partition(".")[2] in OF_SERVERS and key.startswith("build."):
            raise UserError(
                f"{word}: of a server, and none is asked: type build.model=NAME too (its name of the model), or leave "
                f"{key} out and model={config.model.name} writes in this process"
            )
        if server and _inside(key, OF_MODELS):
            raise UserError(f"{word}: build.model={config.build.model} writes, on a server; leave {key} out")
        if not _inside(key, READ if server else (*READ, *OF_MODELS)):
            raise UserError(
                f"{word}: not read by task={config.task}, which reads build.*, emotions.names and words (dialogues, "
                "stories), paths.outputs, console and, of a model in this process, model, device, dtype and "
                "batch_size; leave it out"
            )


def _inside(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)
