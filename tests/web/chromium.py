"""The real browser that the pages are looked at with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
INSTALL: Final = "apt-get update && apt-get install -y --no-install-recommends chromium"


def executable() -> str:
    """The path of an installed Chromium. Raises FileNotFoundError that says how to install it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError(f"none of {', '.join(NAMES)} is on the path; on Debian, as root: {INSTALL}")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    # As root (in a container) it runs only without the sandbox that it builds from namespaces of its own.
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable(), args=args)
        try:
            yield started
        finally:
            started.close()
