"""One spelling for every value: canonical JSON (RFC 8785) and its SHA-256 digest."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Any

# RFC 8785 inherits the number range of IEEE doubles (RFC 7493, section 2.2).
MAX_SAFE_INTEGER = 2**53 - 1

# A text as JSON; json.dumps comes to the same, and builds an encoder at every call.
quote = json.encoder.encode_basestring

# Most values are one of these very types; asking that first makes an entry of the ledger three times as fast.
_SCALARS = frozenset({type(None), bool, int, float, str})


def to_plain(value: Any) -> Any:
    """Turn a domain value into dicts, lists, strings, numbers, booleans and None.

    Dataclasses become dicts of their fields, enums their value (int enums their lower-case name), bytes hexadecimal.

    Raises:
        TypeError: the value holds something that has no JSON form.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {key if type(key) is str else str(key): to_plain(item) for key, item in value.items()}
    match value:
        case enum.IntEnum():
            return value.name.lower()
        case enum.Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.hex()
        case Mapping():
            return {str(key): to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def canonical_json(value: Any) -> bytes:
    """RFC 8785 (JSON Canonicalization Scheme) bytes of a domain value.

    Raises:
        ValueError: a number is not finite, or an integer is outside +-(2**53 - 1).
    """
    return _write(to_plain(value)).encode("utf-8")


def digest(value: Any) -> str:
    """SHA-256 of `canonical_json(value)`, lower-case hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _write(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return quote(value)
    if kind is dict:
        members = value.items()
        ordered = sorted(members) if all(map(str.isascii, value)) else sorted(members, key=_utf16_order)
        return "{" + ",".join([f"{quote(key)}:{_write(item)}" for key, item in ordered]) + "}"
    if kind is list:
        return "[" + ",".join([_write(item) for item in value]) + "]"
    if isinstance(value, float):
        return _write_float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_SAFE_INTEGER:
            raise ValueError(f"{value} cannot be written as a JSON number without loss")
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _utf16_order(member: tuple[str, Any]) -> bytes:
    """RFC 8785 section 3.2.3: keys are sorted by their UTF-16 code units."""
    return member[0].encode("utf-16-be")


def _write_float(value: float) -> str:
    """ECMAScript Number::toString (ECMA-262, 6.1.6.1.20), which RFC 8785 section 3.2.2.3 prescribes."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    if value == 0:
        return "0"
    # repr gives the shortest digits that read back to the same double; take them apart into digits and point.
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction if fraction != "0" or exponent_text else ""
    digits = (whole + fraction).lstrip("0")
    leading = len(whole + fraction) - len((whole + fraction).lstrip("0"))
    point = len(whole) - leading + (int(exponent_text) if exponent_text else 0)
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = point - 1
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if power >= 0 else '-'}{abs(power)}"
