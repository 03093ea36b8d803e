"""The fake server of `support.fake_writer` in German and Chinese: plain made-up sentences, and faults of every rule."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from support.fake_judge import Request, Response, completion

SCENARIO_FAULTS = ("duplicate", "short", "long", "third person", "duplicate", "two sentences", "emotion", "English")
EVENT_FAULTS = ("two sentences", "emotion", "spread", "beginning", "people", "alike", "restates", "English", "missing")
ENGLISH = "On Monday I carried the ladders of Mrs Okafor into the old mill and put two of them at the gate of the yard."


class Tongue(NamedTuple):
    """How one language's texts are made, and how they break a rule.

    Attributes:
        words: by kind, space apart.
        scenario: a valid one, with places for words.
        events: the valid three, alike but for their ends.
        faults: of a scenario: what is replaced by what.
        event_faults: of the negative event likewise.
        people: what is put before the full stop of each event, so that they are about three persons.
        same: put before the full stop of a scenario that is told again.
        turns: valid dialogues, not alike to the encoder.
        story: a valid story.
    """

    words: dict[str, str]
    scenario: str
    events: dict[str, str]
    faults: dict[str, tuple[str, str]]
    event_faults: dict[str, tuple[str, str]]
    people: tuple[str, str, str]
    same: tuple[str, str, str]
    turns: tuple[str, ...]
    story: str
    stop: str


GERMAN = Tongue(
    words={
        "day": "3. 7. 12. 19. 24. 28.",
        "month": "Jänner Februar März April Juli August Oktober November Dezember",
        "verb": "geprüft bemalt repariert sortiert kopiert gemessen gefaltet gestapelt gewogen gezählt gespült",
        "noun": "Leitern Krüge Umschläge Geigen Teppiche Laternen Sättel Kessel Fässer Spiegel Zelte Kissen Hämmer",
        "place": "Bäckerei Gärtnerei Kapelle Mühle Brauerei Schlosserei Sternwarte Bücherei Färberei Halle Weberei",
        "name": "Okafor Lindqvist Moreau Tanaka Haddad Kowalski Silva Brandt Novak Ibrahim Jansen Fischer Quinn Varga",
        "town": "Lissabon Tromsö Neapel Accra Osaka Danzig Quito Bergen Izmir Perth Riga Zürich Köln Graz Gießen",
    },
    scenario="Am {day} {month} habe ich für Frau {name} die {noun} aus der {place} {verb} und zwei {noun} nach {town} "
    "in den 2. Stock gebracht.",
    events={
        "positive": "Die Leute der {place} haben mir in {town} die {noun} umsonst {verb} und auch {noun} bezahlt.",
        "neutral": "Die Leute der {place} haben mir in {town} die {noun} am {day} Mai {verb} und {noun} notiert.",
        "negative": "Die Leute der {place} haben mir in {town} die {noun} zu spät {verb} und dabei {noun} verloren.",
    },
    faults={
        "third person": ("habe ich", "hat Ada"),
        "two sentences": (" und zwei", ". Ich habe zwei"),
        "emotion": ("habe ich", "habe ich wu\u0308tend"),  # the umlaut as a letter and a sign
        "short": (".*", "Ich habe die Tasche."),
        "long": (r"\.$", ", und dann ging ich durch die lange graue Straße bis an das Ende der alten Stadt."),
    },
    event_faults={
        "two sentences": (" und dabei", ". Sie haben dabei"),
        "emotion": ("zu spät", "verärgert"),
        "spread": (r"\.$", " und lange nicht wieder gefunden, weil in dem Winter niemand nach ihnen gesucht hat."),
        "beginning": ("^Die Leute", "Dann haben die Leute"),
    },
    people=(" für mich", " für dich", " für euch"),
    same=(" und nun", " wie immer", " wie sonst"),
    turns=(
        "A: Der Fahrer von {name} hat die {noun} am falschen Tor der {place} in {town} gelassen.\n"
        "B: Und wer hat in der {place} für die {noun} unterschrieben?\nA: Niemand hat das getan, und die {noun} sind "
        "noch immer da draußen im Regen von {town}.\nB: Dann gehen wir jetzt und holen die {noun} mit {name} herein.",
    ),
    story="Die {noun} von {name} kamen um neun aus {town}, und Mara hat sie in die {place} getragen. Am {day} {month} "
    "war der Weg nass, und die {noun} lagen noch bei {name} vor dem Tor. ",
    stop=".",
)
CHINESE = Tongue(
    words={
        "day": "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
        "month": "一月 二月 三月 四月 七月 八月 十月 十二月",
        "verb": "检查 清点 修理 分类 包装 测量 整理 登记 擦洗 搬走",
        "noun": "梯子 茶壶 信封 地毯 灯笼 马鞍 水壶 木桶 镜子 帐篷 靠垫 锤子 地图 毛毯 时钟 绳子 篮子 吉他",
        "place": "港口 果园 博物馆 面包房 采石场 体育场 温室 葡萄园 天文台 灯塔 电影院 飞机场",
        "name": "王明 李华 张伟 刘洋 陈静 赵磊 黄勇 周涛 吴敏 徐丽 孙强 朱军 高峰 林芳",
        "town": "里斯本 那不勒斯 阿克拉 大阪 基多 卑尔根 珀斯 里加 苏州 桂林 洛阳 大理",
    },
    scenario="{month}的一个{day}我在{town}的{place}{verb}了{name}的{noun}，又把其他两个{noun}送到了{place}。",
    events={
        "positive": "那里的人在{place}免费{verb}了我的{noun}，还把{noun}送到了{town}。",
        "neutral": "那里的人在{place}照常{verb}了其他的{noun}，又把{noun}写在{town}的表上。",
        "negative": "那里的人在{place}很晚才{verb}我的{noun}，还把{noun}丢在了{town}。",
    },
    faults={
        "third person": ("我", "小梅"),
        "two sentences": ("，又", "。我又"),
        "emotion": ("我", "我很高興地"),  # of the other way of writing
        "short": (".*", "我把信写了。"),
        "long": ("。$", "，然后我沿着那条又长又灰的路一直走到了老城的另外一边，在那里等到了晚上才回家。"),
    },
    event_faults={
        "two sentences": ("，还", "。还"),
        "emotion": ("很晚才", "生气地"),
        "spread": ("。$", "，因为整个冬天都没有人去那里看过，所以到了现在也还是没有找回来。"),
        "beginning": ("^那里的人", "后来那里的人"),
    },
    people=("给了她", "给了你", "给了我们"),
    same=("了", "吗", "呢"),
    turns=(
        "A: {name}的司机昨天又把{noun}放在了{town}{place}的门口就走了。\n"
        "B: 那么是谁在{place}替我们收下了这些{noun}的？\n"
        "A: 没有人去收，{noun}到现在还在{town}的雨里放着。\nB: 那我们这就去{place}把{noun}搬进来吧。",
        "A: 你知道{town}的火车今天几点开吗？我要带三个{noun}上车。\n"
        "B: 八点一刻开，不过车站的人说这种{noun}不能带上去。\n"
        "A: 上个月{name}带的是一样的，没有人说过什么。\nB: 你先去窗口问一问，我在这里看着行李。",
        "A: {name}打电话来，说{month}的考试改到{day}上午了。\n"
        "B: 改了时间？我已经买好了那天去{town}的票。\n"
        "A: 老师说可以写一封信，下一次再考也行。\nB: 好，我今天晚上写，明天一早交到学校去。",
        "A: 医生，我父亲吃了两天的药，现在能下床走路了。\n"
        "B: 他昨天夜里睡了几个小时，有没有再发烧？\n"
        "A: 睡了六个小时，今天早上量是三十七度。\nB: 那就继续吃，到{day}带他再来医院看一次。",
        "A: 我们楼上的{name}想把旧的{noun}卖给饭店，你觉得能卖多少钱？\n"
        "B: 饭店不会要的，他们去年才换了新的。\n"
        "A: 那么写在网上，看看{town}有没有人来拿。\nB: 写得短一点，再放两张白天照的相片。",
    ),
    story="{name}的{noun}是九点从{town}送来的，小梅把它们一个一个搬到了{place}的楼上，又在{day}写下了{noun}的数目，"
    "然后和{name}一起走回了家。",
    stop="。",
)
TONGUES = {"de": GERMAN, "zh": CHINESE}


def filled(form: str, tongue: Tongue, seed: object) -> str:
    """Return a form with a word in every place, no word of a kind twice in a row."""
    rng = random.Random(str(seed))
    decks = {kind: rng.sample(words.split(), len(words.split())) for kind, words in tongue.words.items()}
    return re.sub(r"\{(\w+)\}", lambda place: decks[place[1]].pop(), form)


def scenario(tongue: Tongue, seed: object, fault: str | None = None) -> str:
    """Return a scenario; with a fault, one that breaks that rule."""
    if fault in ("duplicate", "English"):
        return filled(tongue.scenario, tongue, "told before") if fault == "duplicate" else ENGLISH
    good = filled(tongue.scenario, tongue, seed)
    return re.sub(*tongue.faults[fault], good, count=1) if fault else good


def events(tongue: Tongue, seed: object, told: str = "", fault: str | None = None) -> dict[str, str]:
    """Return three events of a scenario; with a fault, such as break that rule."""
    stop = len(tongue.stop)
    made = {key: filled(form, tongue, seed) for key, form in tongue.events.items()}
    if fault in tongue.event_faults:
        made["negative"] = re.sub(*tongue.event_faults[fault], made["negative"], count=1)
    elif fault == "people":
        plain = {key: text.replace(" mir", "").replace("我的", "") for key, text in made.items()}
        made = {
            key: text[:-stop] + who + tongue.stop for (key, text), who in zip(plain.items(), tongue.people, strict=True)
        }
    elif fault == "alike":
        made["negative"] = made["neutral"]
    elif fault == "restates":
        made = {key: told[:-stop] + more + tongue.stop for key, more in zip(made, tongue.same, strict=True)}
    elif fault:
        made["negative"] = ENGLISH if fault == "English" else ""
    return made


def writing(code: str, share: float, named: str = "") -> Callable[[Request], Response]:
    """Return a server that writes a language, and breaks rules in turn; what was refused it writes well.

    Args:
        code: of the language.
        share: of the texts that break a rule when they are first asked for.
        named: the name of an emotion, which dialogues and stories then have.
    """
    tongue = TONGUES[code]
    of_scenarios, of_events = itertools.cycle(SCENARIO_FAULTS), itertools.cycle(EVENT_FAULTS)
    of_texts = itertools.cycle(("English", "named", "named"))

    def plan(request: Request) -> Response:
        rng = random.Random(f"{request.text}/{request.attempt}")
        tag = rng.random()

        def drawn(faults: Iterator[str], asked: str) -> str | None:
            return next(faults) if "was refused" not in asked and rng.random() < share else None

        if '"dialogue"' in request.text or '"story"' in request.text:
            form = rng.choice(tongue.turns) if '"dialogue"' in request.text else tongue.story * 3
            key = "dialogue" if '"dialogue"' in request.text else "story"
            text, fault = filled(form, tongue, tag).strip(), drawn(of_texts, request.text)
            text = {"English": ENGLISH, "named": f"{text[:-1]} {named}{tongue.stop}"}.get(fault or "", text)
            return completion(json.dumps({key: text}))
        if '"scenarios"' in request.text:
            subjects = re.findall(r"^\d+\. .*", request.text.partition("Subjects:")[2], re.MULTILINE)
            texts = [scenario(tongue, (tag, n), drawn(of_scenarios, line)) for n, line in enumerate(subjects)]
            return completion(json.dumps({"scenarios": texts}))
        told = request.text.partition('"')[2].partition('"')[0]
        return completion(json.dumps(events(tongue, tag, told, drawn(of_events, request.text))))

    return plan
