"""Configurations, run folders, archives and names of somebody who means harm: refused in a line, nothing is run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from clx.build import make_data
from clx.cli import main
from clx.config import Mistake, compose, conf_folder, plain
from clx.data import cifar
from clx.data.core50 import decode
from clx.data.dataset import DamagedData
from clx.folder import run_folder
from clx.trust import check_name, check_targets, find
from clx.validation import nodes

QUICK = ["trainer.epochs=1", "model.hidden_size=8", "benchmark.samples_per_class=10", "logger=none"]
BOMB = {"_target_": "os.system", "command": "touch canary"}
MINE = """
from functools import partial
from os import system
from subprocess import Popen
from torch import load

import torch.optim
from hydra.experimental.callback import Callback

from clx.data.synthetic import Synthetic
from clx.strategy.finetune import Finetune

class Fine(Finetune):
    pass

class Noted(Synthetic):
    def __init__(self, note: str, parts: list, **keys):
        super().__init__(**keys)
        self.note, self.parts = note, parts

class Watches(Callback):
    def on_run_start(self, config, **_):
        open("watched", "w").close()

made = Fine.__new__(Fine)
touch = partial(system, "touch canary")
"""


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every command is typed in an empty folder; what commands put on sys.path goes again."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("CLX_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("hostile_mine", None)


@pytest.fixture
def mine() -> str:
    """A package of the person's own, in the folder that clx is started in."""
    Path("hostile_mine.py").write_text(MINE)
    return "hostile_mine"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """refused(words, *parts): the command is a mistake of at most three lines that hold the parts; nothing was done."""

    def check(words: list[str], *parts: str) -> str:
        capsys.readouterr()
        assert main(words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert 1 <= len(said.err.splitlines()) <= 3, said.err
        assert "\x1b" not in said.err
        for part in parts:
            assert part in said.err
        assert not list(tmp_path.rglob("canary"))
        assert not Path("outputs").exists()
        return said.err

    return check


def stored(**changes: Any) -> str:
    """config.yaml as a run leaves it, changed: a__b is the key a.b."""
    config = plain(compose(QUICK))
    for key, value in changes.items():
        *path, last = key.split("__")
        node = config
        for part in path:
            node = node[part]
        node[last] = value
    folder = Path("theirs")
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "config.yaml")


# --- what a _target_ may be --------------------------------------------------------------------------------------

HOSTILE = [
    "os.system", "posix.system", "subprocess.run", "subprocess.Popen", "builtins.eval", "builtins.exec",
    "functools.partial", "importlib.import_module", "pickle.loads", "runpy.run_path", "ctypes.CDLL",
    "hydra.utils.call", "hydra.utils.instantiate", "hydra.utils.get_method", "omegaconf.OmegaConf.load",
    "numpy.load", "joblib.load",
    "torch.load", "torch.hub.load", "torch.serialization.load", "torch.utils.cpp_extension.load",
    "torch.multiprocessing.spawn", "torch.jit.load", "torchvision.datasets.MNIST", "torchvision.io.read_file",
    "clx.cli.main", "clx.app.execute", "clx.store.checkpoint.load", "clx.trust.importlib.import_module",
    "torch.nn.modules.module.partial", "torch.optim.optimizer.deepcopy", "torch.optim.swa_utils.deepcopy",
    "torch.nn.modules.module.OrderedDict", "torch.nn.functional.relu", "torch.nn.modules",
    "torch.nn.Module.load_state_dict", "clx.data.cifar.pickle", "clx.data.cifar.pickle.loads",
    "clx.data.cifar._Unpickler", "clx.data.cifar.unpack", "clx.model.packaged.Path", "clx.model.packaged.torch.load",
    "clx.model.timm.urlopen", "torchvision.models.get_weight", "torchvision.transforms.functional.pad",
    "clx.strategy.er._ER", "torch._utils._rebuild_tensor", "torch.nn.__builtins__", "__main__.os.system",
    "os.system.", ".os.system", "os..system", "clx.strategy..er.ER", "clx", "torch", "system", "",
    "clx.strategy.er.ER\n", " clx.strategy.er.ER", "clx.strategy.er.ER ", "clx.str\u0430tegy.er.ER", "\uff4fs.system",
    "clx.strategy.er.ER\u200b", "clx/strategy/er.ER", "clx.strategy.er:ER", "\x1b]0;x\x07.system", "x" * 300 + ".y",
]  # fmt: skip


@pytest.mark.parametrize("target", HOSTILE, ids=ascii)
def test_no_other_target_is_taken(target: str, refused: Callable[..., str]) -> None:
    refused(["--from", stored(strategy___target_=target)], "strategy._target_=")
    refused(["--from", stored(strategy={"_target_": target, "command": "touch canary"})], "strategy._target_")


@pytest.mark.parametrize("target", ["torch.hub.load", "os.system", "clx.cli.main", "clx.app.execute"])
def test_no_other_target_is_typed(target: str, refused: Callable[..., str]) -> None:
    refused([f"strategy._target_={target}"], f"strategy._target_={target}")
    refused(["-m", "seed=0,1", f"strategy._target_={target}"], f"strategy._target_={target}", "job 1 of 2")


def test_what_stands_in_conf_is_taken() -> None:
    seen = 0
    for file in conf_folder().rglob("*.yaml"):
        if "hydra" not in file.parts:
            for path, node in nodes(yaml.safe_load(file.read_text())):
                check_name(path, node["_target_"], ())
                assert find(path, node["_target_"]).__name__ == node["_target_"].split(".")[-1]
                seen += 1
    assert seen > 50


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.Linear", "torch.nn.modules.activation.GELU", "torch.optim.RMSprop", "torch.optim.Adafactor",
        "torch.optim.lr_scheduler.StepLR", "torch.optim.lr_scheduler.ReduceLROnPlateau", "torchvision.models.resnet18",
        "torchvision.transforms.v2.RandomCrop", "torchvision.models.resnet.ResNet",
    ],
)  # fmt: skip
def test_what_is_there_to_be_built_is_taken(target: str) -> None:
    check_targets({"trusted_packages": [], "model": {"_target_": target}})
    assert find("model", target).__name__ == target.rsplit(".", maxsplit=1)[-1]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"benchmark__data": BOMB}, "benchmark.data._target_"),
        ({"benchmark__data__noise": BOMB}, "benchmark.data.noise._target_"),
        ({"benchmark__class_order": [0, [1, BOMB]]}, "benchmark.class_order[1][1]._target_"),
        ({"optimizer__lr": {"a": {"b": [BOMB]}}}, "optimizer.lr.a.b[0]._target_"),
        ({"regularizer": {"x": BOMB}}, "regularizer.x._target_"),
        ({"logger": {"x": {"_target_": "clx.logger.console.Console", "y": BOMB}}}, "logger.x.y._target_"),
        ({"model__head": BOMB | {"_partial_": True}}, "model.head._target_"),
        ({"objective": BOMB}, "objective"),
        ({"name": "os.system", "strategy": {"_target_": "${name}"}}, "strategy._target_=os.system"),
        ({"strategy": {"_target_": "${oc.env:HOSTILE}"}}, "strategy._target_=os.system"),
        ({"strategy": {"_target_": "${oc.decode:${oc.env:QUOTED}}"}}, "strategy._target_=os.system"),
        ({"strategy": "${oc.create:{_target_:os.system,command:touch canary}}"}, "strategy._target_=os.system"),
        ({"strategy": {"_target_": "${oc.env:NOT_SET}"}}, "NOT_SET"),
        ({"strategy": {"_target_": r"\${oc.env:HOSTILE}"}}, "strategy._target_=${oc.env:HOSTILE}"),
        ({"strategy": {"_target_": ["os.system"]}}, "strategy._target_=['os.system']"),
        ({"strategy": {"_target_": BOMB}}, "strategy._target_"),
        ({"strategy__replay_size": r"\${oc.create:{_target_:os.system,command:touch canary}}"}, "replay_size"),
        ({"strategy___args_": ["touch canary"]}, "strategy._args_"),
        ({"benchmark__data___args_": [1]}, "benchmark.data._args_"),
        ({"optimizer": {"_target_": "torch.optim.SGD", "_args_": [[]], "lr": 1.0}}, "optimizer._args_"),
        ({"optimizer__foreach": {"_args_": [1]}}, "optimizer.foreach._args_"),
        ({"strategy___partial_": "yes"}, "strategy._partial_=yes"),
        ({"strategy___recursive_": 0}, "strategy._recursive_=0"),
        ({"strategy___convert_": "evil"}, "strategy._convert_=evil"),
        ({"strategy___reduce_": 1}, "strategy._reduce_"),
        ({"benchmark__data": BOMB, "benchmark___recursive_": False}, "benchmark.data._target_"),
        ({"regularizer": "os.system"}, "regularizer=os.system"),
        ({"logger": {"x": 5}}, "logger.x"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)  # fmt: skip
def test_no_disguise_helps(
    changes: dict[str, Any], key: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTILE", "os.system")
    monkeypatch.setenv("QUOTED", "'os.system'")
    refused(["--from", stored(**changes)], key)


def test_a_value_is_resolved_once_and_what_nests_is_built(mine: str) -> None:
    """An escaped interpolation stays the text that was judged; Hydra's instantiate would resolve it again."""
    text = "${oc.create:{_target_:os.system,command:touch canary}}"
    parts = [{"_target_": "torch.nn.ReLU"}, {"_target_": "torch.nn.GELU", "_partial_": True}, {"a": 1}]
    keys = {"shape": [1, 2, 2], "num_classes": 2, "train_per_class": 1, "test_per_class": 1, "noise": 1.0, "seed": 0}
    node = {"_target_": f"{mine}.Noted", "note": text, "parts": parts, **keys}
    check_targets({"trusted_packages": [mine], "benchmark": {"data": node}})
    data = make_data({"benchmark": {"data": node}})
    assert data.note == text
    assert isinstance(data.parts[0], torch.nn.ReLU)
    assert (data.parts[1].func, data.parts[2]) == (torch.nn.GELU, {"a": 1})
    assert not Path("canary").exists()


# --- packages of one's own -----------------------------------------------------------------------------------------


def test_own_code_is_built_and_what_it_imports_is_not(mine: str, refused: Callable[..., str]) -> None:
    trust = f"trusted_packages=[{mine}]"
    for name, said in {
        "system": "posix.system, which hostile_mine only imports",
        "Popen": "subprocess.Popen",
        "partial": "functools.partial",
        "load": "torch.serialization.load",
        "Finetune": "clx.strategy.finetune.Finetune",
        "made": "no class or function",
        "touch": "no class or function",
        "torch": "no class or function",
        "torch.load": "hostile_mine.torch",
        "Fine.train": "hostile_mine.Fine",
    }.items():
        refused([*QUICK, "strategy=finetune", f"strategy._target_={mine}.{name}", trust], said)
    assert main([*QUICK, "strategy=finetune", f"strategy._target_={mine}.Fine", trust]) == 0


def test_own_code_that_cannot_be_imported_is_named(refused: Callable[..., str]) -> None:
    Path("hostile_mine.py").write_text("import sys\nsys.exit(0)\n")
    refused(["strategy._target_=hostile_mine.Fine", "trusted_packages=[hostile_mine]"], "SystemExit")


@pytest.mark.parametrize(
    "name",
    [
        "os", "builtins", "subprocess", "sys", "importlib.util", "pickle", "numpy", "joblib", "cloudpickle", "dill",
        "hydra", "hydra.utils", "hydra_plugins", "omegaconf", "clx", "torch", "torch.hub", "torchvision", "pandas",
        "_mine", "mine._private", "__main__", "mine.", "'../mine'", "'mine os'", "'*'", "''", "5",
    ],
)  # fmt: skip
def test_not_everything_can_be_trusted(name: str, refused: Callable[..., str]) -> None:
    refused([f"trusted_packages=[{name}]", "strategy._target_=os.system"], "trusted_packages")


@pytest.mark.parametrize(
    "given", [["hostile_mine"], "hostile_mine", [["os"]], {"os": 1}, "${tags}", ["${name}"], ["os"], [None], 7], ids=str
)
def test_a_file_cannot_vouch_for_its_own_code(given: object, refused: Callable[..., str]) -> None:
    file = stored(
        trusted_packages=given, tags=["os"], name="os", strategy={"_target_": "os.system", "command": "touch canary"}
    )
    refused(["--from", file])
    (Path(file).parent / "status.json").write_text("{}")
    refused(["resume", "theirs"])


def test_code_in_the_folder_of_a_run_is_not_found_because_one_stands_there(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stored(trusted_packages=["hostile_mine"], strategy___target_="hostile_mine.Fine")
    folder = Path(file).parent
    (folder / "status.json").write_text("{}")
    (folder / "hostile_mine.py").write_text("open('canary', 'w').close()\n")
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder)
    refused(["--from", "config.yaml"], "wants to run code of hostile_mine")
    refused(["--from", "config.yaml", "trusted_packages=[hostile_mine]"], "start clx in another folder")
    refused(["resume", ".", "trusted_packages=[hostile_mine]"], "start clx in another folder")
    monkeypatch.chdir("inner")
    refused(["resume", "..", "trusted_packages=[hostile_mine]"], "start clx in another folder")
    monkeypatch.chdir("../..")
    refused(["--from", file, "trusted_packages=[hostile_mine]"], "No module named")


# --- Hydra's own nodes -----------------------------------------------------------------------------------------------

OF_HYDRA = {
    "callback": "hydra: {callbacks: {x: {_target_: os.system, command: touch canary}}}",
    "callback_of_clx": "hydra: {callbacks: {x: {_target_: clx.cli.main, arguments: []}}}",
    "nested": "hydra: {callbacks: {x: {_target_: hydra.experimental.callbacks.PickleJobInfoCallback, y: "
              "{_target_: os.system, command: touch canary}}}}",
    "hydra_instantiate": "hydra: {callbacks: {x: {_target_: hydra.utils.instantiate, config: "
                         "{_target_: os.system, command: touch canary}}}}",
    "re_exported": "hydra: {callbacks: {x: {_target_: hydra.experimental.callbacks.Path, _partial_: true}}}",
    "args": "hydra: {callbacks: {x: {_target_: hydra.experimental.callbacks.LogJobReturnCallback, _args_: [1]}}}",
    "interpolated": "name: os.system\nhydra: {callbacks: {x: {_target_: '${name}', command: touch canary}}}",
    "created": "hydra: {callbacks: {x: '${oc.create:{_target_:os.system,command:touch canary}}'}}",
    "launcher": "hydra: {launcher: {_target_: os.system, command: touch canary}}",
    "inside_launcher": "hydra: {launcher: {x: {_target_: os.system, command: touch canary}}}",
    "sweeper": "hydra: {sweeper: {_target_: os.system, command: touch canary}}",
    "factory": "hydra: {job_logging: {root: {handlers: [a]}, handlers: {a: {(): os.system, command: touch canary}}}}",
    "class": "hydra: {job_logging: {root: {handlers: [a]}, handlers: {a: {class: subprocess.Popen, args: x}}}}",
    "ext": "hydra: {job_logging: {root: {handlers: [a]}, handlers: {a: {class: logging.StreamHandler, stream: "
           "'ext://os.environ'}}}}",
    "hydra_logging": "hydra: {hydra_logging: {root: {handlers: [a]}, handlers: {a: "
                     "{(): os.system, command: touch canary}}}}",
}  # fmt: skip


MODES = [["-m", "seed=0,1"], ["--cfg", "job"], ["--info", "config"], ["--hydra-help"]]


@pytest.mark.parametrize(
    ("name", "words"),
    [*((name, []) for name in OF_HYDRA), *((name, mode) for name in ("nested", "factory") for mode in MODES)],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_hydra_builds_nothing_else(name: str, words: list[str], refused: Callable[..., str]) -> None:
    place = Path("own/experiment")
    place.mkdir(parents=True)
    (place / "x.yaml").write_text(f"# @package _global_\n{OF_HYDRA[name]}\n")
    refused(["-cd", "own", *words, "experiment=x", *QUICK], "hydra.")


def test_hydra_builds_nothing_else_for_sweepers_of_others(refused: Callable[..., str]) -> None:
    sweeper = "hydra.sweeper._target_=hydra_plugins.nowhere.Sweeper"
    refused(
        ["-m", *QUICK, sweeper, "+hydra.callbacks.x={_target_:os.system,command:touch canary}"], "hydra.callbacks.x"
    )


def test_ordinary_nodes_of_hydra_are_built(mine: str) -> None:
    own = ["strategy=finetune", f"trusted_packages=[{mine}]", f"+hydra.callbacks.x._target_={mine}.Watches"]
    assert main([*QUICK, *own, "+hydra.callbacks.y._target_=hydra.experimental.callbacks.LogJobReturnCallback"]) == 0
    assert Path("watched").exists()
    assert main(["--cfg", "job", "hydra/job_logging=default", "hydra/hydra_logging=default"]) == 0
    assert main([*QUICK, "hydra/job_logging=default", "hydra.verbose=false"]) == 0


def test_no_pickled_job_is_run_again(refused: Callable[..., str]) -> None:
    Path("config.pickle").write_bytes(pickle.dumps(Bomb()))
    refused(["--experimental-rerun", "config.pickle"], "--from")
    refused(["--cfg", "job", "--experimental-rerun", "config.pickle"], "--from")


# --- names ---------------------------------------------------------------------------------------------------------

NAMES = ["../../x", "/etc/x", "", ".", "..", "~", "a\0b", "x" * 300, "a\nb", "\x1b[2J", "a\\b", "\ud800", 5, None]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("group", ["benchmark", "strategy"])
def test_a_name_leads_nowhere_else(group: str, name: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clx.folder._key", lambda config, folders: "default")  # such options do not compose
    config = plain(compose(QUICK))
    config["choices"][group] = name
    parts = run_folder(config).parts
    assert len(parts) == 4
    assert not {"", ".", "..", "~", "/"} & set(parts)
    assert all(part.isprintable() and len(part.encode()) <= 120 for part in parts)
    config["choices"][group] = f"{name}x"
    assert run_folder(config).parts != parts


def test_usual_names_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clx.folder._key", lambda config, folders: "default")
    config = plain(compose(QUICK))
    for name in ("er_ace", "my er (2)", "l\u00e9ger", "er-1.5,x=2", "mine/er"):
        config["choices"]["strategy"] = name
        assert run_folder(config) == Path("split_digits", name.replace("/", "_"), "default", "seed=0")


@pytest.mark.parametrize(
    "choices",
    [
        *({"strategy": name} for name in NAMES if name != "\ud800"),
        {"strategy": ["er"]},
        {"model": {"_target_": "os.system"}},
        {"hydra.searchpath": "[pkg://antigravity]"},
        {"hydra/launcher": "joblib"},
        {"+hydra.callbacks.x._target_": "os.system"},
        {"~model": "x"},
        {5: "x"},
        {"model": "[a,b]"},
        {"model": "x,y"},
        {"model": "${oc.env:HOME}"},
    ],
    ids=ascii,
)
def test_stored_choices_are_names(choices: dict[Any, Any], refused: Callable[..., str]) -> None:
    file = stored(choices=plain(compose(QUICK))["choices"] | choices)
    (Path(file).parent / "status.json").write_text("{}")
    refused(["--from", file], "choices.", "must be the name of an option")
    refused(["resume", "theirs"], "choices.")
    assert "antigravity" not in sys.modules


# --- checkpoints, archives, pages ----------------------------------------------------------------------------------


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch canary",)


def test_a_bomb_in_a_checkpoint_is_not_loaded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its digest is right; the run fails and says so, and so it does from Python."""
    assert main(QUICK) == 0
    (file,) = Path("outputs").rglob("config.yaml")
    folder = file.parent
    (folder / "result.json").unlink()
    (folder / "status.json").write_text(json.dumps({"state": "interrupted", "reason": None}))
    written = io.BytesIO()
    torch.save({"bomb": Bomb()}, written)
    for content in (written.getvalue(), pickle.dumps(Bomb(), protocol=2)):
        shutil.rmtree(folder / "checkpoint")
        (folder / "checkpoint").mkdir()
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        (folder / "checkpoint" / f"000009-{digest}.pt").write_bytes(content)
        capsys.readouterr()
        assert main(["resume", str(folder)]) == 1
        assert "rerun=true starts again" in capsys.readouterr().err
        assert not list(tmp_path.rglob("canary"))


def zip_slip(path: Path) -> bytes:
    """An archive of which every member lies elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name in (
            "../canary",
            "../../canary",
            str(path.parent.parent / "canary"),
            "cifar-10-batches-py/../../canary",
        ):
            tar.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
        tar.addfile(link)
    return path.read_bytes()


@pytest.mark.parametrize("archive", ["cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"])
def test_an_archive_writes_nowhere(
    archive: str, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zip_slip(tmp_path / "data" / archive)
    refused(["benchmark=split_cifar10", *QUICK], archive, "its MD5 is", "get it again")
    refused(["data", "check", "cifar10"], archive, "its MD5 is")
    # Even one with the right checksum is read in memory, and a link in it leads nowhere.
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    layouts = [(kind, folder, digest, train, test) for kind, folder, _, train, test in cifar.LAYOUTS["cifar10"]]
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", layouts)
    refused(["data", "check", "cifar10"], archive, "not a whole archive")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [archive]


def test_a_pickle_in_the_place_of_cifar_is_not_run(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = tmp_path / "data/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*cifar.FIVE, "test_batch"):
        (folder / name).write_bytes(pickle.dumps({b"data": Bomb(), b"labels": []}, protocol=2))
    refused(["data", "check", "cifar10"], "asks for posix.system", "do not trust this file")
    with pytest.raises(DamagedData, match="do not trust"):
        cifar.read_pickle((folder / "test_batch").read_bytes(), "x", fine=False)


def test_an_image_is_what_its_name_says(tmp_path: Path) -> None:
    """Pillow hands PostScript to another program, and would unpack a picture of any size."""
    place = tmp_path / "x.png"
    for form in ("EPS", "BMP"):
        Image.new("RGB", (128, 128)).save(place, format=form)
        with pytest.raises(DamagedData, match="not a whole image"):
            decode(place)
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    place.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    with pytest.raises(DamagedData, match="not a whole image"):
        decode(place)


def test_a_name_is_no_part_of_the_page() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    assert main([*QUICK, "strategy=finetune"]) == 0
    assert main([*QUICK, "strategy=finetune", "seed=1", "optimizer.lr=0.1"]) == 0
    for file in Path("outputs").rglob("config.yaml"):
        config = yaml.safe_load(file.read_text())
        config["name"] = config["choices"]["strategy"] = config["choices"]["model"] = evil
        config["benchmark"]["<script>key"] = config["tags"] = [f"{evil}{config['seed']}"]
        file.write_text(yaml.safe_dump(config))
        (file.parent / "environment.json").write_text(json.dumps({"versions": {evil: evil}, "device_name": evil}))
    assert main(["report", "outputs", "-o", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert "alert(1)" in page  # as text
    assert "<script>alert" not in page
    assert "<script>key" not in page
    assert "<img src=x" not in page
    assert main(["compare", "outputs"]) == 0


def test_mistakes_name_the_key_and_the_remedy() -> None:
    for target, said in {
        "os.system": "x=os.system: os holds nothing to be built; only clx, torch, torchvision, mine and other "
        "trusted_packages do",
        "theirs.Net": "x=theirs.Net: theirs is not trusted; only clx, torch, torchvision, mine are. If it is yours, "
        "add trusted_packages=[theirs]",
        "clx.strateg.er.ER": "of clx only what lies in clx.benchmark, clx.buffer, clx.data, clx.logger, clx.model, "
        "clx.regularizer, clx.strategy is there to be built; did you mean clx.strategy?",
    }.items():
        with pytest.raises(Mistake) as caught:
            check_name("x", target, ("mine",))
        assert said in str(caught.value)
