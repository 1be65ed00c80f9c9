"""Whatever is broken in a file that a command reads ends as a broken command does; broken runs stop no comparison."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clx.config import compose, plain
from clx.store.records import COSTS

Typed = Callable[[list[str]], tuple[int | None, str, str]]
Judged = Callable[[list[str]], str | None]
Refused = Callable[[list[str]], str]

CONFIG = plain(compose(["logger=none", "data_root=there"]))
STORED = yaml.safe_dump(CONFIG, sort_keys=False)
OPTION = (
    "# @package _global_\n# A method of mine.\ndefaults:\n  - override /buffer: reservoir\nbuffer:\n  capacity: 50\n"
    "strategy:\n  _target_: clx.strategy.er.ER\n  _partial_: true\n  replay_size: 64\ntrainer:\n  epochs: 3\n"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str | bytes], Path]:
    """written(name, content): the path of a file of that name in a folder of its own."""
    folder = tmp_path_factory.mktemp("files")

    def write(name: str, content: str | bytes) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf8", "surrogatepass"))
        return path

    return write


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    """The text with a byte or a line gone wrong, or cut."""
    content, lines = text.encode(), text.splitlines(keepends=True)
    place, line = draw(st.integers(0, len(content) - 1)), draw(st.integers(0, len(lines) - 1))
    kind = draw(
        st.sampled_from(["cut", "byte", "bytes", "delete", "double", "indent", "dedent", "rename", "value", "tab"])
    )
    if kind == "cut":
        return content[:place]
    if kind in ("byte", "bytes"):
        new = draw(st.binary(min_size=1, max_size=1 if kind == "byte" else 8))
        return content[:place] + new + content[place + (kind == "byte") :]
    key, sign, _ = lines[line].partition(":")
    values = [
        "[",
        "x: y",
        "{a: 1}",
        "[[1]]",
        "!!python/name:os.system",
        "&a [*a]",
        "${nope}",
        "???",
        "*x",
        "'",
        "- a",
        "%",
    ]
    lines[line] = {
        "delete": "",
        "double": lines[line] * 2,
        "indent": "  " + lines[line],
        "dedent": lines[line][1:],
        "rename": draw(st.text(string.ascii_letters, min_size=1, max_size=5)) + lines[line],
        "value": f"{key}{sign} {draw(st.sampled_from(values))}\n",
        "tab": "\t" + lines[line],
    }[kind]
    return "".join(lines).encode()


# --- clx --from ------------------------------------------------------------------------------------------------


@given(damaged(STORED))
@settings(max_examples=150)
def test_a_stored_configuration_that_is_damaged(judged: Judged, written: Any, content: bytes) -> None:
    said = judged(["--from", str(written("config.yaml", content))])
    assume(said is not None)  # damaged into another configuration that is right


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
DEEP = 100_000  # the fast reader of YAML recurses, and takes the process along


def changed(old: str, new: str) -> str:
    assert old in STORED
    return STORED.replace(old, new, 1)


WRONG_FILES: dict[str, str | bytes] = {
    "empty": "",
    "a list": "- 1\n- 2\n",
    "a text": "hello",
    "null": "null\n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "zeros": bytes(1000),
    "latin-1": changed("name: null", "name: ü").encode("latin1"),
    "utf-16": STORED.encode("utf16"),
    "two documents": f"{STORED}---\n{STORED}",
    "a key twice": STORED + "seed: 1\n",
    "an inner key twice": changed("  epochs: 10", "  epochs: 10\n  epochs: 20"),
    "no choices": STORED.split("choices:")[0],
    "a bomb": BOMB + STORED,
    "a bomb in a list": BOMB + changed("tags: []", "tags: *j"),
    "it holds itself": changed("tags: []", "tags: &t [*t]"),
    "a key that is a list": STORED + "? [a, b]\n: 1\n",
    "a key that is a number": STORED + "1: 2\n",
    "an inner key that is a number": changed("benchmark:\n", "benchmark:\n  1: 2\n"),
    "a key that is a date": changed("strategy:\n", "strategy:\n  2020-01-01: 2\n"),
    "a date": changed("seed: 0", "seed: 2020-01-01"),
    "no date": changed("name: null", "name: 2020-13-41"),
    "an endless number": changed("seed: 0", f"seed: {'9' * 5000}"),
    "not a number": changed("seed: 0", "seed: .nan"),
    "bytes": changed("name: null", "name: !!binary aGVsbG8="),
    "a set": changed("tags: []", "tags: !!set {a, b}"),
    "NUL": changed("name: null", r'name: "a\0b"'),
    "half a character": changed("name: null", r'name: "\ud800"'),
    "a control character": changed("name: null", "name: \x07"),
    "a terminal's colours": changed("seed: 0", r'seed: "\e[31mx\ny\nz\nw"'),
    "code": changed("name: null", "name: !!python/object/apply:os.system ['touch pwned']"),
    "a module": "!!python/module:os {}\n",
    "a tag": changed("name: null", "name: !mine 1"),
    "no anchor": changed("name: null", "name: *nowhere"),
    "nothing to merge": STORED + "<<: 5\n",
    "a cycle": changed("seed: 0", "seed: ${seed}"),
    "a cycle of two": changed("name: null", "name: ${tags}").replace("tags: []", "tags: ['${name}']"),
    "to nowhere": changed("seed: 0", "seed: ${nope}"),
    "half an interpolation": changed("name: null", "name: '${'"),
    "a group that is a number": STORED[: STORED.index("benchmark:")]
    + "benchmark: 5\n"
    + STORED[STORED.index("model:") :],
    "a path for an option": STORED.replace("  strategy: er", "  strategy: ../../er"),
    "lists in lists": changed("tags: []", "tags: " + "[" * DEEP + "]" * DEEP),
    "lists without an end": "[" * DEEP,
    "mappings in mappings": "{a: " * DEEP + "1" + "}" * DEEP,
    "points within points": "- " * DEEP + "1",
    "ever deeper": "".join(" " * depth + "a:\n" for depth in range(1000)),
}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_a_stored_configuration_that_is_none(refused: Refused, written: Any, what: str) -> None:
    file = written("config.yaml", WRONG_FILES[what])
    assert len(refused(["--from", str(file)])) < 1000
    assert "pwned" not in {path.name for path in Path().iterdir()}


BEHIND = [
    "nope=1", "seed=x", "strategy=lwf", "seed=", "seed='", "benchmark=null", "=1", "+seed.x=1", "seed=${nope}",
    "seed=1,2", "trainer.epochs=0", "--nope", "tags=" + "[" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("word", BEHIND, ids=[word[:12] for word in BEHIND])
def test_what_is_typed_behind_a_stored_configuration(refused: Refused, written: Any, word: str) -> None:
    refused(["--from", str(written("config.yaml", STORED)), word])


# --- clx -cd ---------------------------------------------------------------------------------------------------


@given(damaged(OPTION))
@settings(max_examples=50)
def test_an_option_of_ones_own_that_is_damaged(judged: Judged, written: Any, content: bytes) -> None:
    folder = written("own/strategy/mine.yaml", content).parent.parent
    assume(judged(["-cd", str(folder), "strategy=mine"]) is not None)


@pytest.mark.parametrize("what", [what for what in WRONG_FILES if STORED[-50:] not in str(WRONG_FILES[what])])
def test_an_option_of_ones_own_that_is_none(refused: Refused, written: Any, what: str) -> None:
    folder = written("own/strategy/mine.yaml", WRONG_FILES[what]).parent.parent
    refused(["-cd", str(folder), "strategy=mine"])


HEADS = [
    "defaults: 5", "defaults: [nope]", "defaults: [override /buffer: nope]", "defaults: {a: b}", "defaults: [mine]",
    "defaults: ['${nope}']", "defaults: [{a: [1, {b: c}]}]", "defaults: [override /strategy: er]", "hydra: 5",
    'hydra: {run: {dir: "a\\0b"}}', "hydra: {nope: 1}", "seed: x", "trainer: 5", "nope: 1", "strategy: er",
]  # fmt: skip


@pytest.mark.parametrize("head", [*HEADS, BOMB], ids=[*HEADS, "a bomb"])
def test_an_option_of_ones_own_that_asks_for_what_is_not(refused: Refused, written: Any, head: str) -> None:
    option = f"# @package _global_\n{head}\n" + OPTION[OPTION.index("buffer:\n") :].replace("strategy:", "model:")
    folder = written("own/strategy/mine.yaml", option).parent.parent
    refused(["-cd", str(folder), "strategy=mine"])


# --- runs ------------------------------------------------------------------------------------------------------

MATRIX = [[None, None], [1.0, None], [0.5, 1.0]]
METRICS = {"average_accuracy": 0.75, "average_incremental_accuracy": 0.875, "forgetting": 0.5,
           "backward_transfer": -0.5, "forward_transfer": None, "learning_accuracy": 1.0}  # fmt: skip
RESULT = {
    "schema": 1, "benchmark": "split_digits", "strategy": "er", "seed": 0, "metrics": METRICS, "task_aware": METRICS,
    "accuracy_matrix": MATRIX, "task_aware_accuracy_matrix": MATRIX, "cost": dict.fromkeys(COSTS, 1.5),
}  # fmt: skip
STATUS = {"state": "finished", "reason": None, "started": "2024-01-01T00:00:00+00:00",
          "ended": "2024-01-01T00:01:00+00:00", "pid": 1, "host": "here"}  # fmt: skip
ENVIRONMENT = {
    "versions": {"python": "3.12.0", "torch": "2.11.0"}, "commit": None, "source": {"clx": "0a1b"}, "device": "cpu",
    "machine": {"cpu": "one", "cores": 2}, "torch": {"blas": "mkl"}, "flags": {"deterministic": False}, "variables": {},
    "device_name": "one", "threads": 1, "seed": 0, "stream": {"classes": [[0, 1], [2, 3]], "order": [0, 1, 2, 3]},
}  # fmt: skip
FILES = {
    "config.yaml": STORED,
    "status.json": json.dumps(STATUS, indent=1),
    "result.json": json.dumps(RESULT, indent=1),
    "environment.json": json.dumps(ENVIRONMENT, indent=1),
}


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A folder of two finished runs, `good` and `bad`."""
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        for file, text in FILES.items():
            (tmp_path / name / file).write_text(text)
    (tmp_path / "good/config.yaml").write_text(STORED.replace("seed: 0", "seed: 1", 1))
    yield tmp_path
    shutil.rmtree(tmp_path)


def put(folder: Path, name: str, content: str | bytes) -> None:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf8", "surrogatepass"))


def looked_at(typed: Typed, runs: Path) -> tuple[int | None, str]:
    """What becomes of looking at the runs; (exit code, what is said) of comparing them."""
    good, bad = str(runs / "good"), str(runs / "bad")
    for words in (["show", bad], ["resume", bad], ["show", "--diff", good, bad]):
        code, _, err = typed(words)  # show says what is known before it says what is not
        assert code in (0, 2, None)
        assert (code == 2) == err.startswith("clx: ")
        assert len(err.splitlines()) <= 3
    code, _, err = typed(["compare", str(runs)])
    assert code == 0
    return code, err


@given(st.sampled_from(sorted(FILES)).flatmap(lambda name: st.tuples(st.just(name), damaged(FILES[name]))))
@settings(max_examples=80)
def test_a_run_whose_files_are_damaged(typed: Typed, runs: Path, damage: tuple[str, bytes]) -> None:
    name, content = damage
    before = (runs / "bad" / name).read_bytes()
    put(runs / "bad", name, content)
    looked_at(typed, runs)
    put(runs / "bad", name, before)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize(
    "content", ["", "[" * DEEP, "{a: " * DEEP, "5", "null", "[]", "{}", '"x"', b"\xff\xfe\x00", '{"schema": 1}', BOMB],
    ids=["empty", "deep", "deeper", "5", "null", "list", "mapping", "text", "bytes", "schema", "bomb"],
)  # fmt: skip
def test_a_run_whose_files_are_none(typed: Typed, runs: Path, name: str, content: str | bytes) -> None:
    put(runs / "bad", name, content)
    _, said = looked_at(typed, runs)
    assert ("left out" in said and "bad" in said) == (name in ("config.yaml", "result.json"))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=80)
def test_a_run_with_values_of_another_kind(typed: Typed, runs: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["result.json", "status.json", "environment.json"]))
    content: Any = json.loads(FILES[name])
    node = content
    for _ in range(data.draw(st.integers(0, 2))):
        inner = [value for value in node.values() if isinstance(value, dict) and value]
        node = data.draw(st.sampled_from(inner)) if inner else node
    node[data.draw(st.sampled_from(sorted(node)))] = data.draw(ANY_JSON)
    put(runs / "bad", name, json.dumps(content))
    looked_at(typed, runs)
    put(runs / "bad", name, FILES[name])
