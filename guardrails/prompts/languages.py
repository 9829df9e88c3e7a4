"""Which language a prompt is written in, as far as word lists need to know: by script, and by its small words.

This is no language identification for its own sake. It answers one question: does the prompt use a language whose
words no list holds? Short prompts without small words are taken for covered.
"""

from __future__ import annotations

import functools
import unicodedata

from guardrails.policy.vocabulary import is_word
from guardrails.prompts.matching import Scan

# Scripts of one language, or of one that stands for its neighbours. What is not here decides nothing.
_SCRIPTS = {
    "CYRILLIC": "ru", "ARABIC": "ar", "DEVANAGARI": "hi", "CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja",
    "HANGUL": "ko", "HEBREW": "he", "GREEK": "el", "THAI": "th", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te",
    "GEORGIAN": "ka", "ARMENIAN": "hy", "KHMER": "km", "LAO": "lo", "MYANMAR": "my", "ETHIOPIC": "am",
    "GUJARATI": "gu", "GURMUKHI": "pa", "KANNADA": "kn", "MALAYALAM": "ml", "SINHALA": "si", "TIBETAN": "bo",
}  # fmt: skip
_SMALL_WORDS = {
    "en": "the a an of and in with on is at for to by from as or it his her their this that who are into over",
    "es": "el la los las una uno de del con en por para que y su es al como sobre muy esta",
    "fr": "le la les une des du de et avec dans sur pour qui est au aux en par son sa ses ce cette",
    "de": "der die das ein eine einen einem einer und mit auf im in von zu ist den dem des nicht sich",
    "it": "il lo la gli una uno di del della con nel nella per che e su sul sono dei delle al",
    "pt": "o a os as um uma de do da dos das com em no na por para que e ao sobre seu sua",
    "tr": "bir ve ile bu icin da de gibi cok olan uzerinde olarak kadar daha",
    "nl": "de het een en van met op aan voor is niet zijn naar bij uit door ook om haar hun",
    "pl": "w na z i do jest sie nie od przez dla przy pod nad oraz jako ktory ktora",
    "sv": "en ett och med pa av som for ar det den till fran under over inte sig",
    "da": "en et og med pa af som for er det den til fra under over ikke sig",
    "cs": "a v na s z do je se pro od po pri pod nad jako ktery ktera",
    "ro": "un o si cu pe de la din este care pentru in sub peste al ale",
    "hu": "a az egy es van nem hogy meg mint alatt felett mellett volt",
    "fi": "ja on ei se han joka kun kuin mutta alla ylla kanssa ovat",
    "vi": "mot va cua trong voi cho la nguoi co tren duoi cac nhung dang",
    "id": "yang dan di dengan untuk dari pada seorang sebuah ini itu tidak adalah dalam",
    "sw": "na ya wa kwa katika ni la za mtu cha hii",
}  # fmt: skip
_FEWEST_SMALL_WORDS = 3
_LEAST_SHARE = 0.2
# Letters or words: a language shows early.
_LOOKED_AT = 400


@functools.cache
def _languages_of_words() -> dict[str, tuple[str, ...]]:
    languages: dict[str, list[str]] = {}
    for language, words in _SMALL_WORDS.items():
        for word in words.split():
            languages.setdefault(word, []).append(language)
    return {word: tuple(found) for word, found in languages.items()}


def language_of(scan: Scan) -> str:
    """ISO 639-1 code of a prompt's language, or "" when it does not show.

    Args:
        scan: of the plain view.
    """
    if not scan.letters.isascii():
        # Words that mix scripts are disguised Latin ones.
        pieces = [piece for piece in scan.pieces[:_LOOKED_AT] if not any(map(str.isascii, piece))]
        if script := _script_of("".join(pieces)[:_LOOKED_AT], len(scan.letters[:_LOOKED_AT])):
            return script
    votes: dict[str, set[str]] = {}
    words = set(scan.pieces[:_LOOKED_AT])
    for word in words & _languages_of_words().keys():
        for language in _languages_of_words()[word]:
            # What is an English word as well speaks for no other language: "a van" is not Dutch.
            if language != "en" and is_word(word):
                continue
            votes.setdefault(language, set()).add(word)
    best = max(votes, key=lambda language: len(votes[language]), default="")
    if not best or len(votes[best]) < max(_FEWEST_SMALL_WORDS, _LEAST_SHARE * len(words)):
        return ""
    # A word that another language has as well decides nothing: the winner must lead by itself.
    rivals = [language for language in votes if language != best and len(votes[language]) >= len(votes[best])]
    return "" if rivals else best


def _script_of(letters: str, of: int) -> str:
    """The language of the script that prevails, when it makes up enough of so many letters."""
    counts: dict[str, int] = {}
    for char in letters:
        if not char.isascii() and char.isalpha():
            language = _SCRIPTS.get(unicodedata.name(char, "?").split()[0].split("-")[0], "")
            counts[language] = counts.get(language, 0) + 1
    counts.pop("", None)
    if not counts or sum(counts.values()) < _LEAST_SHARE * of:
        return ""
    # Kana make a text Japanese, however many Chinese characters it holds.
    return "ja" if "ja" in counts else max(counts, key=lambda language: counts[language])
