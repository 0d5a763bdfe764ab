"""What browsers are told of every answer: which scripts, pictures and frames are the app's. Names no route.

Scripts of the page are the app's own files, those that the page was made with, and those it is sent with, which carry
a number that is drawn anew for each page. So a ``<script>``, an ``onclick`` or a ``javascript:`` address in the words
of a model or a card would not run even where they were shown as HTML. ``unsafe-eval`` stays: gradio compiles what an
event does in the browser (``js=``) and its templates from text. Styles stand inline in gradio's markup and in ours.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

FEATURES = (
    *("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer", "microphone", "midi"),
    *("payment", "usb"),
)
"""Of the browser, which nothing here asks for."""
SCRIPT = b"<script"
LOADED = "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self'; object-src 'none'; base-uri 'self'"
PAGE = (
    f"default-src 'self'; {LOADED}; style-src 'self' 'unsafe-inline'; connect-src 'self'; worker-src 'self' blob:; "
    "manifest-src 'self'; script-src 'self' 'unsafe-eval'"
)


def headers(frames: Iterable[str]) -> tuple[tuple[bytes, bytes], ...]:
    """Of every answer.

    Args:
        frames: Websites that may show the app in a frame, as ``frame-ancestors`` has them.
    """
    ancestors = " ".join(["'self'", *frames])
    security = f"{LOADED}; form-action 'self'; frame-ancestors {ancestors}"
    return (
        (b"content-security-policy", security.encode()),
        (b"referrer-policy", b"same-origin"),
        (b"x-content-type-options", b"nosniff"),
        (b"permissions-policy", ", ".join(f"{name}=()" for name in FEATURES).encode()),
    )


def page_policy(nonce: str, scripts: Iterable[str]) -> bytes:
    """Of the page alone, beside that of every answer: a browser holds it to both.

    Args:
        nonce: The number that its script tags carry.
        scripts: Texts of those that its program adds.
    """
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    return " ".join([PAGE, f"'nonce-{nonce}'", *(f"'sha256-{digest}'" for digest in digests)]).encode()


def with_nonce(page: bytes, nonce: str) -> bytes:
    """``page`` with the number in each of its script tags, and not where a script's own text has such words."""
    parts, place = [], 0
    while (found := page.find(SCRIPT, place)) >= 0:
        end = page.find(b"</script", found)
        end = len(page) if end < 0 else end
        parts += [page[place:found], SCRIPT, f' nonce="{nonce}"'.encode(), page[found + len(SCRIPT) : end]]
        place = end
    return b"".join([*parts, page[place:]])
