"""The section ``build`` of the configuration: texts that a model writes (`emo.config.schema` has the others)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class BuildConfig:
    """What ``task=build_sev``, ``build_dialogues`` and ``build_stories`` write, and who writes it."""

    path: str | None = None  # folder of the set; null: PATHS.OUTPUTS/sets/KIND_LANGUAGE
    count: int = 20  # scenarios of each theme; of dialogues and stories: topics in all
    themes: list[str] | None = None  # null: the eight of methods 1.1
    tries: int = 5  # answers for one text, at most
    at_once: int = 10  # scenarios asked for in one request
    language: str = "en"  # en | de | zh | fr | es, or a code of one's own with ``language_file``
    language_file: str | None = None  # words of another language
    against: list[str] = field(default_factory=list)  # files of sets that nothing may repeat, beside the shipped ones
    max_cosine: float = 0.9  # of a text to every other one, under the sentence encoder
    model: str | None = None  # of a server; null: ``model`` writes, in this process
    base_url: str | None = None  # of the server; null: OPENAI_BASE_URL, else api.openai.com
    temperature: float | None = 0.7  # of the server's answers; null: its own
    structured: str = "auto"  # form of the answers: auto | json_schema | json_object | text
    concurrency: int = 8  # requests in flight
    timeout_s: float = 120.0  # seconds without a byte after which a request is given up
    retries: int = 5  # repeats of a request that failed on its way
    price_input: float | None = None  # USD per million input tokens; null: of conf/prices.yaml
    price_output: float | None = None  # USD per million output tokens
    requests_per_minute: int | None = None  # at most; null: no limit
    tokens_per_minute: int | None = None  # at most, input and output; null: no limit
    batch: bool = False  # through the batch API, at half the price, a day per round at most
