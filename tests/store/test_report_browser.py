"""The report in a real browser: headless Chromium, told what to do through its own debugging pipe.

The pipe (--remote-debugging-pipe: JSON messages, each ended by a zero byte) is the browser's own, so that real keys can
be pressed and a phone's width, paper and dark mode be had without any package.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clx.store.compare import group
from clx.store.records import Record
from clx.store.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
EVIL = "<script>alert(1)</script><b>&amp;</b>"  # plotly reads <b> and &amp; in names
PATIENCE = 30.0  # seconds
KEYS = {"Tab": 9, "Enter": 13, " ": 32}


class Browser:
    """One page of a headless Chromium, and what it reported."""

    def __init__(self, folder: Path) -> None:
        to, back = folder / "to", folder / "back"
        os.mkfifo(to)
        os.mkfifo(back)
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += [f"--user-data-dir={folder / 'profile'}", "about:blank"]
        with (folder / "log").open("wb") as log:
            shell = ["sh", "-c", 'exec "$@" 3<"$0/to" 4>"$0/back"', str(folder), *command]
            self.process = subprocess.Popen(shell, stdout=log, stderr=log)
        self.to, self.back = os.open(to, os.O_WRONLY), os.open(back, os.O_RDONLY)
        self.received, self.events, self.number, self.session = b"", [], 0, None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def close(self) -> None:
        os.close(self.to)  # it ends where nobody is at the other end
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.back)

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.back], [], [], max(until - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            read = os.read(self.back, 2**16)
            assert read, "Chromium has gone"
            self.received += read
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def visit(self, file: Path, width: int = 1280, *, phone: bool = False, **media: str) -> None:
        self.events.clear()
        self("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=phone)
        self("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.media(**media)
        self("Page.navigate", url=file.as_uri())
        self.wait(f"location.href === {json.dumps(file.as_uri())} && document.readyState === 'complete'")

    def media(self, kind: str = "", colours: str = "light", motion: str = "no-preference") -> None:
        features = {"prefers-color-scheme": colours, "prefers-reduced-motion": motion}
        pairs = [{"name": name, "value": value} for name, value in features.items()]
        self("Emulation.setEmulatedMedia", media=kind, features=pairs)

    def ask(self, code: str) -> Any:
        answer = self("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, code: str) -> None:
        until = time.monotonic() + PATIENCE
        while not self.ask(code):
            assert time.monotonic() < until, f"never true: {code}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            typed = {"text": text} if kind == "keyDown" else {}
            code = "Space" if key == " " else key
            self("Input.dispatchKeyEvent", type=kind, key=key, code=code, windowsVirtualKeyCode=KEYS[key], **typed)

    def show_all(self) -> None:
        """Scroll until every figure that is not in a closed part has been drawn."""
        for _ in range(50):
            left = self.ask(
                "(() => { const left = [...document.querySelectorAll('.plot:not([data-drawn])')]"
                ".filter(plot => !plot.closest('details:not([open])'));"
                "left[0]?.scrollIntoView({behavior: 'instant'}); return left.length; })()"
            )
            if not left:
                return
            time.sleep(0.05)
        raise AssertionError(f"{left} figures are not drawn")


def record(benchmark: str, strategy: str, seed: int, last: float, capacity: int) -> Record:
    matrix = [[None, None], [0.8, None], [last, 0.4]]
    cost = {"train_seconds": 2.0 + seed, "peak_memory_bytes": 3 * 2**20}
    choices = {"benchmark": benchmark, "strategy": strategy, "model": "mlp", "optimizer": "sgd", "buffer": "ring"}
    buffer = {"_target_": "ring", "capacity": capacity}
    config = {"choices": choices, "seed": seed, "trainer": {"epochs": 1}, "buffer": buffer}
    result = {"accuracy_matrix": matrix, "task_aware_accuracy_matrix": matrix, "cost": cost}
    return Record(Path("outputs") / strategy / f"{capacity}-{seed}", config, result)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 groups of two seeds on one benchmark, group n the n-th best of capacity 100 n; and a hostile one."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    records = [
        record("split_a", "er", seed, 0.8 - 0.02 * n + 0.01 * seed, 100 * n) for n in range(1, 15) for seed in (0, 1)
    ]
    records.append(record("split_b", EVIL, 0, 0.5, 9))
    keys, groups = group(records, None, "average_accuracy")
    write_report(path, keys, groups, ["average_accuracy", "forgetting"], [(Path(EVIL), EVIL)], EVIL)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


COLUMN = "[...document.querySelectorAll('#groups tbody tr:not([hidden])')].map(row => row.cells[{}].textContent)"
ACTIVE = "document.activeElement"
LEGEND = "document.querySelector('.legend')"
LINES = "document.querySelectorAll('.panel .plot')[0].querySelectorAll('.scatterlayer .lines .js-line').length"


def test_nothing_is_fetched_and_nothing_goes_wrong(browser: Browser, page: Path) -> None:
    browser.visit(page)
    browser.show_all()
    urls = {e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith(("data:", "blob:"))} == {page.as_uri()}
    complaints = (
        "Runtime.exceptionThrown",
        "Runtime.consoleAPICalled",
        "Log.entryAdded",
        "Page.javascriptDialogOpening",
    )
    assert [event for event in browser.events if event["method"] in complaints] == []


def test_the_page_has_no_way_to_send_a_figure_away(browser: Browser, page: Path) -> None:
    browser.visit(page)
    browser.show_all()
    titles = browser.ask("[...new Set([...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title))]")
    assert titles == ["Zoom in", "Zoom out", "Reset axes", "Download plot"]
    refused = (
        "new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        "fetch('http://127.0.0.1:9/').catch(() => setTimeout(done, 500, 'tried')); })"
    )
    assert browser.ask(refused) == "connect-src"


def test_headers_sort_by_keyboard_and_by_mouse(browser: Browser, page: Path) -> None:
    browser.visit(page)
    numbers = [str(n) for n in range(1, 16)]
    assert browser.ask(COLUMN.format(0)) == numbers
    for _ in range(40):
        browser.press("Tab")
        if browser.ask(f"{ACTIVE}.textContent") == "buffer.capacity":
            break
    assert browser.ask(f"getComputedStyle({ACTIVE}).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.ask(f"{ACTIVE}.closest('th').ariaSort") == "ascending"
    ascending = [9, *range(100, 1500, 100)]  # as numbers: 9 before 100, 900 before 1000
    assert [int(text) for text in browser.ask(COLUMN.format(3))] == ascending
    browser.press(" ")
    assert browser.ask(f"{ACTIVE}.closest('th').ariaSort") == "descending"
    assert [int(text) for text in browser.ask(COLUMN.format(3))] == ascending[::-1]
    browser.ask("document.querySelectorAll('#groups th button')[5].click()")
    assert browser.ask("[...document.querySelectorAll('#groups th')].map(th => th.ariaSort).filter(Boolean)") == [
        "descending"
    ]  # accuracy: the largest first
    means = [float(text.split(" ±")[0]) for text in browser.ask(COLUMN.format(5))]
    assert means == sorted(means, reverse=True)


def test_what_has_no_value_sorts_last_either_way(browser: Browser, page: Path) -> None:
    browser.visit(page)
    for _ in range(2):
        browser.ask("document.querySelectorAll('#groups th button')[6].click()")
        assert browser.ask(COLUMN.format(6))[-1] == "-"  # the interval of one seed


def test_filter(browser: Browser, page: Path) -> None:
    browser.visit(page)
    assert browser.ask("document.querySelector('[role=status]').textContent") == "15 of 15 groups"
    browser.ask("document.getElementById('filter').focus()")
    browser("Input.insertText", text="1400 SPLIT_a")
    assert browser.ask(COLUMN.format(3)) == ["1400"]
    assert browser.ask("document.querySelector('[role=status]').textContent") == "1 of 15 groups"
    browser.ask("document.getElementById('filter').select()")
    browser("Input.insertText", text="<script>")
    assert browser.ask(COLUMN.format(2)) == [EVIL]


def test_everything_is_reached_by_tab_and_seen_to_be(browser: Browser, page: Path) -> None:
    browser.visit(page)
    browser.show_all()
    browser.ask("scrollTo({top: 0, behavior: 'instant'}); window.reached = new Set()")
    browser.press("Tab")
    assert browser.ask(f"{ACTIVE}.textContent") == "Skip to the summary"
    assert browser.ask(f"{ACTIVE}.getBoundingClientRect().left") >= 0
    for _ in range(200):
        browser.ask(f"reached.add({ACTIVE})")
        assert browser.ask(f"getComputedStyle({ACTIVE}).outlineStyle") == "solid"
        browser.press("Tab")
        if browser.ask(f"{ACTIVE} === document.body || reached.has({ACTIVE})"):
            break
    missed = (
        "[...document.querySelectorAll('a[href], button, input, summary, .scroll')]"
        ".filter(e => e.checkVisibility() && !e.closest('.modebar') && !reached.has(e)).map(e => e.outerHTML)"
    )
    assert browser.ask(missed) == []


def test_skip_link_leads_to_the_summary(browser: Browser, page: Path) -> None:
    browser.visit(page)
    browser.press("Tab")
    browser.press("Enter")
    browser.wait("location.hash === '#summary'")
    browser.press("Tab")
    assert browser.ask(f"{ACTIVE}.id") == "filter"


def test_legend_shows_and_hides(browser: Browser, page: Path) -> None:
    browser.visit(page)
    browser.show_all()
    pressed = f"{LEGEND}.querySelectorAll('[aria-pressed=true]').length"
    assert (browser.ask(pressed), browser.ask(LINES)) == (12, 24)  # each a line and its band
    browser.ask(f"{LEGEND}.querySelector('[aria-pressed=false]').focus()")
    browser.press("Enter")
    assert (browser.ask(pressed), browser.ask(LINES)) == (13, 26)
    browser.ask(f"{LEGEND}.querySelectorAll('button')[0].click()")
    assert (browser.ask(pressed), browser.ask(LINES)) == (14, 28)
    browser.ask(f"{LEGEND}.querySelectorAll('button')[1].click()")
    assert (browser.ask(pressed), browser.ask(LINES)) == (12, 24)


def test_matrices_are_drawn_when_they_are_opened(browser: Browser, page: Path) -> None:
    browser.visit(page)
    browser.show_all()
    assert browser.ask("document.querySelectorAll('.matrix .plot[data-drawn]').length") == 0
    browser.ask("document.querySelector('.matrix summary').focus()")
    browser.press("Enter")
    browser.wait("document.querySelectorAll('.matrix .heatmaplayer image').length === 1")
    assert browser.ask("document.querySelectorAll('.matrix .plot[data-drawn]').length") == 1
    written = "[...document.querySelectorAll('.matrix .heatmap-label')].map(e => e.textContent).filter(Boolean).sort()"
    # group 1: seeds 0.78 and 0.79, mean 0.785, as two digits; and 0.8, 0.4
    shown = browser.ask(written)
    assert len(shown) == 3
    assert [float(text) for text in shown] == pytest.approx([0.40, 0.785, 0.80], abs=0.006)


def test_numbers_of_a_figure(browser: Browser, page: Path) -> None:
    browser.visit(page)
    browser.ask("[...document.querySelectorAll('.numbers')].forEach(details => { details.open = true; })")
    browser.wait("document.querySelectorAll('.numbers table').length === document.querySelectorAll('.numbers').length")
    first = "[...document.querySelector('.numbers tbody tr').cells].map(cell => cell.textContent)"
    # (0.785 + 0.4) / 2 = 0.5925 -+ 12.706 * 0.0025
    assert browser.ask(first) == ["1: er 100", "0.800 ± 0.000", "0.593 ± 0.032"]
    cost = "[...document.querySelectorAll('#costs ~ .panel .numbers tbody tr')].at(-1)"
    values = browser.ask(f"[...{cost}.cells].map(cell => cell.textContent)")
    assert values == [f"15: {EVIL} 9", "0.450", "2.0", "3.0"]


def test_a_hostile_name_is_text_in_a_figure_too(browser: Browser, page: Path) -> None:
    browser.visit(page)
    browser.show_all()
    browser.ask("window.plot = document.querySelectorAll('#curves ~ .panel .plot')[1]; 0")
    browser.ask("Plotly.Fx.hover(plot, [{curveNumber: 1, pointNumber: 1}])")
    assert browser.ask("plot.querySelector('.hoverlayer').textContent").startswith(f"15: {EVIL} 9")
    assert browser.ask("document.scripts.length") == 3


def test_on_a_phone_only_the_tables_scroll_sideways(browser: Browser, page: Path) -> None:
    browser.visit(page, 390, phone=True)
    browser.show_all()
    browser.ask("[...document.querySelectorAll('details')].forEach(details => { details.open = true; })")
    browser.show_all()
    widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth, innerWidth]"
    assert browser.ask(widths) == [390, 390, 390]
    assert browser.ask("(box => box.scrollWidth > box.clientWidth)(document.querySelector('.scroll'))")
    wide = "[...document.querySelectorAll('.plot')].filter(plot => plot.scrollWidth > plot.clientWidth).length"
    assert browser.ask(wide) == 0
    assert browser.ask("[...document.querySelectorAll('.plot')].every(plot => plot.layout.dragmode === false)")


COLOURS = {"light": ("rgb(255, 255, 255)", "rgb(27, 31, 36)"), "dark": ("rgb(20, 24, 29)", "rgb(230, 233, 237)")}
TICK = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
PAGE = "getComputedStyle(document.documentElement).backgroundColor"


def test_figures_follow_the_colours_of_the_system(browser: Browser, page: Path) -> None:
    browser.visit(page, colours="dark")
    browser.show_all()
    for colours in ("dark", "light", "dark"):
        browser.media(colours=colours)
        ground, text = COLOURS[colours]
        browser.wait(f"{TICK} === '{text}'")
        assert browser.ask(PAGE) == ground
        assert browser.ask("getComputedStyle(document.querySelector('.plot .main-svg')).backgroundColor") in (
            "rgba(0, 0, 0, 0)",
            "transparent",
        )


def test_on_paper_it_is_dark_on_light_and_fits(browser: Browser, page: Path) -> None:
    browser.visit(page, colours="dark")
    browser.show_all()
    before = browser.ask("document.querySelector('.plot .main-svg').clientWidth")
    browser.media(kind="print", colours="dark")
    browser.wait(f"{TICK} === '{COLOURS['light'][1]}'")
    assert browser.ask(PAGE) == COLOURS["light"][0]
    assert not browser.ask("document.querySelector('nav').checkVisibility()")
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    assert browser.ask("document.querySelector('.plot .main-svg').clientWidth") == 680
    browser.media(colours="dark")
    browser.ask("dispatchEvent(new Event('afterprint'))")
    browser.wait(f"document.querySelector('.plot .main-svg').clientWidth === {before}")


def test_no_motion_for_those_who_want_none(browser: Browser, page: Path) -> None:
    for motion, behaviour in (("no-preference", "smooth"), ("reduce", "auto")):
        browser.visit(page, motion=motion)
        assert browser.ask("getComputedStyle(document.documentElement).scrollBehavior") == behaviour
