"""Nearly equal texts count as one: the rule, its properties, and what a table of copies can claim."""

from __future__ import annotations

import csv
import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from support.jobs import config

from emo.cli.run import run_job
from emo.config.check import REPOSITORY, to_config
from emo.data.labelled import Item
from emo.data.near import clusters, clusters_of, joined, normalised
from emo.data.scenarios import DatasetConfig, load_splits
from emo.data.texts import TEXTS
from emo.pipeline.scenario import Job
from emo.results.estimates import long_table
from emo.results.evidence import Evidence

pytestmark = pytest.mark.usefixtures("quiet")
LONG = "the bus was late again and nobody at the stop said a word"
FEW = {
    "anger": "They sold my seat twice and then laughed about it.",
    "sadness": "The old dog did not come to the door this morning.",
}


def test_what_is_nearly_equal() -> None:
    """Case, white space, punctuation and a suffix; not a short common beginning, not another text."""
    assert clusters([LONG, LONG.upper() + "!", f" {LONG}  ", f"{LONG} (2)", "another thing altogether"]) == [
        0, 0, 0, 0, 1,
    ]  # fmt: skip
    assert clusters(["so it goes", "so it goes on"]) == [0, 1]  # 10 letters in common
    assert clusters(["so it goes", "So it goes!"]) == [0, 0]
    assert clusters(["I felt happy when the exam was over", "I felt happy when my sister came"]) == [0, 1]
    assert clusters([]) == []
    assert clusters(["", "?!", "...", ""]) == [0, 1, 2, 0]  # nothing but punctuation: as it stands
    assert normalised("Straße,  été —  ＡＢＣ") == "strasse été abc"
    assert clusters(["今日は電車が遅れて会社に間に合わなかった。", "今日は電車が遅れて会社に間に合わなかった!"]) == [
        0,
        0,
    ]
    assert normalised("हिन्दी में") == "हिन्दी में"  # vowel signs are no punctuation


def test_properties_over_random_texts() -> None:
    """Any order gives the same parts, equal texts are together, labels count from 0 in order of appearance."""
    draw = random.Random(0)
    words = ["storm", "letter", "garden", "quiet", "seven", "bread", "river"]
    stems = [" ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(40)]
    texts = [
        f"{draw.choice(stems)}{draw.choice(['', '!', ' a', ' (3)', ' and then more of it all'])}" for _ in range(300)
    ]
    label = clusters(texts)
    assert list(dict.fromkeys(label)) == list(range(max(label) + 1))
    order = draw.sample(range(300), 300)
    shuffled = clusters([texts[i] for i in order])
    parts = [
        {frozenset(i for i in range(300) if x[i] == k) for k in set(x)} for x in (label, unshuffled(shuffled, order))
    ]
    assert parts[0] == parts[1]
    for a, b in itertools.pairwise(sorted(range(300), key=lambda i: normalised(texts[i]))):
        if normalised(texts[a]) == normalised(texts[b]):
            assert label[a] == label[b]
    group = [draw.randrange(60) for _ in texts]
    both = joined(group, texts)
    for same in (group, label):  # coarser than either
        assert all(len({both[i] for i in range(300) if same[i] == k}) == 1 for k in set(same))
    assert joined(range(300), texts) == label
    assert joined(group, list(map(str, range(300)))) == numbered(group)


def unshuffled(label: list[int], order: list[int]) -> list[int]:
    """Return labels of shuffled texts in the texts' own order."""
    out = [0] * len(order)
    for k, i in zip(label, order, strict=True):
        out[i] = k
    return out


def numbered(values: list[int]) -> list[int]:
    """Return the values as 0, 1, ... in order of appearance."""
    return [list(dict.fromkeys(values)).index(x) for x in values]


def test_time_grows_with_n_log_n() -> None:
    """Twenty thousand texts in a second or so, also where all begin alike."""
    texts = [f"{LONG}, and this goes on for as long as any text may do: {i}" for i in range(20_000)]
    start = time.process_time()
    assert len(set(clusters(texts))) == 1
    assert time.process_time() - start < 5


def test_the_shipped_sets_have_no_near_copies() -> None:
    """Their intervals are those of before."""
    for name in ("sev", "open_prompts"):
        made = load_splits(DatasetConfig(name=name), 0)
        for part in made[:3]:
            assert len(set(clusters_of(part).values())) == len({s.scenario_id for s in part})


def test_scenarios_a_suffix_apart_are_one(tmp_path: Path) -> None:
    """Six files' worth of one scenario: too few, and said, whatever their ids."""
    rows = [json.loads(line) for line in (TEXTS / "sev_test.jsonl").read_text(encoding="utf-8").splitlines()][:2]
    copies = [
        row | {"skeleton_id": f"{row['skeleton_id']}-{k}", "scenario": f"{row['scenario']} ({k})"}
        for row in rows
        for k in range(3)
    ]
    path = tmp_path / "copies.jsonl"
    path.write_text("\n".join(map(json.dumps, copies)) + "\n", encoding="utf-8")
    words = ("dataset=jsonl", f"dataset.path={TEXTS / 'sev.jsonl'}", f"dataset.test_path={path}", "dataset.limit=6")
    job = Job(config(tmp_path, *words, "evaluator=projection", "control.arms=[]"))
    evidence = Evidence.of_samples(job.splits.test)
    assert evidence == Evidence("scenarios", 6, 2)
    assert evidence.lines(None, 20)[0].startswith("The 6 scenarios of the test split are 2 different ones")
    assert long_table(job)["scenario"].nunique() == 2


def on_copies(folder: Path, copies: int) -> dict[str, Any]:
    """Run a mask on a table in which every sentence stands several times, with a number behind it."""
    folder.mkdir()
    path = folder / "copies.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file)
        write.writerow(["text", "label"])
        for k in range(copies):
            write.writerows([f"{text} ({k})", label] for label, text in FEW.items())
    words = (
        "model=tiny_llama", "dataset=labelled", f"dataset.path={path}", "dataset.text=text", "dataset.label=label",
        f"emotions.names=[{','.join(FEW)}]", "intervention=mask", "control.units=[random]", "control.seeds=2",
        "evaluator.bootstrap=200", "selector.ratio=0.2", "device=cpu", "console=quiet", f"paths.outputs={folder}",
        "seed=2",
    )  # fmt: skip
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        made = to_config(compose("config", overrides=list(words)))
    assert run_job(made) == 0
    [path] = folder.glob("run/*/result.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_copies_of_a_few_sentences_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sentences, many times each, under random weights: p was 0.016 after Holm, and is not given now."""
    result = on_copies(tmp_path / "now", 22)
    assert result["clusters"] == {
        "what": "groups", "given": 9, "distinct": 2, "too_few": "too few groups for an interval: 2; 5 are needed"
    }  # fmt: skip
    html = next((tmp_path / "now").glob("run/*/report.html")).read_text(encoding="utf-8")
    assert "The 9 groups of the test split are 2 different ones" in html
    assert html.count("Too few groups for an interval: 2; 5 are needed") == 2  # under the table, and among the notes
    assert result["smallest_p"] is None
    rows = result["comparisons"]
    assert rows and all(row["ci"] is None and row["p"] is None and row["p_holm"] is None for row in rows)
    assert all(row["value"] is not None for row in rows)
    monkeypatch.setattr("emo.results.class_results.joined", lambda groups, _: numbered(list(groups)))
    before = on_copies(tmp_path / "before", 22)["comparisons"]
    assert min(row["p_holm"] for row in before) < 0.02  # what copies seemed to show
    assert [row["value"] for row in before] == [row["value"] for row in rows]


def test_a_group_and_near_copies_are_joined() -> None:
    """Two topics that share a sentence are one piece of evidence."""
    items = [
        Item(f"f:{i}", group, "anger", text)
        for i, (group, text) in enumerate((("a", LONG), ("a", "x"), ("b", f"{LONG}."), ("c", "y")))
    ]
    assert Evidence.of_items(items) == Evidence("groups", 3, 2)
