"""environment.json: what decides bits and speed, and nothing that is nobody's business."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from clx.store import environment as recorded
from clx.store.environment import VARIABLES, environment, flags, machine, source, torch_build, versions


@pytest.fixture(autouse=True)
def forget_sources() -> Iterator[None]:
    source.cache_clear()
    yield
    source.cache_clear()


def test_the_facts_of_the_run_stand_beside_the_rest() -> None:
    found = environment(device="cpu", threads=1, stream={"classes": [[0, 1]]})
    assert list(found) == [
        "versions", "commit", "source", "machine", "torch", "flags", "variables", "device", "threads", "stream",
    ]  # fmt: skip
    assert found["stream"] == {"classes": [[0, 1]]}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_versions_name_what_numbers_come_from() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert {"torchvision", "numpy"} <= found.keys()


def test_versions_of_a_checkout_that_nobody_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> list[str]:
        raise recorded.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(recorded.metadata, "requires", nothing)
    assert {"python", "torch", "torchvision", "numpy"} <= versions().keys()


def test_only_listed_variables_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that looks like one of them and a secret stay out."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "3", "OMP_TOKEN": "s3cret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    found = environment()
    assert found["variables"] == {"OMP_NUM_THREADS": "3", "MKL_CBWR": "COMPATIBLE"}
    assert "s3cret" not in json.dumps(found)


def test_machine_counts_usable_cores_and_names_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    found = machine()
    assert (found["cores"], found["usable_cores"]) == (8, 3)
    assert (found["system"], found["processor"]) == (platform.system(), platform.machine())
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    assert "model name" not in text or re.search(rf"model name\s*: {re.escape(found['cpu'])}$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (x@y)", "570.86.15"),
        ("nothing of the kind", None),
    ],
)
def test_gpus_and_driver_are_read_without_waking_them(
    line: str, driver: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "NVIDIA", tmp_path)
    assert (machine()["gpus"], machine()["driver"]) == ([], None)  # no such files
    for bus, model in (("0000:01:00.0", "NVIDIA H100"), ("0000:02:00.0", "NVIDIA A100")):
        folder = tmp_path / "gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 16\n")
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.2.0\n")
    assert (machine()["gpus"], machine()["driver"]) == (["NVIDIA H100", "NVIDIA A100"], driver)


def test_torchs_build_is_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch_build()["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert torch_build()["cuda"] == torch.version.cuda
    text = "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 2024\n  - OpenMP 201511 (a.k.a. 4.5)\n"
    text += "  - Intel(R) MKL-DNN v3.7.1 (Git Hash 8d26)\n  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release, "
    said = SimpleNamespace(show=lambda: text, parallel_info=lambda: "ATen parallel backend: OpenMP\n")
    monkeypatch.setattr(torch, "__config__", said)
    found = {name: torch_build()[name] for name in ("blas", "mkl", "onednn", "openmp", "parallel")}
    assert list(found.values()) == ["mkl", "2024.2-Product", "3.7.1", "201511", "OpenMP"]
    said.show = lambda: "PyTorch built with:\n  - GCC 13.3\n"
    assert torch_build()["mkl"] is None


def test_flags_follow_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    before = flags()
    assert before["deterministic_algorithms"] is False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        changed = flags()
    finally:
        torch.use_deterministic_algorithms(False)
    assert {name for name in before if changed[name] != before[name]} == {
        "deterministic_algorithms",
        "deterministic_warn_only",
    }
    assert flags() == before


def test_a_flag_that_torch_cannot_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a person's code mixes allow_tf32 with the newer fp32_precision."""

    def mixed() -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", mixed)
    assert flags()["float32_matmul_precision"] is None
    assert flags()["cudnn_benchmark"] is False


def test_source_changes_with_any_python_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content, names and new files count; other files do not. A module of one file has a source too."""
    package = tmp_path / "clx_test_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "method.py").write_text("lr = 1\n")
    (tmp_path / "clx_test_module.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = [source("clx_test_package")]

    def again() -> str | None:
        source.cache_clear()
        seen.append(source("clx_test_package"))
        return seen[-1]

    (package / "notes.txt").write_text("nothing")
    assert again() == seen[0]
    (package / "inner" / "method.py").write_text("lr = 2\n")
    again()
    (package / "inner" / "method.py").rename(package / "inner" / "other.py")
    again()
    (package / "new.py").write_text("")
    again()
    assert len(set(seen)) == 4
    assert source("clx_test_package.inner.other") == seen[-1]
    assert re.fullmatch("[0-9a-f]{8}", source("clx_test_module") or "")
    assert "clx_test_package" not in __import__("sys").modules  # looked at, not imported


@pytest.mark.parametrize("package", ["clx_no_such_package", "", "sys"])
def test_no_source_where_there_are_no_files(package: str) -> None:
    assert source(package) is None


def test_the_sources_of_own_packages_are_recorded() -> None:
    found = environment(packages=["json", "clx_no_such_package"])["source"]
    assert list(found) == ["clx", "json", "clx_no_such_package"]
    assert re.fullmatch("[0-9a-f]{8}", found["clx"])
    assert re.fullmatch("[0-9a-f]{8}", found["json"])
    assert found["clx_no_such_package"] is None
