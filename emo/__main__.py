"""``python -m emo``, and the command ``emo`` of an installed package."""

from __future__ import annotations

import sys

from emo.core import stopping


def main() -> int:
    """Run the command line; returns the exit code."""
    stopping.install()  # before what takes seconds to load
    from emo.cli.command import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
