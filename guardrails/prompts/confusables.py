"""Letters that look like Latin ones: the short table that people use to hide words.

Full-width, mathematical, circled and squared letters are not here: compatibility decomposition (NFKD) folds them.
"""

from __future__ import annotations

# Both cases are listed, because they look like different letters: Greek capital Nu is an N, small nu is a v.
_CYRILLIC = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХЗҮԌԚԜаеѕіјкмнорстухвьпгшзӏһԁԛԝүѵӕ",
        "abesijkmhopctyx3ygqwaesijkmhopctyxbbnrw3lhdqwyvæ",
        strict=True,
    )
)
_GREEK = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹαβγεηικμνορςστυχωϲϳ", "abezhikmnoptyxcabyenikuvopsstuxwcj", strict=True))
_OTHER_SCRIPTS = dict(zip("օսհոցԱՕꓐꓓꓮꓰꓳꓑꓢꓔ", "ouhngUObdaeopst".lower(), strict=True))

LOOK_ALIKES: dict[str, str] = _CYRILLIC | _GREEK | _OTHER_SCRIPTS
"""Letters of other scripts; folded only in words that mix scripts or hold nothing else, so real Russian survives."""

LATIN_VARIANTS: dict[str, str] = dict(
    zip("ıɑɡøđłħŧɨʉƀɓɗɖɛɩʟɴʀʏɪʙɢʜᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢꜱØĐŁĦŦ", "iagodlhtiubbddeilnryibghacdejkmoptuvwzsodlht", strict=True)
) | {chr(0x1F170 + n): chr(ord("a") + n) for n in range(26)}
"""Latin letters with strokes, small capitals and negative squared letters, which have no decomposition."""
