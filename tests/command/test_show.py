"""clx show, and clx show --diff: where two runs differ, where their numbers part, and the likely reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clx.cli import VERBS, main
from clx.command.help import COMMANDS, complete
from clx.store.diff import ABSENT, differing, narrowed, parting
from clx.store.printable import printable
from clx.store.reason import apart

HEADER = "step,experience,phase,epoch,name,value\r\n"
ROWS = [
    "0,0,eval,,accuracy/0,0.25",
    "250,0,train,3,loss/ce,0.5123456789",
    "250,0,train,3,train_accuracy,0.75",
    "250,0,eval,,accuracy/0,0.5",
]
CONFIG = {
    "choices": {"benchmark": "split_digits", "strategy": "er", "logger": ["console"]},
    "seed": 0,
    "output_root": "outputs",
    "trainer": {"epochs": 4, "device": "auto", "num_threads": None, "deterministic": False},
    "benchmark": {"class_order": list(range(40))},
    "buffer": {"capacity": 100},  # of `none`: decides nothing
}
ENVIRONMENT = {
    "versions": {"python": "3.11.7", "torch": "2.13.0", "rich": "15.0.0"},
    "commit": "abc",
    "source": {"clx": "11111111"},
    "machine": {"cpu": "A", "cores": 8, "usable_cores": 2},
    "flags": {"deterministic_algorithms": False},
    "variables": {},
    "device": "cpu",
    "device_name": "cpu",
    "threads": 1,
    "seed": 0,
    "stream": {"classes": [[0, 1], [2, 3]], "order_seed": 0, "data": "aa-bb"},
}
COST = {"train_seconds": 2.0, "eval_seconds": 1.0, "total_seconds": 3.0, "samples_per_second": 10.0}
COST |= {"peak_memory_bytes": 3 * 2**20, "parameters": 7, "buffer_bytes": 2**19}
MATRIX = [[0.25, None], [0.5, None], [0.375, 0.75]]
SAME = "No difference found: same configuration, environment and numbers."
PARTS = "they part at step 250 (loss/ce 0.5123 / 0.5124)"
COMMON = f"Same configuration and stream; {PARTS}"
UNREPEATED = (
    f"Same configuration and stream, and the same environment, yet {PARTS}: something did not repeat itself; "
    "trainer.deterministic=true asks for what does."
)
Make = Callable[..., str]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The same with dotted keys changed; None = without them."""
    copy = json.loads(json.dumps(base))
    for key, value in changes.items():
        *above, last = key.split(".")
        node = copy
        for part in above:
            node = node[part]
        if value is None:
            del node[last]
        else:
            node[last] = value
    return copy


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """make(name, config={...}, environment={...}, status={...}, rows=..., matrix=...): a finished run's folder."""
    monkeypatch.chdir(tmp_path)

    def made(
        name: str, *, rows: list[str] = ROWS, matrix: object = MATRIX, aware: object = MATRIX, **changes: dict[str, Any]
    ) -> str:
        folder = Path(name)
        folder.mkdir()
        status = {"state": "finished", "reason": None, "started": "then", "ended": "later"}
        status |= changes.get("status", {})
        result = {"schema": 1, "accuracy_matrix": matrix, "task_aware_accuracy_matrix": aware, "cost": COST}
        (folder / "config.yaml").write_text(yaml.safe_dump(merged(CONFIG, changes.get("config", {}))))
        (folder / "environment.json").write_text(json.dumps(merged(ENVIRONMENT, changes.get("environment", {}))))
        (folder / "status.json").write_text(json.dumps(status))
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "metrics.csv").write_text(HEADER + "".join(f"{row}\r\n" for row in rows), newline="")
        return name

    return made


@pytest.fixture
def diff(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """diff(a, b): what --format json says."""

    def said(first: str, second: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["show", "--diff", first, second, "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    return said


def changed(row: int, value: str) -> list[str]:
    return [f"{line.rsplit(',', 1)[0]},{value}" if n == row else line for n, line in enumerate(ROWS)]


PARTED = changed(1, "0.5123999")


# --- the sections ------------------------------------------------------------------------------------------------


def test_the_same_run_twice(make: Make, diff: Any) -> None:
    said = diff(make("a"), make("b"))
    assert said["reason"] == SAME
    assert said["configuration"] == {"deciding": {}, "other": {}}
    assert said["environment"] == said["stream"] == {}
    assert said["outcome"]["identical"] is True
    assert said["outcome"]["metrics_csv"] == {"same_rows": 4, "first": None, "second": None}
    assert said["outcome"]["matrix"] is None


def test_configuration_deciding_apart_from_the_rest(make: Make, diff: Any) -> None:
    """Of the options, benchmark and strategy decide. A key of `none` does not, nor does a logger."""
    order = [*range(30), 31, 30, *range(32, 40)]
    changes = {
        "trainer.epochs": 5,
        "benchmark.class_order": order,
        "trainer.device": "cpu",
        "output_root": "elsewhere",
        "buffer.capacity": 7,
        "choices.strategy": "lwf",
        "choices.logger": "none",
        "seed": 3,
    }
    said = diff(make("a"), make("b", config=changes))
    assert said["configuration"] == {
        "deciding": {
            "seed": {"first": 0, "second": 3},
            "trainer.epochs": {"first": 4, "second": 5},
            "benchmark.class_order[30]": {"first": 30, "second": 31},
            "choices.strategy": {"first": "er", "second": "lwf"},
        },
        "other": {
            "output_root": {"first": "outputs", "second": "elsewhere"},
            "trainer.device": {"first": "auto", "second": "cpu"},
            "buffer.capacity": {"first": 100, "second": 7},
        },
    }
    assert said["reason"].startswith("Different configurations (")
    assert said["reason"].endswith("and 1 more); the numbers are identical, bit for bit.")


def test_outcome_says_where_the_numbers_part(make: Make, diff: Any) -> None:
    other = [[0.25, None], [0.5, None], [0.375, 0.5]]
    outcome = diff(make("a"), make("b", rows=PARTED, matrix=other))["outcome"]
    assert outcome["identical"] is False
    place = {"step": "250", "experience": "0", "phase": "train", "epoch": "3", "name": "loss/ce"}
    assert outcome["metrics_csv"] == {
        "same_rows": 1,
        "first": place | {"value": "0.5123456789"},
        "second": place | {"value": "0.5123999"},
    }
    assert outcome["matrix"] == {"after": 2, "test_set": 1, "first": 0.75, "second": 0.5}
    # (0.375 + 0.75) / 2 and (0.375 + 0.5) / 2
    assert outcome["numbers"]["average_accuracy"] == {"first": 0.5625, "second": 0.4375, "difference": -0.125}
    assert outcome["numbers"]["cost/parameters"] == {"first": 7, "second": 7, "difference": 0}


def test_the_table_says_the_same_as_json(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"threads": 2, "stream.classes": [[1, 0], [2, 3]]}
    first, second = make("a"), make("b", rows=PARTED, environment=environment, config={"trainer.epochs": 5})
    assert main(["show", "--diff", first, second]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "first a (finished)",
        "│ trainer.epochs │ 4 │ 5 │",
        "Configuration: does not: no difference",
        "│ threads │ 1 │ 2 │",
        "│ classes │ [[0,1],[2,3]] │ [[1,0],[2,3]] │",
        "│ average_accuracy │ 0.5625 │ 0.5625 │ +0 │",
        "metrics.csv: the same for 1 rows, then",
        "second step 250, experience 0, phase train, epoch 3, name loss/ce, value 0.5123999",
    ):
        assert line in lines
    assert lines[-1] == f"Different configurations (trainer.epochs 4 / 5); {PARTS}."


# --- the sentence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"threads": 2}, f"{COMMON}: threads 1 / 2."),
        (  # the likeliest first; cores alone change nothing
            {"threads": 2, "machine.cpu": "B", "device": "cuda", "versions.torch": "2.12.0", "machine.cores": 4},
            f"{COMMON}: device cpu / cuda, versions.torch 2.13.0 / 2.12.0, threads 1 / 2 and 1 more.",
        ),
        ({"commit": "def", "threads": 2}, f"{COMMON}: threads 1 / 2."),  # the same source
        (
            {"commit": "def", "source.clx": "22222222"},
            f"{COMMON}: source.clx 11111111 / 22222222, commit abc / def.",
        ),
        ({"commit": "def", "source": None}, f"{COMMON}: commit abc / def."),
        (
            {"variables": {"MKL_CBWR": "COMPATIBLE"}},
            f"{COMMON}: variables.MKL_CBWR (absent) / COMPATIBLE.",
        ),
        (
            {"versions.rich": "14.0.0"},
            f"{COMMON}; nothing known that changes numbers differs, only versions.rich 15.0.0 / 14.0.0.",
        ),
        (
            {"stream.data": "aa-cc"},
            f"Same configuration, another stream (data aa-bb / aa-cc); {PARTS}.",
        ),
        (
            {},
            UNREPEATED,
        ),
        (  # what an older run never wrote down is no reason
            {"flags": None, "source": None, "stream.data": None, "variables": None},
            UNREPEATED,
        ),
    ],
)
def test_the_reason_of_runs_that_part(environment: dict[str, Any], sentence: str, make: Make, diff: Any) -> None:
    assert diff(make("a"), make("b", rows=PARTED, environment=environment))["reason"] == sentence


def test_the_reason_of_runs_that_agree(make: Make, diff: Any) -> None:
    first = make("a")
    same = "Same configuration and stream; the numbers are identical, bit for bit, although this differs: "
    assert diff(first, make("b", environment={"threads": 2}))["reason"] == f"{same}threads 1 / 2."
    assert diff(first, make("c", environment={"flags": None}))["reason"] == f"{SAME[:-1]}, as far as both tell."


def test_a_run_that_asked_for_what_repeats_itself_is_told_so(make: Make, diff: Any) -> None:
    wanted = {"trainer.deterministic": True}
    said = diff(make("a", config=wanted), make("b", config=wanted, rows=PARTED))
    assert said["reason"].endswith(": something did not repeat itself, although trainer.deterministic=true.")


def test_a_run_that_goes_less_far(make: Make, diff: Any) -> None:
    """Interrupted: its file ends in half a line, which says nothing."""
    second = make("b", status={"state": "interrupted"}, rows=ROWS[:2])
    (Path(second) / "result.json").unlink()
    with (Path(second) / "metrics.csv").open("a") as file:
        file.write("250,0,train,3,train_acc")
    said = diff(make("a"), second)
    assert said["outcome"]["metrics_csv"]["same_rows"] == 2
    assert said["outcome"]["metrics_csv"]["second"] is None
    assert said["outcome"]["numbers"]["average_accuracy"] == {"first": 0.5625, "second": None, "difference": None}
    assert said["reason"] == (
        "Same configuration and stream, and the same environment; the numbers are the same as far as the second run "
        "goes (interrupted), before step 250."
    )


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("250,0,train,3,loss/distillation,0.5", "they part at step 250 (loss/ce / loss/distillation)"),
        ("200,0,train,3,loss/ce,0.5", "they part at step 250 / 200 (loss/ce / loss/ce)"),
        ("250,0,train,3,loss/ce,0.51234567891", "they part at step 250 (loss/ce 0.512345678900 / 0.512345678910)"),
    ],
)
def test_the_place_where_they_part(row: str, sentence: str, make: Make, diff: Any) -> None:
    assert sentence in diff(make("a"), make("b", rows=[ROWS[0], row]))["reason"]


@pytest.mark.parametrize("which", ["matrix", "aware"])
def test_matrices_that_part_alone(which: str, make: Make, diff: Any) -> None:
    said = diff(make("a"), make("b", **{which: [[0.25, None], [0.5, None], [0.375, 0.8]]}))
    assert "the accuracy matrices part after 2 experiences on test set 2 (0.7500 / 0.8000)" in said["reason"]
    assert said["outcome"]["identical"] is False


# --- what is missing or broken -----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, "{", "[]", '"text"'])
def test_an_environment_that_is_missing_is_not_known(content: str | None, make: Make, diff: Any) -> None:
    first, second = make("a"), make("b", rows=PARTED)
    place = Path(second) / "environment.json"
    place.unlink() if content is None else place.write_text(content)
    said = diff(first, second)
    assert said["environment"] is None
    assert said["stream"] is None
    assert said["reason"] == f"Same configuration; {PARTS}; what the second run ran on is not known."
    assert main(["show", second]) == 0


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n", f"{HEADER}1,2,3\r\n", "\0\xff"])
def test_metrics_that_are_missing_are_not_known(content: str | None, make: Make, diff: Any) -> None:
    first, second = make("a"), make("b")
    place = Path(second) / "metrics.csv"
    place.unlink() if content is None else place.write_text(content, encoding="latin-1", newline="")
    said = diff(first, second)
    assert said["outcome"]["metrics_csv"] is None
    assert said["outcome"]["identical"] is None
    assert "the accuracy matrices are identical, their metrics.csv is not known" in said["reason"]


def test_a_damaged_result_is_said(make: Make, diff: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make("a"), make("b")
    (Path(second) / "result.json").write_text("{")
    said = diff(first, second)
    assert "result.json is not JSON" in said["runs"][1]["problem"]
    assert said["outcome"]["identical"] is None
    assert main(["show", "--diff", first, second]) == 0
    assert "the second run's result is not known: " in capsys.readouterr().out
    assert main(["show", second]) == 2
    assert "result.json is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        ("{", "is not YAML"),
        ("[]", "holds no mapping"),
        ("seed: 0", "does not say benchmark, strategy and seed"),
        ("seed: 0\nchoices: [benchmark, strategy]", "does not say"),
        ("seed: 0\nchoices: {benchmark: split_digits, strategy: [er]}", "does not say"),
        ("choices: {benchmark: split_digits, strategy: er}", "does not say"),
        ("seed: 0\nchoices: {benchmark: split_digits, strategy: er, 1: {}}", "does not say"),
    ],
)
@pytest.mark.parametrize("diffing", [True, False], ids=["diff", "alone"])
def test_a_folder_without_a_run(
    content: str | None, problem: str, diffing: bool, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = make("a"), make("b")
    place = Path(second) / "config.yaml"
    place.unlink() if content is None else place.write_text(content)
    assert main(["show", *(["--diff", first] if diffing else []), second]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("clx: b: no run there (")
    assert problem in said.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("show a b", "clx show: 2 folders given, must be 1; clx show --diff RUN_A RUN_B compares two"),
        ("show --diff a", "clx show --diff: 1 folder given, must be 2: clx show --diff RUN_A RUN_B"),
        ("show a --diff b c", "clx show --diff: 3 folders given, must be 2: clx show --diff RUN_A RUN_B"),
        ("show a --format json", "--format json: goes with --diff alone; one run's numbers are in its result.json"),
        ("show --diff a b --format csv", "clx show: argument --format: invalid choice: 'csv'"),
        ("show", "clx show: the following arguments are required: RUN; see clx show --help"),
    ],
)
def test_mistakes(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"clx: {said}")
    assert len(error.splitlines()) == 1


def test_the_flag_stands_anywhere_and_is_completed(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make("a"), make("b")
    assert main(["show", "a", "--diff", "b"]) == 0
    assert SAME in capsys.readouterr().out
    assert complete("clx show --d", VERBS) == ["--diff"]
    assert complete("clx show --f", VERBS) == ["--format"]
    assert any("clx show --diff" in typed for typed in COMMANDS)


# --- somebody else's text ----------------------------------------------------------------------------------------

EVIL = "[red]x[/red][/nothing] :smile: \x1b[2J\x9b31m\r\n\u202eevil"
PLAIN = r"[red]x[/red][/nothing] :smile: \x1b[2J\x9b31m\r\n\u202eevil"


def test_printable_spells_out_what_steers_a_terminal() -> None:
    assert printable(EVIL) == PLAIN
    assert printable("Größe 日本") == "Größe 日本"
    assert printable("\ud800") == r"\ud800"
    assert printable("x" * 30, longest=10) == "xxxxxxx..."


@pytest.mark.parametrize("diffing", [True, False], ids=["diff", "alone"])
def test_names_are_text_and_no_markup(diffing: bool, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"choices.strategy": EVIL, "trainer.epochs": EVIL, EVIL: EVIL}
    environment = {"commit": EVIL, "device_name": EVIL, "versions": {EVIL: EVIL}, "threads": EVIL}
    rows = changed(1, "0.7\x1b[2J")
    changes = {"config": config, "environment": environment, "status": {"reason": EVIL, "started": EVIL}}
    first, second = make("a"), make("b", rows=rows, **changes)
    assert main(["show", *(["--diff", first] if diffing else []), second]) == 0
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out)
    assert "[red]x[/red]" in out.replace("\n", "")
    assert ":smile:" in out
    for name, content in (("status.json", json.dumps({"state": EVIL})), ("result.json", json.dumps(EVIL))):
        (Path(second) / name).write_text(content)
        assert main(["show", *(["--diff", first] if diffing else []), second]) == 0
        assert "\x1b" not in capsys.readouterr().out


def test_json_holds_what_it_has_no_word_for(make: Make, diff: Any) -> None:
    """Infinite numbers, dates and keys that are no text: valid JSON all the same."""
    first, second = make("a"), make("b")
    with (Path(second) / "config.yaml").open("a") as file:
        file.write("extra: {limit: .inf, day: 2024-05-06, 7: .nan}\n")
    assert diff(first, second)["configuration"]["deciding"] == {
        "extra.limit": {"second": "inf"},
        "extra.day": {"second": "2024-05-06"},
        "extra.7": {"second": "nan"},
    }


# --- the parts ---------------------------------------------------------------------------------------------------


def test_long_lists_are_narrowed_to_the_first_position_that_differs() -> None:
    long = [list(range(784)), list(range(784))]
    other = [long[0], [*range(5), 7, 6, 5, *range(8, 784)]]
    assert narrowed("permutations", long, other) == ("permutations[1][5]", 5, 7)
    assert narrowed("order", list(range(50)), list(range(60))) == ("order: length", 50, 60)
    assert narrowed("order", [1, 2], [2, 1]) == ("order", [1, 2], [2, 1])


def test_differing_knows_absent_from_null_and_nan_from_nan() -> None:
    nan = float("nan")
    assert differing({"a": None, "b": nan, "c": {}}, {"b": nan}) == {"a": (None, ABSENT)}


def test_parting_reads_no_further_than_it_must(tmp_path: Path) -> None:
    """What is broken behind the first difference is never looked at."""
    for name, value in (("a", "1.0"), ("b", "2.0")):
        (tmp_path / name).write_text(f"{HEADER}1,0,train,0,loss/ce,{value}\r\nbroken\r\n", newline="")
    found = parting(tmp_path / "a", tmp_path / "b")
    assert found is not None
    assert (found.rows, found.same_place, found.identical) == (0, True, False)


@pytest.mark.parametrize(
    ("pair", "texts"),
    [
        ((0.5, 0.5), ("0.5000", "0.5000")),
        ((0.51234, 0.51236), ("0.5123", "0.5124")),
        ((0.51234, 0.512341), ("0.51234000", "0.51234100")),
        ((1234567.0, 1234567.25), ("1,234,567.00000000", "1,234,567.25000000")),
        ((None, 0.25), ("-", "0.2500")),
        (("nan", "inf"), ("nan", "inf")),
    ],
)
def test_numbers_are_shown_with_as_many_digits_as_tell_them_apart(pair: Any, texts: tuple[str, str]) -> None:
    assert apart(*pair) == texts


def test_real_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], diff: Any
) -> None:
    """Twice the same command, then another seed."""
    monkeypatch.chdir(tmp_path)
    quick = ["trainer.epochs=1", "model.hidden_size=8", "benchmark.samples_per_class=10", "logger=none"]
    for root, seed in (("one", 0), ("two", 0), ("three", 1)):
        assert main([*quick, f"output_root={root}", f"seed={seed}"]) == 0
    one, two, three = (str(next(Path(root).rglob("config.yaml")).parent) for root in ("one", "two", "three"))
    assert diff(one, two)["reason"] == SAME
    said = diff(one, three)
    assert said["configuration"]["deciding"] == {"seed": {"first": 0, "second": 1}}
    assert said["stream"] == {}
    assert said["reason"].startswith("Different configurations (seed 0 / 1); they part at step ")
