"""Forward passes that do not fit into memory are halved; the numbers stay the same, and it is said once."""

from __future__ import annotations

import pytest
import torch
from support import twin
from support.forced import scored
from support.twin import TOLERANCE, gap, prompt

from emo.core.errors import UserError
from emo.core.types import Site, Tokens
from emo.measure.projections import projections
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row, TreeBatch, in_passes, tree_batches
from emo.model.prefix_tree import TokenTrees

pytestmark = pytest.mark.long  # waits, and passes that do not fit

PROMPTS = [prompt(12, n) for n in range(3)]
ROWS = [Row(p, cond) for p in range(3) for cond in (-1, 0, 1)]
ROOM = 3  # rows that fit


@pytest.mark.parametrize("message", ["cuda", "DefaultCPUAllocator: not enough memory: you tried to allocate"])
def test_what_does_not_fit_is_halved(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row is run once, in passes that fit, and one warning says so; other errors are not swallowed."""
    seen: list[int] = []

    def run(tree_batch: TreeBatch) -> int:
        members = [i for rows in tree_batch.rows for i in rows]
        if len(members) > ROOM:
            raise torch.OutOfMemoryError(message) if message == "cuda" else RuntimeError(message)
        seen.extend(members)
        return len(members)

    done = [n for _, n in in_passes(tree_batches(PROMPTS, ROWS * 4, 64), run)]
    assert sorted(seen) == list(range(len(ROWS) * 4)) and sum(done) == len(ROWS) * 4 and max(done) <= ROOM
    assert "".join(capsys.readouterr()).count("out of memory") == 1

    def full(_: TreeBatch) -> int:
        raise torch.OutOfMemoryError("cuda")

    with pytest.raises(UserError, match="out of memory with a single row"):
        list(in_passes(tree_batches(PROMPTS, ROWS, 64), full))

    def broken(_: TreeBatch) -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(in_passes(tree_batches(PROMPTS, ROWS, 64), broken))


def test_numbers_are_those_of_passes_that_fit(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, replies and teacher-forced log-probabilities of a machine on which half of the passes fail."""
    lm = models["llama"]
    edits = twin.edits_at(lm, "add", Site.RESID_POST, Tokens.EVERY_STEP)
    v = twin.unit(2, lm.n_layers, lm.d)
    forced = [row._replace(reply=(5, 6, 7, 8)) for row in ROWS]

    def all_three() -> tuple[torch.Tensor, list[list[int]], torch.Tensor]:
        scores = projections(lm, PROMPTS, ROWS, edits, v, 64)[0]
        replies = generate(lm, PROMPTS, ROWS, edits, 5, 64)
        found = {s.row: s.log_probs for s in scored(lm, PROMPTS, forced, edits, 64)}
        return scores, replies, torch.stack([found[i] for i in range(len(forced))])

    whole = all_three()
    extend = TokenTrees.extend

    def small(self: TokenTrees, block: object) -> torch.Tensor:
        if block.ids.shape[0] > 1:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError("cuda")
        return extend(self, block)  # type: ignore[arg-type]

    lm.prefixes.clear()
    all_trunks = all_three()  # reads them again, so that only rows are short of memory
    monkeypatch.setattr(TokenTrees, "extend", small)
    cut = all_three()
    assert gap(cut[0], whole[0]) <= TOLERANCE and cut[1] == whole[1] == all_trunks[1]
    assert gap(cut[2].exp(), whole[2].exp()) <= TOLERANCE
