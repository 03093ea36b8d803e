"""Shapes and types of tensor functions, checked while tests run: jaxtyping's annotations, enforced by beartype.

In production the annotations are texts that nothing reads. `conftest` installs this before the package is imported.
"""

from __future__ import annotations

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

MODULES = (
    "emo.find.attribution", "emo.model.capture", "emo.find.contributions", "emo.find.directions",
    "emo.find.sublayer_importance",
    "emo.model.ops", "emo.model.unit_ops", "emo.find.reference", "emo.measure.projections",
)  # fmt: skip
check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # 1 is a float


def install() -> None:
    """Check the functions and dataclasses of `MODULES`, which must not be imported yet."""
    install_import_hook(list(MODULES), "support.typechecked.check")
