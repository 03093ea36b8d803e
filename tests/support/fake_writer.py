"""A fake server that writes scenarios, events, dialogues and stories, and breaks their rules as often as it is told."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable

from emo.data.texts import read_jsonl
from support.fake_judge import Request, Response, completion

PARTS = {  # made-up parts of plain sentences: enough of them that no two are alike
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "January March April June July August October November December",
    "verb": "carried wrapped painted repaired sorted copied measured folded stacked labelled weighed posted drew "
    "rinsed planted polished borrowed counted photographed unpacked",
    "noun": "ladders teapots envelopes violins carpets lanterns saddles compasses kettles barrels mirrors tents "
    "cushions hammers atlases blankets bicycles clocks buckets candles ropes trumpets baskets globes",
    "place": "harbour orchard museum bakery quarry chapel stadium greenhouse viaduct vineyard observatory lighthouse "
    "brewery cinema monastery airfield",
    "name": "Okafor Lindqvist Moreau Tanaka Haddad Kowalski Silva Brandt Novak Ibrahim Jansen Costa Petrov Nyberg "
    "Reyes Danso Fischer Quinn Varga Amara",
    "town": "Lisbon Tromso Naples Accra Osaka Gdansk Quito Bergen Malaga Izmir Perth Lagos Kyoto Riga Oaxaca",
}
WORDS = {kind: words.split() for kind, words in PARTS.items()}
SCENARIO_FAULTS = ("short", "long", "third person", "two sentences", "emotion", "duplicate", "German")
EVENT_FAULTS = (
    "two sentences",
    "emotion",
    "spread",
    "beginning",
    "people",
    "alike",
    "restates",
    "missing",
    "unreadable",
)


def draw(seed: object) -> Callable[[str], str]:
    """Return what draws words of a kind."""
    rng = random.Random(str(seed))
    return lambda kind: rng.choice(WORDS[kind])


def scenario(seed: object) -> str:
    """Return a valid scenario."""
    w = draw(seed)
    return (
        f"On a {w('day')} in {w('month')} I {w('verb')} the {w('noun')} of {w('name')} and {w('verb')} two "
        f"{w('noun')} at the {w('place')} of {w('town')}."
    )


def events(seed: object) -> dict[str, str]:
    """Return three valid events."""
    w = draw(f"{seed}/events")
    who, noun, place, town, verb = w("name"), w("noun"), w("place"), w("town"), w("verb")
    begin = f"The {place} people in {town} {verb} {who}'s {noun}"
    return {
        "positive": f"{begin} for free and sent {w('noun')} to {w('town')} as well.",
        "neutral": f"{begin} on {w('day')} and wrote {w('noun')} into the {w('place')} list.",
        "negative": f"{begin} too late and broke {w('noun')} on the {w('place')} stairs.",
    }


def bad_scenario(fault: str, seed: object) -> str:
    """Return a scenario that breaks a rule."""
    good = scenario(seed)
    return {
        "short": "I packed the bag.",
        "long": good[:-1] + ", and then I went on through the long grey street to the far end of the old town.",
        "third person": good.replace(" I ", " Ada "),
        "two sentences": good.replace(" and ", ". And I "),
        "emotion": good.replace(" I ", " I happily "),
        "duplicate": read_jsonl("sev.jsonl")[random.Random(str(seed)).randrange(160)]["scenario"],
        "German": "Am Montag habe ich mit der Tochter meiner Nachbarin die Kisten in den Keller und auf den Dachboden "
        "von unserem Haus getragen.",
    }[fault]


def bad_events(fault: str, seed: object, told: str) -> dict[str, str]:
    """Return events that break a rule."""
    made = events(seed)
    low = made["negative"]
    made["negative"] = {
        "two sentences": low.replace(" and ", ". They "),
        "emotion": low.replace(" too late", " angrily"),
        "spread": low[:-1] + " behind the house where nobody had looked since the winter of that year.",
        "beginning": low.replace("The ", "Then the ", 1),
        "people": low,
        "alike": made["neutral"],
        "restates": low,
        "missing": "",
    }[fault]
    if fault == "people":
        made = {
            key: text[:-1] + f" for {who}." for (key, text), who in zip(made.items(), ("me", "her", "him"), strict=True)
        }
    if fault == "restates":
        made = {key: told[:-1] + f" {more}." for key, more in zip(made, ("today", "later", "alone"), strict=True)}
    return made


def writing(share: float, seed: int = 0) -> Callable[[Request], Response]:
    """Return a server that breaks a rule in a share of its texts, every rule in turn."""
    of_scenarios, of_events = itertools.cycle(SCENARIO_FAULTS), itertools.cycle(EVENT_FAULTS)

    def plan(request: Request) -> Response:
        rng = random.Random(f"{seed}/{request.text}/{request.attempt}")
        tag = rng.random()
        if '"scenarios"' in request.text:
            subjects = re.findall(r"^\d+\. ", request.text.partition("Subjects:")[2], re.MULTILINE)
            if rng.random() < share / (1 + len(SCENARIO_FAULTS)):
                return completion("I would rather write a poem.")
            faults = [next(of_scenarios) if rng.random() < share else None for _ in subjects]
            texts = [bad_scenario(fault, (tag, n)) if fault else scenario((tag, n)) for n, fault in enumerate(faults)]
            return completion(json.dumps({"scenarios": texts}))
        fault = next(of_events) if rng.random() < share else None
        if fault == "unreadable":
            return completion('{"positive": "It went')
        told = request.text.partition('"')[2].partition('"')[0]
        return completion(json.dumps(bad_events(fault, tag, told) if fault else events(tag)))

    return plan
