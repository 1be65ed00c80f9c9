"""Whatever is broken in what is typed ends the same way: exit code 2, a line or two, nothing written."""

from __future__ import annotations

import dataclasses
import re
import string
import typing
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from clx.cli import VERBS
from clx.command.list import GROUPS, options
from clx.config import LIST_GROUPS, RunConfig, TrainerConfig, compose, plain
from clx.store.identity import flatten
from clx.validation import AT_LEAST, ONE_OF

Refused = Callable[[list[str]], str]

# --- what there is to break ------------------------------------------------------------------------------------

CHOICES = [
    (group, option)
    for group in GROUPS
    for option in options(group)
    if group != "experiment" and not group.startswith("hydra/")
]


def leaves() -> list[tuple[tuple[str, ...], str, Any]]:
    """(words that choose, key, default) of every key of every option, and of the top level and trainer."""
    base = flatten(plain(compose([])))
    tops = {field.name for field in dataclasses.fields(RunConfig)} & {key.split(".")[0] for key in base} - {
        group.split("/")[0] for group, _ in CHOICES
    }
    found = [((), key, value) for key, value in base.items() if key.split(".")[0] in tops]
    for group, option in CHOICES:
        prefix = group.replace("/", ".") + "."
        config = flatten(plain(compose([f"{group}={option}"])))
        found += [((f"{group}={option}",), k, v) for k, v in config.items() if k.startswith(prefix)]
    return [entry for entry in found if not re.search(r"\._\w+_$", entry[1])]


LEAVES = leaves()
KEYS = {key for _, key, _ in LEAVES}
NODES = {".".join(key.split(".")[:n]) for key in KEYS for n in range(1, key.count(".") + 1)}
HINTS = typing.get_type_hints(RunConfig) | {f"trainer.{k}": v for k, v in typing.get_type_hints(TrainerConfig).items()}
NOT_NULL = sorted(k for k in HINTS if k in KEYS and type(None) not in (*typing.get_args(HINTS[k]), HINTS[k])
                  and HINTS[k] is not Any)  # fmt: skip
LETTERS = string.ascii_lowercase + "_"


@st.composite
def misspelled(draw: st.DrawFn, word: str) -> str:
    """The word after one to three edits."""
    letters = list(word)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(letters) - 1))
        edit = draw(st.sampled_from(["drop", "double", "swap", "insert", "replace"]))
        if edit == "drop" and len(letters) > 2:
            del letters[place]
        elif edit == "double":
            letters.insert(place, letters[place])
        elif edit == "swap":
            letters[place - 1], letters[place] = letters[place], letters[place - 1]
        elif edit == "insert":
            letters.insert(place, draw(st.sampled_from(LETTERS)))
        else:
            letters[place] = draw(st.sampled_from(LETTERS))
    return "".join(letters)


# --- A: what is typed ------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=100)
def test_misspelled_keys(refused: Refused, data: st.DataObject) -> None:
    choose, key, _ = data.draw(st.sampled_from(LEAVES))
    wrong = data.draw(misspelled(key))
    assume(wrong not in KEYS | NODES | set(GROUPS) and not wrong.startswith("hydra"))
    plus = "" if "." in wrong else data.draw(st.sampled_from(["", "+", "++", "~"]))
    refused([*choose, f"{plus}{wrong}" if plus == "~" else f"{plus}{wrong}=1"])


@given(st.data())
@settings(max_examples=60)
def test_unknown_options(refused: Refused, data: st.DataObject) -> None:
    group, option = data.draw(st.sampled_from(CHOICES))
    no_names = ["", "null", "1", "1.5", "true", "[[a]]", "{a: b}", "${nope}"]
    paths = ["../x", f"{option}.yaml", f"../{group}/{option}", f"/{option}"]
    wrong = data.draw(misspelled(option) | st.sampled_from([*no_names, *paths]))
    assume(wrong not in options(group))
    error = refused([f"{group}={wrong}"])
    assert group in error


def wrong_values(key: str, default: Any) -> list[str]:
    """Values that the key cannot take, as its default says what it can."""
    found = ["{a: 1}", "{a: {b: [c]}}", "[[[1]]]"]
    if not isinstance(default, str | None | list):
        found += ["abc", "''", "[]", "[1, 2]", "nan", "inf", "-inf", "'1 2'", "1e400"]
    if isinstance(default, bool):
        found += ["maybe", "1.5", "2x"]
    elif isinstance(default, int | float):
        found += [str(10**30), str(-(10**30)), "9" * 5000]
    if HINTS.get(key) is int:
        found += ["1.5", "0.1e1"]
    if isinstance(default, list):
        found += ["abc", "1.5", "true"]
    return found + (["null"] if key in NOT_NULL else [])


@given(st.data())
@settings(max_examples=130)
def test_values_of_the_wrong_type(refused: Refused, data: st.DataObject) -> None:
    choose, key, default = data.draw(st.sampled_from(LEAVES))
    wrong = data.draw(st.sampled_from(wrong_values(key, default)))
    assume((key, wrong) not in HARMLESS)
    error = refused([*choose, f"{key}={wrong}"])
    assert key.split(".")[0] in error


HARMLESS = {("tags", "[[[1]]]")}  # a tag may be called anything
OUT_OF_RANGE = [f"{key}={least - 1}" for key, least in AT_LEAST.items()]
OUT_OF_RANGE += [f"{key}=other" for key in ONE_OF]
OUT_OF_RANGE += [
    "trainer.clip_norm=0", "trainer.clip_norm=-1", "trainer.num_threads=999999999", "trainer.checkpoint_every=0",
    "trainer.checkpoint_every=-1", "trainer.checkpoint_every=1x", "trainer.checkpoint_every=soon",
    "trainer.device=gpu", "trainer.device=cuda:", "trainer.device=cuda:x", "trainer.validate_only_first=2",
    "objective=accuracy", "objective=[]", "objective=[forgetting,x]", "objective=null", "data_root=", "output_root=",
    "output_root=' '", "hydra.run.dir=", "optimizer.lr=-1", "optimizer.momentum=-1", "buffer.capacity=-1",
    "model.hidden_size=0", "model.hidden_size=999999999999", "model.drop_rate=2", "benchmark.num_experiences=0",
    "benchmark.num_experiences=11", "benchmark.init_classes=11", "benchmark.validation_fraction=1.5",
    "benchmark.class_order=[0,1]", "benchmark.class_order=[0,1,2,3,4,5,6,7,8,8]", "benchmark.scenario=online",
    "benchmark.samples_per_class=0", "benchmark.image_size=-1", "benchmark.channels=0", "benchmark.task_labels=[1]",
    "benchmark.augment=[fog]", "trusted_packages=[os]", "trusted_packages=[1]", "strategy.replay_size=-1",
    "strategy._target_=os.system", "strategy._target_=clx.strategy.er.Nothing", "strategy._target_=",
]  # fmt: skip


@given(st.sampled_from(OUT_OF_RANGE))
@settings(max_examples=len(OUT_OF_RANGE))
def test_values_out_of_range(refused: Refused, word: str) -> None:
    error = refused([word])
    assert re.split(r"[.=]", word)[0] in error


OPENED = [
    "'",
    '"',
    "[",
    "{",
    "(",
    "${",
    "[[",
    "{a:",
    "[1,",
    "{a: [",
    "range(1,",
    "choice(",
    "${oc.env:",
    "'\\'",
    "]",
    "}",
]


@given(
    st.sampled_from(sorted(KEYS)),
    st.sampled_from(OPENED),
    st.text(string.ascii_letters + string.digits + "_.-", max_size=8),
    st.sampled_from(["", "-m"]),
)
@settings(max_examples=70)
def test_what_is_opened_is_closed(refused: Refused, key: str, opened: str, text: str, flag: str) -> None:
    assert "cannot be read" in refused([*flag.split(), f"{key}={opened}{text}"])


# None of these is a digit, so none of these is an integer.
NO_NUMBER = st.text(st.characters(exclude_categories=("Nd", "Cs")), min_size=1, max_size=12)


@given(NO_NUMBER)
@example("\x1b[31m")
@example("\u2028a\u2028b\u2028c")
@example("\ud800")
@example("\r\n\r\n\r\n")
@settings(max_examples=60)
def test_any_text_for_an_integer(refused: Refused, text: str) -> None:
    assert "seed" in refused([f"seed={text}"])


@given(NO_NUMBER)
@settings(max_examples=40)
def test_any_text_for_a_key(refused: Refused, text: str) -> None:
    assume(text not in KEYS | NODES | set(GROUPS) and not text.startswith("-") and text not in VERBS)
    refused([f"{text}=1" if "=" not in text else text])


@given(st.sampled_from(sorted(KEYS)), st.sampled_from(["+{}=1", "~{}=other", "+{}", "{}", "{}.a=1", "{}@x=1", "{}==1"]))
@settings(max_examples=60)
def test_prefixes_and_signs_misused(refused: Refused, key: str, form: str) -> None:
    present = flatten(plain(compose(["logger=none"]))).get(key) is not None  # + sets what is null
    assume(present or not form.startswith("+{}="))
    refused([form.format(key)])


NEEDED = [
    "seed", "name", "tags", "data_root", "output_root", "rerun", "objective", "trusted_packages", "trainer",
    "benchmark", "model", "strategy", "optimizer", "logger", "buffer", "trainer.epochs", "benchmark.data",
]  # fmt: skip
CONTRADICTIONS = [
    "+benchmark=split_mnist", "++strategy=er", "+strategy=er", "=", "=1", "~", "+", "++=1", "@=er", "strategy@x=er",
    "strategy/=er", "/strategy=er", "~strategy=lwf", "regularizer=[lwf,lwf]", "regularizer=[lwf,none]",
    "logger=[console,console]", "benchmark.num_experiences=4 benchmark.classes_per_experience=2", "hydra.mode=MULTIRUN",
    "hydra.nope=1", "hydra.searchpath=[nope]", "hydra/launcher=nope", "hydra.run.dir=[]", "hydra.callbacks=1",
]  # fmt: skip


@given(st.sampled_from([*(f"~{key}" for key in NEEDED), *CONTRADICTIONS]))
@settings(max_examples=50)
def test_what_a_run_needs(refused: Refused, words: str) -> None:
    refused(words.split(" "))


@given(st.data())
@settings(max_examples=50)
def test_interpolations_to_nowhere(refused: Refused, data: st.DataObject) -> None:
    choose, key, _ = data.draw(st.sampled_from(LEAVES))
    broken = [
        "${nope}", "${nope.a.b}", f"${{{key}}}", "${oc.env:CLX_NOPE}", "${nope:1}", "${run_folder:}", "a${nope}b",
        "${oc.decode:'{'}", "${.....a}", "${hydra:nope}", "${oc.select:${nope}}", "${unless:1}",
    ]  # fmt: skip
    refused([*choose, f"{key}={data.draw(st.sampled_from(broken))}"])


MUCH = "x" * 100_000
LONG = [
    MUCH, f"{MUCH}=1", f"seed={MUCH}", f"strategy={MUCH}", f"model/head={MUCH}", f"--{MUCH}", f"+{MUCH}=1", f"~{MUCH}",
    f"output_root={MUCH}", f"hydra.run.dir={MUCH}", "name=${" + MUCH + "}", "a." * 20_000 + "b=1",
    "seed=" + "1" * 5_000, "seed=" + "[" * 3_000,
    "seed=" + "[" * 500 + "]" * 500, "seed=" + "{a:" * 500 + "1" + "}" * 500,
]  # fmt: skip


@pytest.mark.parametrize("word", LONG, ids=range(len(LONG)))
def test_very_long_words(refused: Refused, word: str) -> None:
    refused([word])


@given(st.data())
@settings(max_examples=40)
def test_several_where_one_is_wanted(refused: Refused, data: st.DataObject) -> None:
    group, option = data.draw(st.sampled_from([c for c in CHOICES if c[0] not in LIST_GROUPS]))
    other = data.draw(st.sampled_from(options(group)))
    assume(other != option)
    form = data.draw(st.sampled_from(["{}=[{},{}]", "{}={},{}", "{0}=choice({1},{2})", "{}=[{}, {}, nope]"]))
    error = refused([form.format(group, option, other)])
    assert "-m" in error


@given(st.data())
@settings(max_examples=15)
def test_a_sweep_whose_third_job_is_broken(refused: Refused, data: st.DataObject) -> None:
    key, good, bad = data.draw(st.sampled_from([
        ("seed", "1,2", "x"), ("seed", "1,2", "-1"), ("trainer.epochs", "1,2", "0"), ("strategy", "er,lwf", "erx"),
        ("optimizer.lr", "0.1,0.2", "fast"), ("buffer", "ring,random", "rong"), ("model.hidden_size", "8,16", "0"),
        ("seed", "1,2", "[1]"), ("seed", "1,2", "{a:1}"), ("seed", "1,2", "${nope}"), ("seed", "1,2", str(10**30)),
        ("regularizer", "lwf,none", "[lwf,lwf]"), ("trainer.device", "cpu,auto", "tpu"), ("strategy", "er,lwf", "''"),
    ]))  # fmt: skip
    more = data.draw(st.sampled_from([[], ["rerun=true"], ["tags=[a]"], ["benchmark=synthetic"]]))
    words = data.draw(st.permutations(["-m", f"{key}={good},{bad}", *more]))
    error = refused(words)
    assert "job 3 of 3" in error


COMMANDS = [
    "-m seed=range(0,3,0)", "-m seed=range(a,b)", "-m seed=interval(0,1)", "-m seed=choice()", "-m seed=glob(*)",
    "-m strategy=glob(zzz*)", "-m seed=1,x hydra/launcher=nope", "-m hydra.sweeper=null seed=0,1",
    "-m hydra.launcher=null seed=0,1", "-m hydra.sweeper.max_batch_size=-1 seed=0,1", "-m hydra/sweeper=nope",
    "-m hydra.sweeper.params={a:1}", "-m hydra.sweep.dir=${nope} seed=0,1", "-m hydra.sweep.subdir= seed=0,1",
    "-m nope=1,2", "-m seed=1,2 +nope=1", "--cfg nope", "--cfg job nope=1", "--cfg job --package nope", "--resolve",
    "--cfg job --resolve name=${nope}", "--package seed", "--config-name nope", "--config-path nope", "-cd", "-cd nope",
    "--experimental-rerun x", "-sc", "-sc nope", "-sc install=nope", "--info nope", "--shell-completion seed=1",
    "compare --nope", "compare nope", "compare --by", "show", "show nope", "resume", "resume nope seed=1", "--from",
    "--from nope seed=x", "list nope", "list strategy nope", "list a b c", "data nope", "data check nope",
    "report nope", "export nope", "export nope --format torch",
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_sweeps_flags_and_verbs(refused: Refused, words: str) -> None:
    refused(words.split(" "))


@given(st.sampled_from(sorted(VERBS)), st.data())
@settings(max_examples=30)
def test_misspelled_verbs_and_flags(refused: Refused, verb: str, data: st.DataObject) -> None:
    wrong = data.draw(misspelled(verb.strip("-")))
    assume(wrong not in VERBS)
    dashes = data.draw(st.sampled_from(["", "--"]))
    assume(
        not dashes or not any(flag.startswith(wrong) for flag in ("help", "hydra-help", "multirun", "run", "version"))
    )
    refused([dashes + wrong])
