"""The pages in a real browser without a network: nothing asked for, nothing wrong, nothing cut off, and tables that sort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from pages import add, fail, floor, job

from kernelsr.report import write_report
from kernelsr.sweep_report import write_sweep_report

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="needs a browser: apt-get install --no-install-recommends chromium"
)

PHONE, DESKTOP = 360, 1280
every_look = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
every_page = pytest.mark.parametrize("name", ["run", "sweep"])

COLUMN = """(label, place) => [...document.querySelectorAll(`[aria-label="${label}"] tbody tr`)]
    .map((row) => row.cells[place].firstChild.textContent.trim())"""

# The lowest contrast of a text with what lies behind it, as in WCAG, and the text.
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parts = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => [r, g, b].map(linear).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = light(parts(getComputedStyle(document.body).backgroundColor));
  let worst = [21, ""];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const text = node.textContent.trim(), parent = node.parentElement;
    if (!text || parent.closest("title")) continue;
    const style = getComputedStyle(parent), ink = light(parts(parent.closest("svg") ? style.fill : style.color));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < worst[0]) worst = [ratio, text];
  }
  return worst;
})()"""


@pytest.fixture(scope="module")
def window() -> Iterator[browser.Browser]:
    opened = browser.Browser(str(PROGRAM))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run's page and a sweep's, with long names, flags, failures and several data sets."""
    folder = tmp_path_factory.mktemp("sweep")
    methods = ("fkp+dip", "dkp+dip+usrnet prior@prior.base=softmax", "a_method_whose_name_is_one_word_of_great_length")
    for number, method in enumerate(methods * 2):
        place = job(folder / str(number), method, "xy"[number // 3], images=["bird", "baby", "head"])
        for name, psnr in (("bird", 29.5), ("a_photograph_with_a_name_that_is_one_long_word_0001", 9.25)):
            flags = "collapsed border" if number == 1 else ""
            add(place, name, method=method, size=40, psnr=psnr + number, flags=flags)
            floor(place, name, "floor: mean kernel", kernel_psnr=51.5)
        if number == 2:
            fail(place, "baby", "out_of_memory_" * 20)
        write_report(place, title=method, settings={"prior.base": "softmax", "images": "/a/very/long/path" * 20})
    return {"run": folder / "2" / "report.html", "sweep": write_sweep_report(folder)}


@every_page
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_page_opens_without_a_network_or_a_word_of_complaint(
    window: browser.Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    window.open(pages[name], width=width)
    assert window.run(
        "Promise.all([...document.images].map((i) => { i.loading = 'eager'; return i.decode(); })).then(() => 1)"
    )
    sizes = window.run("[...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) > 10 and min(sizes) > 0
    asked = [e["params"]["request"]["url"] for e in window.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:image/")] == [pages[name].resolve().as_uri()]
    bad = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert not [event for event in window.events if event["method"] in bad]


@every_page
@pytest.mark.parametrize("width", [320, PHONE, DESKTOP])
def test_a_page_never_scrolls_sideways(window: browser.Browser, pages: dict[str, Path], name: str, width: int) -> None:
    window.open(pages[name], width=width)
    window.run("document.querySelectorAll('.larger input').forEach((box) => box.click())")
    assert window.run("document.documentElement.scrollWidth") <= width
    # Nothing sticks out of the page but what its own box scrolls.
    outside = """[...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll, svg") &&
        e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
    assert window.run(outside) == []


@every_page
@every_look
def test_every_text_can_be_read(window: browser.Browser, pages: dict[str, Path], name: str, dark: bool) -> None:
    window.open(pages[name], dark=dark)
    ratio, text = window.run(CONTRAST)
    assert ratio >= 4.5, text


@every_look
def test_every_method_has_a_colour_that_can_be_seen(
    window: browser.Browser, pages: dict[str, Path], dark: bool
) -> None:
    window.open(pages["sweep"], dark=dark)
    svg = "<svg><text>m</text></svg>"
    for number in range(8):
        window.run(f"document.querySelector('main').innerHTML = '{svg}'")
        window.run(f"document.querySelector('main text').setAttribute('style', 'fill: var(--m{number})')")
        ratio, _ = window.run(CONTRAST)
        assert 3 <= ratio < 21, number


def test_a_click_sorts_and_a_second_one_turns_the_order(window: browser.Browser, pages: dict[str, Path]) -> None:
    window.open(pages["sweep"])
    heads = window.run(
        "[...document.querySelectorAll('[aria-label=Overview] th[scope=col]')].map((h) => h.textContent.trim())"
    )
    place = next(number for number, head in enumerate(heads) if head.startswith("PSNR"))
    column = f"({COLUMN})('Overview', {place})"
    head = f"document.querySelectorAll('[aria-label=Overview] th[scope=col]')[{place}]"
    before = window.run(column)
    assert len(before) == 8 and before.count("–") == 2  # two floors that make no image
    window.run(f"{head}.querySelector('button').click()")
    known = sorted((float(value) for value in before if value != "–"), reverse=True)
    assert window.run(column) == [*(f"{value:.2f}" for value in known), "–", "–"]
    assert window.run(f"{head}.getAttribute('aria-sort')") == "descending"
    window.run(f"{head}.querySelector('button').click()")
    assert window.run(column) == [*(f"{value:.2f}" for value in reversed(known)), "–", "–"]
    assert window.run("document.querySelectorAll('[aria-sort]').length") == 1
    assert "ascending" in window.run("document.querySelector('[aria-label=Overview] + [role=status]').textContent")


def test_the_keyboard_sorts_too(window: browser.Browser, pages: dict[str, Path]) -> None:
    window.open(pages["sweep"])
    window.run("document.querySelector('[aria-label=Overview]').focus()")
    window.press("Tab", 9)
    assert window.run("document.activeElement.textContent.trim()") == "Method"
    window.press("Enter", 13, "\r")
    methods = window.run(f"({COLUMN})('Overview', 0)")
    assert methods == sorted(methods) and methods[0].startswith("a_method")
    outline = window.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_a_page_is_complete_without_its_script(window: browser.Browser, pages: dict[str, Path]) -> None:
    window.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        window.open(pages["sweep"])
        assert window.run("document.querySelectorAll('[aria-label=Overview] tbody tr').length") == 8
        assert window.run("document.querySelectorAll('button').length") == 0
        assert window.run("getComputedStyle(document.querySelector('.scripted')).display") == "none"
    finally:
        window.ask("Emulation.setScriptExecutionDisabled", value=False)


def test_a_foreign_script_would_not_run(window: browser.Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """The page's policy holds: a script that came in by a name would be refused, and the browser says so."""
    page = tmp_path / "page.html"
    page.write_text(pages["sweep"].read_text().replace("</main>", "<script>document.title = 'mine'</script></main>"))
    window.open(page)
    assert window.run("document.title") != "mine"
    assert [event for event in window.events if event["method"] == "Log.entryAdded"]


def test_tables_and_pictures_say_what_they_are(window: browser.Browser, pages: dict[str, Path]) -> None:
    for path in pages.values():
        window.open(path)
        assert window.run("[...document.images].filter((image) => !image.alt).length") == 0
        assert (
            window.run("[...document.querySelectorAll('svg')].filter((s) => !s.ariaLabel && !s.ariaHidden).length") == 0
        )
        assert window.run("[...document.querySelectorAll('th')].filter((head) => !head.scope).length") == 0
        assert window.run("document.documentElement.lang") == "en"
        levels = window.run("[...document.querySelectorAll('h1, h2, h3')].map((head) => Number(head.tagName[1]))")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
