"""Letters that look like Latin ones.

The pairs come from the Unicode confusables (UTS 39, data file `confusables.txt`), reduced to single letters, and from
the look-alikes and turned letters that people type. Full-width, mathematical, circled and squared letters are not
here: compatibility decomposition (NFKD) folds them.
"""

# ruff: noqa: RUF001
from __future__ import annotations

# Both cases are listed, because they look like different letters: Greek capital Nu is an N, small nu is a v.
_LOOK_ALIKES = {
    "3": "Зз",
    "a": "ΑαАаᎪᗅ⍺ꓮ𐊠𖽀",
    "b": "ƄΒβВЬвьᏏᏴᑲᖯᗷꓐꞴ𐊂𐊡𐌁",
    "c": "ϲϹСсᏟⲤⲥꓚꮯ𐊢𐌂𐐕𐐽𐔜𑣩𑣲🝌",
    "d": "ԁᎠᏧᑯᗞᗪꓒꓓ",
    "e": "ΕεЕеҽᎬ℮⋿ⴹꓰꬲ𐊆𑢦𑢮",
    "f": "ϜքᖴẝꓝꞘꞙꬵ𐊇𐊥𐔥𑢢𑣂𝈓",
    "g": "ƍԌցᏀᏳᶃꓖ",
    "h": "ΗНнһհᎻᏂᕼⲎꓧ𐋏",
    "i": "ΙιІіᎥι⍳ꙇꭵ𑣃",
    "j": "ͿϳЈјᎫᒍꓙꞲ",
    "k": "ΚκКкᏦᛕⲔꓗ𐔘",
    "l": "ƖǀӀӏ۱Ꮮᒪᛁ∣⏽ⲒⳐⵏꓡꓲ￨𐊊𐌉𐌠𐐛𐔦𑢣𑢲𖼖𖼨𝈪",
    "m": "ΜϺМмᎷᗰᛖⲘꓟ𐊰𐌑",
    "n": "ΝηпոռⲚꓠ𐔓",
    "o": "ΟοОоՕօ۵०০੦૦ଠ୦௦ం౦ಂ೦ംഠ൦ං๐໐ဝ၀ჿዐᴑⲞⲟⵔ〇ꓳꬽ𐊒𐊫𐐄𐐬𐓂𐓪𐔖𑓐𑢵𑣈𑣗𑣠",
    "p": "ΡρϱРрᏢᑭ⍴Ⲣⲣꓑ𐊕",
    "q": "Ԛԛգզⵕ",
    "r": "ƦгᎡᏒᖇᴦⲅꓣꭇꭈꮁ𐒴𖼵𝈖",
    "s": "ƽςЅѕՏᏕᏚꓢꮪ𐊖𐐠𐑈𑣁𖼺",
    "t": "ΤτТтᎢ⊤⟙Ⲧꓔ𐊗𐊱𐌕𑢼𖼊🝨",
    "u": "ʋμυԱՍսሀᑌ∪⋃ꓴꞟꭎꭒ𐓎𐓶𑢸𑣘𖽂",
    "v": "νѴѵ۷Ꮩᐯ∨⋁ⴸꓦꛟꮩ𐔝𑜆𑢠𑣀𖼈𝈍",
    "w": "ωшѡԜԝաᎳᏔꓪꮃ𑜊𑜎𑜏𑣦𑣯",
    "x": "×ΧχХхᕁᕽ᙭᙮ᚷ╳⤫⤬⨯ⲬⵝꓫꞳ𐊐𐊴𐌗𐌢𐔧𑣬",
    "y": "ɣΥγϒУуҮүყᎩᎽᶌỿℽⲨꓬꭚ𐊲𑢤𑣜𖽃",
    "z": "ΖᏃꓜꮓ𐋵𑢩𑣄𑣥",
    "æ": "ӕ",
}
_LATIN_VARIANTS = {
    "a": "æɐɑᴀ⠁",
    "b": "ƀɓʙ⠃",
    "c": "ƈɔᴄ⠉",
    "d": "ðĐđɖɗᴅ⠙",
    "e": "ǝɛᴇ⠑",
    "f": "ƒɟ⠋",
    "g": "ƃɠɡɢ⠛",
    "h": "Ħħɥɦʜ⠓",
    "i": "ıɨɩɪᴉ⠊",
    "j": "ɾᴊ⠚",
    "k": "ƙʞᴋ⠅",
    "l": "Łłɫʟ⠇",
    "m": "ɯɱᴍ⠍",
    "n": "ŋɳɴ⠝",
    "o": "Øøœᴏ⠕",
    "p": "þᴘ⠏",
    "q": "⠟",
    "r": "ɹʀ⠗",
    "s": "⠎ꜱ",
    "t": "Ŧŧʇᴛ⠞",
    "u": "ʉᴜ⠥",
    "v": "ʌᴠ⠧",
    "w": "ʍᴡ⠺",
    "x": "⠭",
    "y": "ʎʏ⠽",
    "z": "ƶʐᴢ⠵",
}


def _by_letter(groups: dict[str, str]) -> dict[str, str]:
    return {char: letter for letter, chars in groups.items() for char in chars}


LOOK_ALIKES = _by_letter(_LOOK_ALIKES)
"""Letters of other scripts; folded only in words that mix scripts or hold nothing else, so real Russian survives."""

LATIN_VARIANTS = _by_letter(_LATIN_VARIANTS) | {
    chr(first + n): chr(ord("a") + n) for first in (0x1F170, 0x1F1E6) for n in range(26)
}
"""Latin letters with strokes, small capitals, turned letters, Braille, negative squared letters and flag letters."""
