"""What runs side by side may take: cores, threads, GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clx.runtime import machine


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(("side_by_side", "expected"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1), (-1, 1)])
def test_cores_are_shared_out(side_by_side: int, expected: int) -> None:
    assert machine.threads(side_by_side) == expected


def test_a_persons_own_number_of_threads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert machine.threads(8) == 3


@pytest.mark.parametrize(("visible", "gpus"), [("0,2", 2), ("", 0), ("-1", 0), ("GPU-a1", 1)])
def test_visible_gpus_are_counted(monkeypatch: pytest.MonkeyPatch, visible: str, gpus: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == gpus
    assert machine.workers() == (gpus or 8)


def claim(monkeypatch: pytest.MonkeyPatch, visible: str) -> str:
    """What a new process would see."""
    monkeypatch.setattr(machine, "_claimed", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine.claim_gpu()
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_each_process_claims_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    kept = []
    for expected in ("4", "7"):
        assert claim(monkeypatch, "4,7") == expected
        kept.append(machine._claimed)
        machine.claim_gpu()  # a second job of the same process
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
    assert claim(monkeypatch, "4,7") in ("4", "7")  # all are taken: shared
    kept.pop(0)[0].release()  # the first process ends
    assert claim(monkeypatch, "4,7") == "4"


def test_one_gpu_or_none_is_nothing_to_claim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    assert claim(monkeypatch, "3") == "3"
    assert claim(monkeypatch, "") == ""
    assert not list(tmp_path.iterdir())
