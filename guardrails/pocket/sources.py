"""The open emoji sets that the pocket model learns from: where they come from, their licences, their drawings.

Each set is one npm package of the iconify project (SVG bodies by name); names, groups and keywords come from
`emojibase-data`. Packages are fetched with the ordinary `npm` client by exact version and checked against the
SHA-256 written here, so a rebuilt data set is the same data set.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from guardrails.errors import DatasetUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class EmojiSet:
    """One source package.

    Attributes:
        name: iconify prefix, also the style word in captions.
        style: how captions call this hand, for example "noto".
        trainable: False when the licence is share-alike: such pictures stand in the similarity index only.
    """

    name: str
    style: str
    package: str
    version: str
    sha256: str
    licence: str
    licence_url: str
    creator: str
    trainable: bool


EMOJI_SETS = (
    EmojiSet(
        name="noto",
        style="noto",
        package="@iconify-json/noto",
        version="1.2.9",
        sha256="3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        licence="Apache-2.0",
        licence_url="https://github.com/googlefonts/noto-emoji/blob/main/svg/LICENSE",
        creator="Google",
        trainable=True,
    ),
    EmojiSet(
        name="twemoji",
        style="twemoji",
        package="@iconify-json/twemoji",
        version="1.2.5",
        sha256="19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        licence="CC-BY-4.0",
        licence_url="https://creativecommons.org/licenses/by/4.0/",
        creator="Twitter and the Twemoji contributors",
        trainable=True,
    ),
    EmojiSet(
        name="fluent-emoji-flat",
        style="fluent flat",
        package="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        sha256="7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        licence="MIT",
        licence_url="https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE",
        creator="Microsoft",
        trainable=True,
    ),
    EmojiSet(
        name="fluent-emoji",
        style="fluent",
        package="@iconify-json/fluent-emoji",
        version="1.2.7",
        sha256="8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
        licence="MIT",
        licence_url="https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE",
        creator="Microsoft",
        trainable=True,
    ),
    EmojiSet(
        name="openmoji",
        style="openmoji",
        package="@iconify-json/openmoji",
        version="1.2.29",
        sha256="03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
        licence="CC-BY-SA-4.0",
        licence_url="https://creativecommons.org/licenses/by-sa/4.0/",
        creator="OpenMoji contributors",
        trainable=False,
    ),
)
KEYWORDS_PACKAGE = ("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")

# Skin tones and flags repeat one drawing many times, and component glyphs are not things.
EXCLUDED_WORDS = ("skin-tone", "flag-", "keycap", "regional-indicator")
EXCLUDED_GROUPS = frozenset({"component", "flags"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One emoji of one set: its SVG and what is known about it."""

    id: str
    name: str
    set: EmojiSet
    group: str
    keywords: tuple[str, ...]
    svg: str


def fetch_package(package: str, version: str, sha256: str, folder: Path) -> Path:
    """Return the unpacked npm package, fetching it on the first call.

    Raises:
        DatasetUnavailable: npm is missing, the registry cannot be reached, or the bytes are not the expected ones.
    """
    target = folder / f"{package.replace('/', '-').lstrip('@')}-{version}"
    if target.is_dir():
        return target / "package"
    folder.mkdir(parents=True, exist_ok=True)
    archive = _npm_pack(f"{package}@{version}", folder)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        archive.unlink()
        raise DatasetUnavailable(
            f"{package} {version} has SHA-256 {found}, expected {sha256}",
            hint="the package changed upstream or was damaged on the way; fetch it again",
        )
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    partial.rename(target)
    archive.unlink()
    return target / "package"


def _npm_pack(spec: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise DatasetUnavailable(
            "the emoji sets come as npm packages and `npm` was not found", hint="install Node.js, then run it again"
        )
    run = subprocess.run(
        [npm, "pack", "--silent", spec], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    if run.returncode != 0:
        raise DatasetUnavailable(f"npm could not fetch {spec}: {run.stderr.strip()[-300:]}", hint="check the network")
    return folder / run.stdout.strip().splitlines()[-1]


def read_drawings(folder: Path) -> Iterator[Drawing]:
    """Yield every drawing of every set, in a fixed order, without skin tones, flags and components."""
    known = _emojibase(str(fetch_package(*KEYWORDS_PACKAGE, folder)))
    for emoji_set in EMOJI_SETS:
        root = fetch_package(emoji_set.package, emoji_set.version, emoji_set.sha256, folder)
        icons = json.loads((root / "icons.json").read_text())
        for slug in sorted(icons["icons"]):
            row = known.get(slug)
            if row is None or any(word in slug for word in EXCLUDED_WORDS) or row["group"] in EXCLUDED_GROUPS:
                continue
            yield Drawing(
                id=f"{emoji_set.name}:{slug}",
                name=row["label"],
                set=emoji_set,
                group=row["group"],
                keywords=tuple(row["tags"]),
                svg=svg_of(icons, slug),
            )


def svg_of(icons: dict[str, Any], slug: str) -> str:
    """A complete SVG document for one icon of an iconify set."""
    icon = icons["icons"][slug]
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    )


@cache
def _emojibase(root: str) -> dict[str, dict[str, Any]]:
    """Names, keywords and groups by iconify slug (the English label, lower case, words joined by hyphens)."""
    groups: dict[str, str] = json.loads((Path(root) / "meta/groups.json").read_text())["groups"]
    rows: list[dict[str, Any]] = json.loads((Path(root) / "en/data.json").read_text())
    return {
        slug_of(row["label"]): {
            "label": row["label"].lower(),
            "tags": row.get("tags", []),
            "group": groups.get(str(row.get("group")), "component"),
        }
        for row in rows
    }


def slug_of(label: str) -> str:
    """The iconify name of an emoji label: "cat with tears of joy" -> "cat-with-tears-of-joy"."""
    kept = "".join(c if c.isalnum() else "-" for c in label.lower().replace("’", "").replace("'", ""))  # noqa: RUF001
    return "-".join(part for part in kept.split("-") if part)
