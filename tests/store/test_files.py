"""Small files: never half of one, and a clear word where one is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from clx.store import files


def test_json_and_yaml_come_back(tmp_path: Path) -> None:
    content = {"a": [1, None, 0.1], "b": {"c": "text"}}
    files.write_json(tmp_path / "x.json", content)
    files.write_yaml(tmp_path / "x.yaml", content)
    assert files.read_json(tmp_path / "x.json") == files.read_yaml(tmp_path / "x.yaml") == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "x.yaml"]  # nothing temporary stays


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "text"), [("x.json", "{"), ("x.yaml", "a: [1"), ("x.yaml", "- 1")])
def test_a_damaged_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    read = files.read_json if name.endswith("json") else files.read_yaml
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name)


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", [float("nan")])
    assert not list(tmp_path.iterdir())
