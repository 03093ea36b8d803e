"""The entry point: ``python run.py GROUP=OPTION KEY=VALUE ...`` (``--help`` lists them)."""

from __future__ import annotations

from emo.core import stopping

stopping.install()  # before what takes seconds to load

import sys

from emo.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
