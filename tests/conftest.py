"""Fixtures shared by the contract tests: one tiny model per family, loaded once."""

from __future__ import annotations

import base64
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import typechecked

typechecked.install()  # before anything of the package is imported

from support.hub_cache import HubCache  # noqa: E402
from support.tiers import is_long  # noqa: E402

from emo.config.schema import ModelConfig  # noqa: E402
from emo.core import console  # noqa: E402
from emo.core.types import Site, Tokens  # noqa: E402
from emo.model.lm import LM  # noqa: E402
from emo.model.load import describe, load  # noqa: E402
from emo.model.tiny import FAMILY_NAMES  # noqa: E402
from emo.report.charts.engine import engine  # noqa: E402

PIXEL = base64.b64decode(  # the smallest PNG
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
# Families whose blocks are put together as another one's: the contract of their sites is tested with every run, what
# follows from it by make test-slow.
ALIKE = ("phi3", "smollm3", "ministral", "gemma3_images", "qwen3_moe")
MODELS = "test_contract_models"
# Families unlike each other: every site with every operation and token selector with every run, of the others the
# selector that replies are written under.
UNLIKE = ("llama", "gemma2", "gpt2", "gpt_neox", "mixtral")
PRODUCTS = ("test_replies_equal_the_uncached_twin", "test_numbers_do_not_depend_on_the_batch_size")
torch.set_num_threads(1)  # tiny products: a second thread costs more than it brings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-quick` leaves out: modules that run jobs or start processes, all families but one.

    Tests of a site that a family does not have are left out; that it is refused is tested beside them.
    """
    given = {id(item): getattr(getattr(item, "callspec", None), "params", {}) for item in items}
    items[:] = [item for item in items if not _without_site(given[id(item)])]
    for item in items:
        params = given[id(item)]
        family = params.get("lm", FAMILY_NAMES[0])
        if is_long(item.path) or family != FAMILY_NAMES[0]:
            item.add_marker("long")
        if params.get("lm", params.get("family")) in ALIKE and item.path.stem != MODELS:
            item.add_marker("slow")
        product = getattr(item, "originalname", "") in PRODUCTS
        if product and family not in UNLIKE and params.get("tokens") != Tokens.EVERY_STEP:
            item.add_marker("slow")


def _without_site(params: dict[str, Any]) -> bool:
    return params.get("lm") == "gpt_neox" and Site.RESID_MID in (params.get("site"), params.get("late"))


@pytest.fixture(scope="session")
def models() -> dict[str, LM]:
    """Return the tiny model of every family; `load` keeps only the last one, so they are kept here."""
    configs = [ModelConfig(name=f"tiny_{name}", source="tiny", id=name) for name in FAMILY_NAMES]
    return {c.id: _untied(load(describe(c, "cpu", "float32"))) for c in configs}


def _untied(lm: LM) -> LM:
    """Give tied models (gemma, gpt2) a head of their own: else they echo the last token under any edit.

    Mistral gets a window that is shorter than the short prompts of these tests.
    """
    if lm.kind == "mistral":
        lm.config.sliding_window = 24
    embedding, head = lm.model.get_input_embeddings().weight, lm.model.get_output_embeddings()
    if head.weight is embedding:
        draw = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(1))
        head.weight = torch.nn.Parameter(0.5 * draw, requires_grad=False)
    return lm


@pytest.fixture(params=FAMILY_NAMES)
def lm(request: pytest.FixtureRequest, models: dict[str, LM]) -> LM:
    """Return the tiny model of one family; a test that takes it runs on all of them."""
    return models[request.param]


@pytest.fixture(scope="module", autouse=True)
def _figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write the figures of jobs as one pixel, which is half of a small job's time; in the room of figures as they are.

    Processes of the command line draw theirs too.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "report":
            patch.setattr("emo.report.plots.fonts.save", lambda _, path: path.write_bytes(PIXEL))
        yield


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    """Have what draws charts at hand, before a test sets another cache folder: it takes seconds to make."""
    with contextlib.suppress(ImportError):
        engine()


@pytest.fixture(autouse=True)
def _console() -> Iterator[None]:
    """Let no test leave the console as another one does not expect it."""
    yield
    console.setup("rich")


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep progress lines off stdout for one test."""
    console.setup("quiet")
    yield
    console.setup("rich")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubCache]:
    """Return an empty hub cache, the only one that the tests of a file read, without a network."""
    with pytest.MonkeyPatch.context() as patch:
        cache = HubCache(tmp_path_factory.mktemp("hub"))
        cache.use(patch)
        yield cache


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of its own of 8 MB: it can be full, or read-only, without anybody's help."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
