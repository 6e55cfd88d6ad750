"""A headless Chromium, driven through the two pipes of its DevTools protocol: no port, no driver, no library.

Messages are JSON objects that end with a zero byte. Chromium reads from file descriptor 3 and writes to 4.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0
"""Seconds to wait for a reply."""


def found() -> str | None:
    """The program, if there is one."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Ended(RuntimeError):
    """The browser does not reply any more."""


class Browser:
    """One page of a browser; :func:`browser` opens it."""

    def __init__(self, to: int, of: int) -> None:
        self.to, self.of = to, of
        self.numbers = itertools.count(1)
        self.rest = b""
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The reply to one command; events that arrive before it are kept in ``events``."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (reply := self._next()).get("id") != number:
            self.events.append(reply)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']['message']}")
        return dict(reply["result"])

    def open(self, path: Path, *, width: int, scheme: str) -> None:
        """Show a file in a window so many pixels wide, in the ``light`` or ``dark`` colour scheme."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise RuntimeError(f"{expression}: {reply['exceptionDetails']}")
        return reply["result"].get("value")

    def complaints(self, *, beside: Path | None = None) -> list[str]:
        """Errors, warnings and exceptions since the page was opened, and what it requested: nothing but itself, and
        files of the folder ``beside``."""
        own = ("data:",) if beside is None else ("data:", beside.resolve().as_uri())
        seen = []
        for event in self.events:
            params = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    seen.append(str(params["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                    seen.append(str(params["args"]))
                case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                    seen.append(params["entry"]["text"])
                case "Network.requestWillBeSent" if params["type"] != "Document":
                    if not params["request"]["url"].startswith(own):
                        seen.append(f"requested {params['request']['url']}")
        return seen

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """A picture of the page as PNG."""
        reply = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(reply["data"]))

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.of], [], [], max(0.0, end - time.monotonic()))
            read = os.read(self.of, 1 << 16) if ready else b""
            if not read:
                raise Ended("the browser has ended" if ready else f"no reply in {PATIENCE:.0f} s")
            self.rest += read
        message, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, closed at the end."""
    hers, to = os.pipe()
    of, its = os.pipe()
    flags = ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
             "--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync",
             f"--user-data-dir={profile}"]  # fmt: skip
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
    shell = ["bash", "-c", f'exec "$0" "$@" 3<&{hers} 4>&{its}', program, *flags]
    log = profile / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(shell, pass_fds=(hers, its), stdout=output, stderr=output)
    os.close(hers)
    os.close(its)
    try:
        yield Browser(to, of)
    except Ended as error:
        raise Ended(f"{error}; its output: {log.read_text(errors='replace')[-2000:]}") from error
    finally:
        os.close(to)  # it ends when nobody can send it commands any more
        os.close(of)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
