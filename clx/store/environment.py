"""What a run ran on: enough to say why two runs differ."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from clx.runtime import machine as machines

CORE = ("torch", "torchvision", "numpy")  # recorded also where clx runs from a checkout that nobody installed
NVIDIA = Path("/proc/driver/nvidia")
# What decides numbers or speed. Only these are looked at: the rest of the environment is nobody's business.
VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_DYNAMIC",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "KMP_AFFINITY",
    "MKL_NUM_THREADS",
    "MKL_DYNAMIC",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTHONHASHSEED",
)
BUILD = {  # name -> where torch's own description of its build says it
    "blas": r"BLAS_INFO=(\w+)",
    "mkl": r"Math Kernel Library Version (\S+)",
    "onednn": r"MKL-DNN v(\S+)",
    "openmp": r"OpenMP (\d+)",
    "parallel": r"ATen parallel backend: (\w+)",
}


def versions() -> dict[str, str]:
    """Versions of Python, clx and every package that clx requires, extras included where installed."""
    found = {"python": platform.python_version()}
    try:
        requirements = metadata.requires("clx") or []
    except metadata.PackageNotFoundError:  # run from a checkout that nobody installed
        requirements = []
    names = [match.group() for text in requirements if (match := re.match(r"[A-Za-z0-9._-]+", text))]
    for name in dict.fromkeys(["clx", *names, *CORE]):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout that clx runs from, with + where files have changed since; None elsewhere."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        head, changes = _git(checkout, "rev-parse", "HEAD"), _git(checkout, "status", "--porcelain", "-uno")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changes else "")


def _git(checkout: Path, *words: str) -> str:
    command = ["git", "-C", str(checkout), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 - fixed words
    return done.stdout.strip()


@functools.cache  # a process goes on with the code that it has loaded
def source(package: str) -> str | None:
    """Eight characters that stand for the Python files of a top-level package; None where there is none.

    A version or a commit does not say what somebody has changed since.
    """
    try:
        spec = importlib.util.find_spec(package.split(".", maxsplit=1)[0])
    except (ImportError, ValueError):
        return None
    places = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    files = [(file.relative_to(place).as_posix(), file) for place in places for file in place.rglob("*.py")]
    if not files and spec is not None and spec.origin is not None and Path(spec.origin).is_file():
        files = [(Path(spec.origin).name, Path(spec.origin))]
    digest = hashlib.blake2b(digest_size=4)
    try:
        for name, file in sorted(files):
            digest.update(f"{name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    except OSError:
        return None
    return digest.hexdigest() if files else None


def machine() -> dict[str, Any]:
    """The hardware and the system's C library. gpus: all that the driver sees, whether this run may use them or not."""
    return {
        "system": platform.system(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "processor": platform.machine(),
        "cpu": _first(Path("/proc/cpuinfo"), r"model name\s*:\s*(.+)") or platform.processor() or None,
        "cores": os.cpu_count(),
        "usable_cores": machines.cores(),
        "gpus": [_first(file, r"Model:\s*(.+)") for file in sorted(NVIDIA.glob("gpus/*/information"))],
        "driver": _first(NVIDIA / "version", r"Kernel Module.*?\s(\d+\.\d[\d.]*)"),
    }


def _first(file: Path, pattern: str) -> str | None:
    """What the pattern's group is in the first line that has it."""
    try:
        with file.open(errors="replace") as lines:
            found = next((match for line in lines if (match := re.search(pattern, line))), None)
    except OSError:
        return None
    return found.group(1).strip() if found else None


def torch_build() -> dict[str, Any]:
    """The libraries that torch was built with, and the instructions that it uses here; None = without."""
    import torch  # noqa: PLC0415 - to read the records of runs needs no torch

    text = torch.__config__.show() + torch.__config__.parallel_info()
    found = {name: match.group(1) if (match := re.search(pattern, text)) else None for name, pattern in BUILD.items()}
    return found | {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def flags() -> dict[str, Any]:
    """How torch is told to compute; None where torch cannot say, its old and new switches having been mixed."""
    import torch  # noqa: PLC0415 - to read the records of runs needs no torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    reads: dict[str, Callable[[], Any]] = {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled,
        "cudnn_benchmark": lambda: cudnn.benchmark,
        "cudnn_deterministic": lambda: cudnn.deterministic,
        "cudnn_allow_tf32": lambda: cudnn.allow_tf32,
        "matmul_allow_tf32": lambda: matmul.allow_tf32,
        "matmul_fp32_precision": lambda: matmul.fp32_precision,
        "float32_matmul_precision": torch.get_float32_matmul_precision,
        "default_dtype": lambda: str(torch.get_default_dtype()).removeprefix("torch."),
    }
    return {name: _asked(read) for name, read in reads.items()}


def _asked(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return None


def environment(packages: Iterable[str] = (), **facts: Any) -> dict[str, Any]:
    """environment.json: versions, commit and digests of the code, machine, torch's build and flags, the environment
    variables that matter, and the facts of this run (device, threads, seeds, stream).

    packages: a person's own, whose code the run may have used.
    """
    return {
        "versions": versions(),
        "commit": commit(),
        "source": {name: source(name) for name in dict.fromkeys(["clx", *packages])},
        "machine": machine(),
        "torch": torch_build(),
        "flags": flags(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        **facts,
    }
