"""The page of `serve` in headless Chromium, used as people use it; prints what was done and what the page said.

    pip install playwright
    npm install axe-core
    python benchmarks/page.py --run-dir RUN --data FOLDER --out pictures/ --axe node_modules/axe-core/axe.min.js

FOLDER has class folders of photos. A step whose outcome is not the expected one ends the script. Files are dropped by the browser's own
events (`Input.dispatchDragEvent`), the camera is Chromium's fake one, and each state of the page goes through axe-core, whose findings
end the script too. It leaves a picture of each state: look at them.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright, sync_playwright
from processes import print_table
from serving import free_port, server

TOKEN = "a token of enough letters"
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
NO_CAMERA = ("--use-fake-ui-for-media-stream",)
DENIED = ("--use-fake-device-for-media-stream", "--deny-permission-prompts")
WIDE, PHONE = {"width": 1100, "height": 900}, {"width": 390, "height": 844}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
HEAT, NEAR = "Heat map", "Similar training photos"


class Visit:
    """A visitor of the page: what they did, and what the page said.

    Args:
        settings: of a context of Playwright, such as `color_scheme`.
    """

    def __init__(self, browser: Browser, port: int, options: argparse.Namespace, **settings: Any) -> None:
        self.said: list[list[str]] = []
        self.errors: list[str] = []
        self._out, self._axe, self._address = options.out, options.axe, f"http://127.0.0.1:{port}"
        self.page: Page = browser.new_context(**({"viewport": WIDE} | settings)).new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._watch)
        self.page.goto(self._address)

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((self._address, "blob:", "data:")):
            self.errors.append(f"asked {request.url}")

    def drop(self, *files: Path) -> None:
        """Drag files over the page and let them fall."""
        box, events = self.page.locator("#drop").bounding_box(), self.page.context.new_cdp_session(self.page)
        assert box is not None
        given = {"data": {"items": [], "files": [str(file.resolve()) for file in files], "dragOperationsMask": 1}}
        for kind in ("dragEnter", "dragOver", "drop"):
            events.send("Input.dispatchDragEvent", {"type": kind, "x": box["x"] + 40, "y": box["y"] + 20, **given})

    def until(self, what: str) -> None:
        """Wait for an expression to be true; Playwright's own way needs `eval`, which the page's policy forbids."""
        for _ in range(300):
            if self.page.evaluate(what):
                return
            self.page.wait_for_timeout(100)
        raise SystemExit(f"never came: {what}. The page: {self.page.locator('main').inner_text()}")

    def count(self, selector: str, number: int) -> None:
        """Wait for so many elements."""
        self.until(f"document.querySelectorAll({selector!r}).length === {number}")

    def press(self, text: str) -> None:
        """Press the first button of this text by the keyboard."""
        self.page.locator("button", has_text=text).first.focus()
        self.page.keyboard.press("Enter")

    def texts(self, selector: str) -> str:
        """What elements say, from the top."""
        return "; ".join(self.page.locator(selector).all_inner_texts())

    def tell(self, what: str, said: str, expected: str) -> None:
        """Note a step, of whose outcome some words are expected, and look for what nobody may do."""
        if expected not in said or self.errors:
            raise SystemExit(f"{what}: got '{said}', expected '{expected}'; errors: {self.errors}")
        self.said.append([what, said])
        name = "-".join(what.split())
        self.page.screenshot(path=self._out / f"{name}.png", full_page=True)
        if self._axe is not None:
            self.page.context.new_cdp_session(self.page).send("Runtime.evaluate", {"expression": self._axe.read_text()})
            ask = "rules => axe.run(document, {runOnly: rules}).then(told => told.violations.map(each => each.id + each.nodes[0].html))"
            if found := self.page.evaluate(ask, RULES):
                raise SystemExit(f"{what}: axe-core finds {found}")


def answers(visit: Visit, photos: Sequence[Path]) -> None:
    """Photos are dropped, explained, and looked up; other files are refused."""
    visit.drop(*photos[:2])
    visit.count("#found h2", 2)
    visit.tell("drop two photos", visit.texts("#found h2"), photos[0].parent.name)
    visit.press(HEAT)
    visit.count("canvas", 1)
    visit.tell("heat map", visit.texts("#said"), "Brightest where")
    visit.page.locator("select").first.select_option(index=1)
    other = visit.page.locator("select").first.input_value()
    visit.until(f"document.querySelector('canvas').getAttribute('aria-label').includes({other!r})")
    visit.tell("heat map for another class", visit.texts("#said"), other)
    visit.press(NEAR)
    visit.count("figure img", 3)
    visit.tell("training photos", visit.texts("figcaption"), "likeness")
    with tempfile.TemporaryDirectory() as folder:
        bad, empty, huge = (Path(folder) / name for name in ("bad.jpg", "empty.png", "huge.jpg"))
        bad.write_bytes(b"<html>no image</html>")
        empty.touch()
        huge.touch()
        os.truncate(huge, 40 * 2**20)
        for file, words in ((bad, "is not an image"), (empty, "is empty"), (huge, "larger than 32 MB"), (Path(folder), "cannot be read")):
            visit.drop(file)
            visit.until(f"document.querySelector('#found li').textContent.includes({words!r})")
            visit.tell(f"drop {'a folder' if file.is_dir() else file.name}", visit.texts("#found li:first-child .odd"), words)


def keyboard(visit: Visit, photos: Sequence[Path]) -> None:
    """Nothing but the keyboard; the focus stays where it was."""
    visit.page.keyboard.press("Tab")
    with visit.page.expect_file_chooser() as chooser:
        visit.page.keyboard.press("Space")
    chooser.value.set_files(photos[0])
    visit.count("#found h2", 1)
    for _ in range(2):
        visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    visit.count("canvas", 1)
    visit.tell("keyboard: heat map", visit.page.evaluate("document.activeElement.textContent"), HEAT)
    visit.page.keyboard.press("Space")
    visit.count("canvas", 0)


def camera(visit: Visit) -> None:
    """A picture is taken, and the camera stopped; also with Escape."""
    for key in ("Enter", "Escape"):
        visit.press("Use the camera")
        visit.until("document.querySelector('video').videoWidth > 0")
        visit.page.evaluate("window.tracks = document.querySelector('video').srcObject.getTracks()")
        if key == "Enter":
            visit.tell("camera", visit.page.evaluate("document.activeElement.textContent"), "Take the picture")
        visit.page.keyboard.press(key)
        visit.until("window.tracks.every(track => track.readyState === 'ended')")
    visit.count("#found h2", 1)
    visit.tell("camera: a picture", visit.texts("#found small, #found h2"), "camera 1")


def phone(visit: Visit, photos: Sequence[Path], scheme: str) -> None:
    """A narrow screen without a mouse: the camera is the telephone's own."""
    visit.page.locator("#take-photo input").set_input_files(photos[0])
    visit.count("#found h2", 1)
    visit.press(HEAT)
    visit.count("canvas", 1)
    assert visit.page.locator("#take-photo").is_visible()
    assert not visit.page.locator("#use-camera").is_visible()
    assert not visit.page.evaluate("document.documentElement.scrollWidth > innerWidth")
    visit.tell(f"phone, {scheme}", visit.texts("#found h2"), photos[0].parent.name)


def token(visit: Visit, photos: Sequence[Path]) -> None:
    """A wrong token, then the right one."""
    visit.drop(photos[0])
    visit.until("document.activeElement.type === 'password'")
    visit.tell("token wanted", visit.texts("#found .odd"), "only to its token")
    for given in ("a wrong one", TOKEN):
        visit.until("!document.getElementById('token').hidden")
        visit.page.locator("#token input").fill(given)
        visit.page.keyboard.press("Enter")
    visit.count("#found h2", 1)
    visit.tell("token given", visit.texts("#found h2"), photos[0].parent.name)


def gone(visit: Visit, photos: Sequence[Path], process: Any) -> None:
    """The server ends between two questions."""
    visit.drop(photos[0])
    visit.count("#found h2", 1)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    visit.drop(photos[1])
    visit.count("#found .odd", 1)
    visit.tell("server gone", visit.texts("#found .odd"), "does not answer")


@contextmanager
def chromium(playwright: Playwright, options: argparse.Namespace, *arguments: str) -> Iterator[Browser]:
    """A browser."""
    browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", *arguments])
    yield browser
    browser.close()


def photos_in(folder: Path) -> list[Path]:
    """One photo of each class."""
    return [sorted(each.iterdir())[0] for each in sorted(folder.iterdir()) if each.is_dir()]


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--run-dir", required=True)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--axe", type=Path)
    made.add_argument("--chromium", default="/usr/bin/chromium")
    options, port, begun = made.parse_args(), free_port(), time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tl_keras.run", "--mode", "serve", "--run-dir", options.run_dir, "--port", str(port)]
    photos, visits = photos_in(options.data), list[Visit]()
    with sync_playwright() as playwright:

        def visit(browser: Browser, **settings: Any) -> Visit:
            visits.append(Visit(browser, port, options, **settings))
            return visits[-1]

        with server([*command, "--neighbours", "3"], port) as process:
            for arguments, words in ((DENIED, "not allowed"), (NO_CAMERA, "no camera")):
                with chromium(playwright, options, *arguments) as browser:
                    there = visit(browser)
                    there.press("Use the camera")
                    there.until("document.getElementById('problem').textContent")
                    there.tell(f"camera: {words}", there.texts("#problem"), words)
            with chromium(playwright, options, *FAKE_CAMERA) as browser:
                answers(visit(browser), photos)
                keyboard(visit(browser), photos)
                camera(visit(browser))
                for scheme in ("light", "dark"):
                    touch = {"viewport": PHONE, "is_mobile": True, "has_touch": True, "reduced_motion": "reduce"}
                    phone(visit(browser, color_scheme=scheme, **touch), photos, scheme)
                gone(visit(browser), photos, process)
        with server(["env", f"TL_KERAS_SERVE_TOKEN={TOKEN}", *command], port), chromium(playwright, options) as browser:
            token(visit(browser), photos)
    print_table(["done", "said"], [row for each in visits for row in each.said])
    print(f"{time.perf_counter() - begun:.0f} seconds")


if __name__ == "__main__":
    main()
