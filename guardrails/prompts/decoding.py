"""Readings of words that make no sense as they stand: backwards, rot13, base64, hexadecimal. They may only flag."""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Iterator

from guardrails.prompts.views import View, edited

_ROT13 = str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,4000}={0,2}")
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{2}(?:[ :,]?[0-9a-fA-F]{2}){3,500}")
_FEWEST_PRINTABLE = 0.95
_MOST_TOKENS = 40
# What is found here only flags, so a long prompt need not be read to its end in every way.
_LOOKED_AT = 4_000


def turned_views(plain: View) -> Iterator[View]:
    """A prompt backwards, and with its letters moved by half the alphabet; worth a look when it makes no sense.

    Args:
        plain: the first view.
    """
    text = plain.text[:_LOOKED_AT]
    count = len(text)
    yield View(
        name="reversed",
        text=text[::-1],
        parent=plain,
        spread=lambda: (list(range(count - 1, -1, -1)), list(range(count, 0, -1))),
        certain=False,
    )
    yield View(name="rot13", text=text.translate(_ROT13), parent=plain, certain=False)


def encoded_views(prompt: str) -> Iterator[View]:
    """A prompt with its base64 and hexadecimal words read, where there are any."""
    raw = View(name="plain", text=prompt[:_LOOKED_AT])
    for name, pattern, read in (("base64", _BASE64, _base64_read), ("hexadecimal", _HEXADECIMAL, _hexadecimal_read)):
        tokens = itertools.islice(pattern.finditer(raw.text), _MOST_TOKENS)
        edits = [(*token.span(), words) for token in tokens if (words := read(token[0]))]
        if edits:
            yield edited(raw, name, edits, certain=False)


def _base64_read(token: str) -> str:
    body = token.rstrip("=")
    # Ordinary words are not tried: lower case, capitalised or upper case throughout.
    if body.isalpha() and (body.islower() or body.istitle() or body.isupper()):
        return ""
    try:
        data = base64.b64decode(body.replace("-", "+").replace("_", "/") + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return _readable(data)


def _hexadecimal_read(token: str) -> str:
    digits = "".join(char for char in token if char.isalnum())
    return _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _readable(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    printable = sum(char.isalpha() or char.isspace() for char in text)
    return text.casefold() if text and printable >= _FEWEST_PRINTABLE * len(text) else ""
