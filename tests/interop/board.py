"""Bull Board's pages in a browser, used as a person does. The server behind them is in `board_server`.

Pages are found by what they show; only icons without a label are found by the name of their drawing.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import Locator, Page, async_playwright, expect

from tests.interop.node import HERE

#: Where pictures of the pages are left; ignored by git.
SCREENSHOTS: Final = HERE.parents[1] / "build" / "interop"
_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_PATIENCE_MS: Final = 15_000

RETRY: Final = "refresh-cw"
PROMOTE: Final = "corner-up-left"
EDIT: Final = "pencil"
REMOVE: Final = "trash-2"
RUN_NOW: Final = "play"


def browser_path() -> str | None:
    """Chromium, if it is there."""
    return shutil.which("chromium")


class Board:
    """A browser page on a Bull Board."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    @property
    def main(self) -> Locator:
        """The page without its navigation."""
        return self.page.locator("main")

    @property
    def dialog(self) -> Locator:
        """What has opened above the page."""
        return self.page.get_by_role("dialog")

    async def open(self, path: str = "") -> None:
        """Go to a page: "", "queue/<name>", "queue/<name>/<job>?status=<state>", "job-schedulers"."""
        await self.page.goto(self._url + path)
        await expect(self.main).not_to_be_empty()

    async def shows(self, *texts: str) -> None:
        """Wait until the page shows all of these."""
        for text in texts:
            await expect(self.main).to_contain_text(text)

    async def tab(self, name: str, text: str, *more: str) -> None:
        """Open a tab of a job and wait until it shows these."""
        await self.main.get_by_role("tab", name=name).click()
        for one in (text, *more):
            await expect(self.main.get_by_role("tabpanel")).to_contain_text(one)

    async def press(self, icon: str) -> None:
        """Click the one button with this icon, and confirm."""
        await self.main.locator(f"button:has(svg.lucide-{icon})").click()
        await self.confirm()

    async def press_named(self, name: str) -> None:
        """Click a button by its label, and confirm."""
        await self.main.get_by_role("button", name=name).click()
        await self.confirm()

    async def confirm(self) -> None:
        """Say yes to "Are you sure?"."""
        await self.page.get_by_role("alertdialog").get_by_role("button", name="Confirm").click()
        await expect(self.page.get_by_role("alertdialog")).to_have_count(0)

    async def choose(self, item: str) -> None:
        """Choose from the menu of the queue's page."""
        await self.main.locator("button[aria-haspopup=menu]").click()
        await self.page.get_by_role("menuitem", name=item).click()

    async def write(self, editor: int, text: str) -> None:
        """Replace the text of an editor of the dialog."""
        await self.dialog.locator("[contenteditable=true]").nth(editor).click()
        await self.page.keyboard.press("Control+A")
        await self.page.keyboard.insert_text(text)

    async def shoot(self, name: str) -> None:
        """Leave a picture among the build's artefacts."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@asynccontextmanager
async def browser(url: str) -> AsyncIterator[Board]:
    """A browser of its own, without history."""
    expect.set_options(timeout=_PATIENCE_MS)
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=browser_path(), args=list(_FLAGS))
        page = await chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(_PATIENCE_MS)
        yield Board(page, url)
        await chromium.close()
