"""The documentation agrees with the tree: sections, paths, links, command lines, lists of options and figures."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

import emo
from emo.cli.composing import Composer
from emo.cli.job_lists import read_jobs
from emo.cli.sweeper import combine, register_presets
from emo.config.check import REPOSITORY, to_config
from emo.config.read_keys import refuse_unread
from emo.data.class_names import LITERAL
from emo.data.labelled import load_items
from emo.data.scenarios import load_splits

DOCS = REPOSITORY / "docs"
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
SECTIONS = re.compile(r"\bmethods,? \(?(\d+(?:\.\d+)*(?:(?:, | and |-)\d+(?:\.\d+)*)*)", re.IGNORECASE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PRESETS = ("sweeps=", "experiment=", "cluster=", "hydra.")  # words that decide what a sweep is
LINE = re.compile(r"^(?:\$ )?((?:python run\.py|emo) .*)$", re.MULTILINE)
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def text(path: Path) -> str:
    """Return what a page says."""
    return path.read_text(encoding="utf-8")


def sources() -> list[Path]:
    """Return the code, the configuration and the pages."""
    folders = ("emo", "conf", "sweeps", "hydra_plugins", "bench", "tests")
    inside = [path for folder in folders for path in (REPOSITORY / folder).rglob("*")]
    return [*PAGES, *REPOSITORY.glob("*.py"), *(path for path in inside if path.suffix in (".py", ".yaml", ".md"))]


def by_name(path: Path) -> str:
    """Return the name of a page as a test shows it."""
    return path.relative_to(REPOSITORY).as_posix()


def test_every_section_of_the_methods_that_is_named_is_there() -> None:
    """``methods 1.10`` in a docstring, a configuration or a page is a heading of docs/methods.md."""
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)*)\.? ", text(DOCS / "methods.md"), re.MULTILINE))
    named = {
        (number, by_name(path))
        for path in sources()
        for found in SECTIONS.findall(text(path))
        for number in re.split(r", | and |-", found)
    }
    assert len({number for number, _ in named}) > 20
    assert sorted(pair for pair in named if pair[0] not in headings) == []


def figures(page: str) -> set[str]:
    """Return the numbers with a decimal point that a page states outside of code and links."""
    bare = LINK.sub("", re.sub(r"```.*?```|`[^`]*`", "", page, flags=re.DOTALL))
    return set(re.findall(r"(?<![\d.])\d+\.\d+(?:e-\d+)?(?![\d.]*\d)", bare))


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name == "results"], ids=by_name)
def test_the_figures_of_a_result_are_those_of_the_notebook(page: Path) -> None:
    """The pages of docs/results order what LOG.md and the benchmark say; they state no number of their own."""
    kept = text(REPOSITORY / "LOG.md") + text(REPOSITORY / "bench" / "results.md")
    assert sorted(n for n in figures(text(page)) if n not in kept) == []


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parent.name == "results" and p.name != "README.md"], ids=by_name
)
def test_a_result_says_question_verdict_and_reservations(page: Path) -> None:
    said = text(page)
    assert all(f"**{part}" in said for part in ("Question", "Verdict", "Reservations")), page.name
    assert "|---|" in said and f"({page.name})" in text(page.parent / "README.md")


def links() -> Iterator[tuple[Path, Path, str]]:
    """Return every link of every page into the repository: page, file, heading as an anchor."""
    for page in PAGES:
        for target in LINK.findall(re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)):
            if not re.match(r"https?:|mailto:", target):
                file, _, anchor = target.partition("#")
                yield page, (page.parent / file).resolve() if file else page, anchor


def anchors(page: Path) -> set[str]:
    """Return the headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    lost = [
        (by_name(page), by_name(file), anchor)
        for page, file, anchor in links()
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert lost == []


def test_every_figure_is_shown() -> None:
    shown = {file for _, file, _ in links()}
    assert sorted(set((DOCS / "figures").glob("*.png")) - shown) == []


OWN_PATHS = re.compile(r"`((?:emo|conf|docs|tests|sweeps|bench|hydra_plugins)/[\w./-]+|\w+\.(?:py|toml))`")
OWN_MODULES = re.compile(r"`(emo(?:\.\w+)+)")


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in ("LOG.md", "CHANGELOG.md")], ids=by_name)
def test_every_path_and_module_that_a_page_names_exists(page: Path) -> None:
    said = text(page)
    lost = [name for name in OWN_PATHS.findall(said) if not (REPOSITORY / name).exists()]
    for name in OWN_MODULES.findall(said):  # a room, a module, a name of one, or what `import emo` offers
        parts = name.split(".")
        starts = [REPOSITORY.joinpath(*parts[:n]).with_suffix(".py") for n in range(2, len(parts) + 1)]
        room = REPOSITORY.joinpath(*parts).is_dir()
        lost += (
            [] if room or any(path.is_file() for path in starts) or callable(getattr(emo, parts[1], None)) else [name]
        )
    assert lost == []


def test_the_rooms_are_those_of_the_linter() -> None:
    """docs/architecture.md draws the rooms in the order that .importlinter enforces, and there are no others."""
    ruled = re.search(r"layers =\n((?: {4}\w+\n)+)", text(REPOSITORY / ".importlinter"))
    drawn = re.search(r"```\n(cli .*?)```", text(DOCS / "architecture.md"), re.DOTALL)
    assert ruled and drawn
    rooms = [line.split()[0] for line in drawn[1].splitlines()]
    assert rooms == ruled[1].split()
    assert sorted(rooms) == sorted(path.parent.name for path in (REPOSITORY / "emo").glob("*/__init__.py"))


def test_the_first_page_is_short() -> None:
    """At most 120 lines, and its first figure before the first heading below the title."""
    said = text(REPOSITORY / "README.md")
    assert len(said.splitlines()) <= 120
    assert 0 < said.find("![") < said.find("\n## ")


def cells(page: Path, first: str) -> list[list[str]]:
    """Return the rows of the table of a page whose first column is called so."""
    [found] = re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text(page), re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found.splitlines()]


def test_every_preset_stands_in_its_table() -> None:
    named = [name for row in cells(DOCS / "usage.md", "preset") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(path.stem for path in (REPOSITORY / "sweeps").glob("*.yaml"))


def test_every_option_of_every_group_stands_in_its_table() -> None:
    """A line of options may shorten names that share a beginning to ``tiny_*``."""
    missing = []
    for groups, options, _ in cells(DOCS / "usage.md", "group"):
        said = set(re.findall(r"[\w*]+", options))
        starts = tuple(word[:-1] for word in said if word.endswith("*"))
        for group in re.findall(r"`(\w+)`", groups):
            own = [path.stem for path in (REPOSITORY / "conf" / group).glob("*.yaml")]
            missing += [
                f"{group}={name}" for name in own if name not in said and not (starts and name.startswith(starts))
            ]
    assert missing == []
    named = {group for row in cells(DOCS / "usage.md", "group") for group in re.findall(r"`(\w+)`", row[0])}
    assert sorted(named) == sorted(
        ["sweeps", *(path.name for path in (REPOSITORY / "conf").iterdir() if path.is_dir() and path.name != "hydra")]
    )


def test_every_decision_record_stands_in_the_index() -> None:
    records = sorted(path.name for path in (DOCS / "design").glob("[0-9]*.md"))
    assert sorted(re.findall(r"\((\d+-[\w-]+\.md)\)", text(DOCS / "design" / "README.md"))) == records


class Composers(dict[tuple[str, ...], tuple[Composer, list[str], list[list[str]]]]):
    """A composer for each choice of presets, with the grid and the jobs that the presets bring along."""

    def __missing__(self, groups: tuple[str, ...]) -> tuple[Composer, list[str], list[list[str]]]:
        loader: Any = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", list(groups), RunMode.MULTIRUN)
        params = OmegaConf.select(master, "hydra.sweeper.params") or {}
        jobs = read_jobs(OmegaConf.select(master, "hydra.sweeper.jobs"))
        self[groups] = Composer(loader, master), [f"{key}={value}" for key, value in params.items()], jobs
        return self[groups]


@pytest.fixture(scope="module")
def composers() -> Iterator[Composers]:
    register_presets()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        yield Composers()


def typed(page: Path) -> list[str]:
    """Return the command lines of a page; those on files of a recipe (tests/e2e/test_extend.py) are left out."""
    lines = [line for block in FENCED.findall(text(page)) for line in LINE.findall(block)]
    return [line for line in lines if "--config-dir" not in line]


def refuse(composers: Composers, line: str) -> None:
    """Compose and check all jobs of a command line as ``python run.py`` does, before anything is loaded or run.

    Raises:
        UserError, HydraException, OmegaConfBaseException: it would be refused.
    """
    words = [word for word in shlex.split(line, comments=True)[1:] if word not in ("run.py", "-m", "--help")]
    composer, params, jobs = composers[tuple(word for word in words if word.startswith(PRESETS))]
    own = [word for word in words if not word.startswith("hydra.")]
    configs = [to_config(composer.compose(job)) for job in combine(composer.loader, params, jobs, own)]
    refuse_unread(own, configs)


@pytest.mark.long
@pytest.mark.parametrize(
    "page",
    [  # of what was measured: lines of a day, and a third of the time
        pytest.param(page, marks=[pytest.mark.slow] if page.parent.name == "results" else [])
        for page in PAGES
        if typed(page)
    ],
    ids=by_name,
)
def test_every_command_line_of_a_page_is_accepted(
    composers: Composers, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line of every page may be typed today; files and folders that it names are taken to be there."""
    monkeypatch.chdir(tmp_path)
    for line in typed(page):
        for file in re.findall(r"dataset\.path=(\S+)", line):
            (tmp_path / file).touch()
        for folders in re.findall(r"(?:model\.path|model\.adapter|against)=(\S+)", line):
            for folder in folders.split(","):
                (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        try:
            refuse(composers, line)
        except Exception as error:
            pytest.fail(f"{page.name}: {line}\n{error}")


ROWS = 12  # variants of an example record for each of its classes
EXAMPLE = re.compile(
    r"```\n(python run\.py [^\n]*dataset\.path=(\S+)[^\n]*)\n```\s+```(?:json|csv|tsv)\n(.*?)```", re.DOTALL
)
EXAMPLES = [
    (page, *found) for page in (REPOSITORY / "README.md", DOCS / "data.md") for found in EXAMPLE.findall(text(page))
]


def variants(record: str, file: str, config: Any) -> str:
    """Return a file of records like the example: as many texts of every class as splits need."""
    *header, row = record.rstrip("\n").split("\n")
    values = [pair.partition(":")[0] for pair in config.labels] or ["anger", "sadness"]
    numbered = []
    for i in range(ROWS):
        for value in values:
            if file.endswith(".jsonl"):
                made = json.loads(row)
                if config.kind == "scenarios":
                    day = f"{i}{value[0]}"
                    made |= {"skeleton_id": day, "scenario": f"{made['scenario'][:-1]} on day {day}."}
                elif isinstance(made[config.label], list):
                    made[config.text] = [f"{said} {i} {value}" for said in made[config.text]]
                    made[config.label] = [int(value)] * len(made[config.text])
                else:
                    made |= {config.text: f"{made[config.text]} {i} {value}", config.label: value}
                    made |= {config.group: f"{made[config.group]} {i}"} if config.group else {}
                numbered.append(json.dumps(made))
                continue
            mark = "\t" if file.endswith(".tsv") else ","
            cells = next(csv.reader([row], delimiter=mark))
            names = next(csv.reader(header, delimiter=mark)) if header else [str(n) for n in range(len(cells))]
            made = dict(zip(names, cells, strict=True))
            assert {config.text, config.label} - {None} <= set(made)
            made[config.text] += f" {i} {value}"
            made |= {config.group: str(i)} if config.group else {}
            made |= {config.label: value} if config.label else {config.literal: f"{made[config.literal]} {i}"}
            out = io.StringIO()
            csv.writer(out, delimiter=mark, lineterminator="").writerow(made.values())
            numbered.append(out.getvalue())
    return "\n".join([*header, *numbered]) + "\n"


@pytest.mark.long
@pytest.mark.parametrize(("page", "line", "file", "record"), EXAMPLES, ids=lambda given: str(given)[:60])
def test_an_example_record_is_read(
    composers: Composers, page: Path, line: str, file: str, record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record that stands below a command line is what its file holds, field for field."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).touch()
    config = to_config(composers[()][0].compose([*shlex.split(line)[2:], "dataset.limit=null"])).dataset
    (tmp_path / file).write_text(variants(record, file, config), encoding="utf-8")
    if config.kind == "scenarios":
        splits = load_splits(config, 0)
        assert sum(splits.scenarios()) == 2 * ROWS and splits.broken_rules == {}
    else:
        found = load_items(config, None, 0)
        assert len(found.train) > len(found.dev) > 0 and found.test and not set(found.left_out) - {LITERAL}, page


def test_the_examples_are_found() -> None:
    """Twelve formats on the page about data, and the commonest on the first page."""
    assert len([1 for page, *_ in EXAMPLES if page.name == "data.md"]) == 12


def test_every_configuration_key_that_a_page_names_is_one(composers: Composers) -> None:
    """``circuit.sigma`` or ``intervention.k=8`` in a page is a key of conf/; decisions may name old ones."""
    known = composers[()][0].compose([])
    sections = "|".join(str(name) for name, value in known.items() if OmegaConf.is_dict(value))
    named = re.compile(rf"`((?:{sections})(?:\.[a-z_0-9]+)+)\b(?!\()")
    pages = [page for page in PAGES if page.name not in ("LOG.md", "CHANGELOG.md") and page.parent.name != "design"]
    found = {(key, by_name(page)) for page in pages for key in named.findall(text(page))}
    assert len(found) > 40
    absent = object()
    files = (".py", ".md", ".yaml", ".json", ".jsonl", ".csv", ".safetensors")
    lost = [
        (key, page)
        for key, page in sorted(found)
        if OmegaConf.select(known, key, default=absent) is absent and not f".{key.rpartition('.')[2]}".endswith(files)
    ]
    assert lost == []
