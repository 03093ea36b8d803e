"""A file's sha256 is read once, and never of what it was before."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from emo.core import kept_digests
from emo.core.kept_digests import digests


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file that was written an hour ago."""
    path = tmp_path / "weights"
    write(path, b"one")
    return path


def write(path: Path, content: bytes, ago: float = 3600.0) -> None:
    path.write_bytes(content)
    then = time.time() - ago
    os.utime(path, (then, then))


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_read_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    digest = kept_digests.file_digest
    monkeypatch.setattr(kept_digests, "file_digest", lambda path: (read.append(path), digest(path))[1])
    for _ in range(3):
        assert digests("x", [file], tmp_path / "home") == [sha(b"one")]
    assert read == [file]
    (link := tmp_path / "link").symlink_to(file)
    assert digests("x", [link, file], tmp_path / "home") == [sha(b"one")] * 2 and read == [file]


def test_other_content_of_the_same_size_and_time(file: Path, tmp_path: Path) -> None:
    """As a copy that keeps times leaves it: the inode tells."""
    assert digests("x", [file], tmp_path / "home") == [sha(b"one")]
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_size == before.st_size
    assert digests("x", [file], tmp_path / "home") == [sha(b"two")]


def test_what_was_just_written_is_not_kept(file: Path, tmp_path: Path) -> None:
    """A second change within one tick of the clock would not show."""
    write(file, b"new", ago=0.0)
    assert digests("x", [file], tmp_path / "home") == [sha(b"new")]
    assert not list((tmp_path / "home").glob("*"))


def test_a_damaged_or_unwritable_home(file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert digests("x", [file], home) == [sha(b"one")]
    (kept,) = home.iterdir()
    kept.write_text(kept.read_text().replace(sha(b"one"), sha(b"two")))
    assert digests("x", [file], home) == [sha(b"one")]
    assert digests("x", [file], file / "no folder") == [sha(b"one")]


def test_large_files_are_said(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kept_digests, "SLOW", 2)
    digests("model.path=x", [file], tmp_path / "home")
    assert "model.path=x: 3e-09 GB are read once for their sha256" in capsys.readouterr().out
    digests("model.path=x", [file], tmp_path / "home")
    assert not capsys.readouterr().out
