"""A page in headless Chromium: what a script at its end does, and what then stands in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
WAITS_MS = 3000  # of the page's own clock, which runs as fast as the page is done


def play(page: Path, script: str, profile: Path, timeout: float = 90) -> str:
    """Return the DOM, as HTML, of a copy of a page behind which a script ran; skips where no Chromium is installed.

    Args:
        page: HTML file.
        script: JavaScript, run after the page's own.
        profile: folder that keeps what the page keeps (localStorage) from one call to the next.
        timeout: seconds.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    profile.mkdir(parents=True, exist_ok=True)
    copy = profile / page.name
    whole = page.read_text(encoding="utf-8")
    copy.write_text(whole.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    words = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile / 'data'}", "--dump-dom",
        f"--virtual-time-budget={WAITS_MS}", copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, check=False, env=os.environ | {"HOME": str(profile)}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
