"""conf/ mirrors clx/: every option composes, and each name stands in its three places."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from clx.command.list import GROUPS, describe, options
from clx.config import compose, conf_folder, plain
from clx.jobs import master
from clx.sweep.launch import Launcher
from clx.validation import check, find, nodes

TESTS = Path(__file__).parent
HYDRAS = sorted(path for path in conf_folder().glob("hydra/*/*.yaml"))
OPTIONS = [(group, name) for group in GROUPS if not group.startswith("hydra/") for name in options(group)]
# Groups in which each option with a _target_ is one class in one file of its own.
ONE_FILE = ("model", "model/head", "strategy", "buffer", "regularizer", "logger")
COMMON = {
    "benchmark": set(yaml.safe_load((conf_folder() / "benchmark/_common.yaml").read_text())),
    "buffer": {"capacity", "seed", "device"},
}


def read(group: str, name: str) -> dict[str, Any]:
    """The option's file as it is written."""
    return yaml.safe_load((conf_folder() / group / f"{name}.yaml").read_text()) or {}


def config(group: str, name: str) -> dict[str, Any]:
    return plain(compose([f"{group}={name}"]))


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=lambda value: value)
def test_option_composes_and_passes_the_check(group: str, name: str) -> None:
    composed = config(group, name)
    check(composed)
    chosen = composed["choices"][group]
    assert name in (chosen if isinstance(chosen, list) else [chosen])


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=lambda value: value)
def test_option_says_what_it_is(group: str, name: str) -> None:
    what, _ = describe(group, name)
    assert what.endswith("."), f"conf/{group}/{name}.yaml: the first comment line says what it is, in a sentence"


@pytest.mark.parametrize("file", HYDRAS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_option_of_hydra_composes_and_says_what_it_is(file: Path) -> None:
    """It stands for the plugin's own of the same name, without a warning; what it names is there to be called."""
    group = f"hydra/{file.parent.name}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cfg = compose([f"{group}={file.stem}"])
    assert cfg.hydra.runtime.choices[group] == file.stem
    assert callable(find(group, cfg.hydra[file.parent.name]["_target_"]))
    assert describe(group, file.stem)[0].endswith(".")


@pytest.mark.parametrize("name", [file.stem for file in HYDRAS if file.parent.name == "launcher"])
def test_launcher_takes_all_that_its_file_says(name: str) -> None:
    Launcher(master([f"hydra/launcher={name}"], ()))


@pytest.mark.parametrize(("group", "name"), [o for o in OPTIONS if o[0] in ONE_FILE], ids=lambda value: value)
def test_one_name_in_three_places(group: str, name: str) -> None:
    own = [(path, node["_target_"]) for path, node in nodes(read(group, name)) if node["_target_"].startswith("clx.")]
    for path, target in own:
        module, _, cls = target.rpartition(".")
        assert module == f"clx.{group.replace('/', '.')}.{name}", f"{path} of conf/{group}/{name}.yaml"
        assert inspect.isclass(find(path, target)), f"{cls} is a class"
        assert (TESTS / group / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", options("benchmark"))
def test_benchmark_parts_have_tests(name: str) -> None:
    for _, node in nodes(read("benchmark", name)):
        _, folder, module, _ = node["_target_"].split(".")
        assert folder in ("benchmark", "data")
        assert (TESTS / folder / f"test_{module}.py").exists()


@pytest.mark.parametrize("group", COMMON)
def test_every_option_has_the_common_keys(group: str) -> None:
    for name in options(group):
        assert COMMON[group] <= set(config(group, name)[group]), name


@pytest.mark.parametrize(
    ("group", "key"), [("model", "model"), ("model/head", "model.head"), ("benchmark", "benchmark")]
)
def test_yaml_repeats_the_defaults_of_the_constructor(group: str, key: str) -> None:
    """Models and heads keep the documents' defaults, benchmarks are used from Python too: both places agree."""
    compared = 0
    for name in options(group):
        if name == "none":
            continue
        node: Any = config(group, name)
        for part in key.split("."):
            node = node[part]
        for parameter in inspect.signature(find(key, node["_target_"])).parameters.values():
            if parameter.name in node and parameter.default is not parameter.empty:
                if parameter.name == "num_experiences":  # YAML says how many; the class has no usual number
                    continue
                default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
                assert node[parameter.name] == default, f"{group}={name} {parameter.name}"
                compared += 1
    assert compared >= 2


@pytest.mark.parametrize("group", ["strategy", "buffer", "regularizer"])
def test_defaults_live_in_yaml_alone(group: str) -> None:
    """Outside models, heads and benchmarks a constructor has no default for what a configuration can set."""
    for name in options(group):
        for path, node in nodes(config(group, name)[group]):
            for parameter in inspect.signature(find(path, node["_target_"])).parameters.values():
                assert parameter.name not in node or parameter.default is parameter.empty, f"{name}: {parameter.name}"


def test_recipes_name_no_class_of_their_own() -> None:
    for name in ("joint", "cumulative", "lwf", "ewc_online"):
        assert not list(nodes(read("strategy", name)))
