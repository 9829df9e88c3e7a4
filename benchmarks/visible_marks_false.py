"""How many pictures without an agency's mark are accused of having one.

::

    python benchmarks/visible_marks_false.py FOLDER ... --record record.jsonl

FOLDERs hold photographs and drawings without marks; of each at most `--each` are taken. Besides, signs are drawn whose
words are ordinary or easily mistaken for a brand's: on walls of one colour and on the photographs, in several fonts,
sizes, colours and angles. Pictures come in a random order that is the same every time, and each answer is a line of the
record: a run that was stopped goes on where it was, and what it has reached by then is a fair sample of the whole. An
accused picture is named, to be looked at: a collection may show a real mark, which is no false one.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from guardrails.domain.calibration import clopper_pearson_upper
from guardrails.errors import GuardrailsError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.policy import load_policy
from guardrails.screens.brands import Word, find_brands
from guardrails.screens.concepts import shipped_pack
from guardrails.screens.marks import NAME, VisibleMarks

SEED = 20261126
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LONG_SIDE = 640
SMALLEST = 100
FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "LiberationSans-Regular.ttf",
    "LiberationSerif-Italic.ttf", "LiberationSansNarrow-Bold.ttf",
)  # fmt: skip
# Easily mistaken for a brand, and no brand.
CONFUSABLE = (
    "Gettysburg", "Gettysburg Address", "Getty Center", "Gettys Garage",
    "Adobe house", "Adobe houses", "Adobe brick stock", "Adobe Stables", "Stockholm", "Stockton", "Istok river",
    "Livestock", "iStop", "Shutters & blinds", "Shutter speed", "Shutterbug", "The Alamo",
    "Alamo Plaza", "Alma", "Alameda", "A lame joke", "Dreamland", "Dreamliner", "Dreamtime",
    "Time to dream", "123 RTF", "123 Free Street", "Room 123", "Deposit", "Bottle deposit",
    "Photo depot", "Big stockroom", "Big Stick", "Fotografia", "Photo booth", "Foto Lia", "Ponds 5 km", "Pond 7",
    "Free parking", "Free pick-up", "Freak", "Vector City", "Can stack", "Fresh stock daily", "Age of stock",
    "Food stock", "Pictures fair", "Mauritius",
    "Picture allowance", "Science library", "Bridge man", "Magnum ice", "Magnum", "Reuter Street", "Photos",
    "Panther", "Media", "Eyes", "500 px away", "Feature film", "Wave breakers",
    "Corbin", "Unlimited stock",
    "Blocks of stories", "Elements",
)  # fmt: skip
# Phrases near names of several words and near long names; none has a name's very letters. Written before names of
# several words had to be matched word by word; what was accused of them led to the rule about gaps.
PHRASES = (
    # of several words
    "Picture alignment", "Picture appliance", "Culture alliance", "Pasture alliance", "Picture a dance",
    "Future alliance", "Picture a chance", "Picture valiance", "Structure alliance", "Picture reliance",
    "Pictures, appliances", "Pretty images", "City images", "Gritty images", "Kitty images", "Getting images ready",
    "Setting images", "Petty damages", "Jetty images", "Getty villages", "Getty mileage", "Adobe shock",
    "Adobe smock", "Above stock", "Abode stock", "Adobe stork", "Adobe stove", "Adobe stick", "Alamo stock photo",
    "Alma stock photo", "Alley stock photo", "A lazy stock photo", "Can stack photos", "Can stuck photo",
    "Van stock photo", "Can stick photos", "Can shock photo", "Aged foto stock", "Page foto stock", "Age photo stock",
    "Large foto stock", "Mauritius villages", "Mauritius packages", "Mauritian images", "Mauritius garages",
    "Mauritius imported", "Science photo gallery", "Silence photo library", "Science photo lottery",
    "Science pilot library", "Sciences photo liberty", "Science phone library", "Science hotel library",
    "Bridgetown images", "Bridgeman villages", "Bridesman images", "Bridgeton images", "Bridgeman damages",
    "Magnus photos", "Magnum phones", "Magnum pianos", "Maximum photos", "Magnet photos", "Magnum photon",
    "Routers connect", "Reuter contact", "Commuters connect", "Writers connect", "Recruiters connect",
    "Reuters collect", "AFC photo", "RAF photo", "ATP photo", "Map photo", "Corbin images", "Orbit images",
    "Corvus images", "Cobra images", "Corbie images", "Cordis images", "Envoy elements", "Tomato elements",
    "Private elements", "Ornate elements", "Envato settlements",
    # long names in one word
    "Shutter store", "Shutter lock", "Shutter dock", "Butter stock", "Gutter stock", "Shutter clock",
    "Shattered stock", "Dream stone", "Dream stream", "Dream estate", "Cream time", "Dreamiest", "Dream same",
    "Deposit phones", "Deposit pots", "Deposit photo ID", "Deposits, photos", "Composite photos", "Big rock photo",
    "Big stack photo", "Pig stock photo", "Big shock photo", "Livestock photo", "Rootstock photo", "Stock photo day",
    "Stock flood", "Rock food", "Stock foods fair", "Stock wood", "Master tile", "Mister File", "Masters file in",
    "Masterful", "Matter file", "Robert Harvey", "Robin Harding", "Robert Hardin", "Robert Hardy King",
    "Rupert Harding", "Pantheon media", "Panda media", "Another media", "Panther medals", "Future pics",
    "Feature pits", "Feature films", "Fixture pics", "Photo chase", "Photo castle", "Photocopies", "Photo base",
    "Wave brake media", "Wavebreaker medal", "Weave break media", "Think stick", "Thick stock", "Drink stock",
    "Think stack", "Pink stock", "Colour book", "Colour fox", "Color books", "Colour bow", "Crush pixie",
    "Brush pixel", "Crushed pickles", "Crash pixel", "Bay images", "Play images", "Gray images", "Yacht images",
    "Day images", "Sock unlimited", "Stick unlimited", "Stock is limited", "Rock unlimited", "Stock, limited",
    "Story clocks", "Stony blocks", "Storage blocks", "Story locks", "Story blogs", "Vector easy", "Free pick",
    "Free pint", "Foto Italia", "Fotolab", "Pond five", "Stocky", "Pick fair",
)  # fmt: skip
# More of the same, written after that rule and before it was counted.
FRESH_PHRASES = (
    "Pictures in balance", "Picture defiance", "Picture of alliance", "Venture alliance", "Picture a lance",
    "Mixture alliance", "Pitcher alliance", "Fixture appliance", "Pretty imaging", "Gutsy images", "Betty imagines",
    "Getty manages", "Gettys manager", "Petty image", "Letty images", "Netty images", "Witty images", "Jet images",
    "Adobe knock", "Adobe block", "Adobe stack house", "Adobe stocking", "A doe stock", "Globe stock",
    "Alamo stack photo", "Alamos stock photos", "A lamp stock photo", "Malay stock photo", "Man stock photo",
    "Can stock pots", "Cannot stock photo", "Pan stock photo", "Stage foto stock", "Ages photo stock",
    "Image foto stock", "Vintage foto stock", "Mauritius mages", "Mauritius ages", "Mauritius image hall",
    "Mauritian mirages", "Mauritania images", "Science photos lively", "Science photo binary",
    "Science motto library", "Seance photo library", "Science photo liability", "Science radio library",
    "Bridgeman mileage", "Bridgemen images", "Ridgeman images", "Bridge man ranges", "Bridesmaid images",
    "Bridge images", "Magnum motors", "Magnum potatoes", "Magnolia photos", "Magnum proofs", "Minimum photos",
    "Magnet photo", "Reuters collects", "Reuters corner", "Routes connect", "Computers connect", "Neuters connect",
    "Reutter connect", "APP photo", "AFC photos", "Leaf photo", "Corbin mages", "Corbis garages", "Corgi images",
    "Orbis images", "Cobbs images", "Envato element shop", "Invite elements", "Elevate elements", "Enact elements",
    "Novato elements", "Shutter stop", "Shutter rock", "Shutters stack", "Shelter stock", "Cutter stock",
    "Shutter stick", "Stutter stock", "Dream stem", "Dreams time out", "Dream tame", "Dream slime", "Dreamy time",
    "Dream tile", "Steam time", "Deposit photo", "Deposit photon", "Deposit plots", "Deposit ghosts",
    "Deposit of photos", "Reposit photos", "Big sock", "Bag stock photo", "Big stork photo", "Bigger stock",
    "Wig stock", "Stock fold", "Stock ford", "Socks, food", "Stock foot", "Smock food", "Master fire", "Master fine",
    "Faster file", "Master lifts", "Plaster file", "Robert Harling", "Robert Hard", "Robert Hardinge",
    "Robert Hanging", "Albert Harding", "Panther mania", "Panther medley", "Banter media", "Panther medic",
    "Feature pies", "Feature ticks", "Nature pics", "Photo cage", "Photo cases", "Photo care", "Photo vase",
    "Wave break mania", "Wave breaks media", "Wave freak media", "Think sock", "Thank stock", "Think stork",
    "Chink stock", "Color box art", "Colour bag", "Colour boxer", "Crush pixels", "Brush pixels", "Crush pistol",
    "Hay images", "Yay, imagine", "May images", "Way images", "Stock in limited", "Stock united", "Shock unlimited",
    "Story blocked", "Store blocks", "Storey blocks", "Sorry blocks", "Free pies", "Free pike", "Fresh pik",
    "Vecteur easy", "Vector ease", "Photo Lia", "Foto Lidia", "Fortolia", "Pond 5 m deep", "Stocks", "Picture fair",
    "Eye 'em", "iStoic", "Stock photos", "My stock photo", "Old stock photo", "Rolling stock photo", "In stock",
)  # fmt: skip
# The letters of a brand in other words, or one or two letters away from them: nobody but a reader of meaning tells them
# apart. Counted on their own.
NEAR = (
    "Betty's Images", "Get images here", "Shuttle stock", "Deposit photos here", "Dream time tours", "Master file",
    "Robert Harding Road", "Stock food shelf", "Photo case study", "Think stack", "Yay! Images",
    "Story block", "Envelope elements", "Crushed pixel", "Colour box", "Color boxes",
)  # fmt: skip
# What stands on streets, shops and papers.
ORDINARY = (
    "STOP", "Exit", "Main Street", "Bakery", "Pharmacy", "No entry", "Ladies & Gentlemen", "Open 9-5", "Sale -50%",
    "Hotel", "Museum of Modern Art", "Coffee", "Post office", "Platform 4", "Taxi", "Library", "Town Hall",
    "Welcome to our village", "Private property", "Beware of the dog", "Speed limit 30", "School", "Toilets",
    "Elm Street 123", "Menu of the day", "Photography forbidden", "Images of the past", "Stock exchange",
    "Gallery", "Kiosk", "Ice cream", "Happy birthday", "Made with care", "All rights reserved", "Copyright 2026",
    "Photo: private", "Breaking news", "Chapter one", "To be continued", "Best before", "Handle with care",
    "Rue de la Paix", "Bahnhofstrasse", "Plaza Mayor", "Via Roma", "Fire extinguisher", "Lift out of order",
)  # fmt: skip

Picture = tuple[str, Callable[[], Pixels]]


def read(path: Path) -> Pixels:
    """A picture with `LONG_SIDE` pixels on its longer side; transparent parts are white."""
    image = Image.fromarray(decode(path.read_bytes()).pixels)
    scale = LONG_SIDE / max(image.size)
    size = (max(SMALLEST, round(image.width * scale)), max(SMALLEST, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def sign(number: int, mistaken: tuple[str, ...], grounds: list[Path]) -> Pixels:
    """A picture with one to four lines of words; the first and about half of the others are from `mistaken`."""
    chance = random.Random(SEED + number)  # noqa: S311 (no secret)
    if grounds and chance.random() < 0.5:
        image = Image.fromarray(read(chance.choice(grounds)))
    else:
        image = Image.new("RGB", (LONG_SIDE, chance.choice((360, 480, 640))), _colour(chance))
    for line in range(chance.randint(1, 4)):
        words = chance.choice(ORDINARY if line and chance.random() < 0.5 else mistaken)
        words = chance.choice((str, str.upper, str.lower))(words)
        face = ImageFont.truetype(chance.choice(FONTS), chance.randint(14, 56))
        width, height = (int(value) + 8 for value in face.getbbox(words)[2:])
        plate = Image.new("RGBA", (width, height), (*_colour(chance), chance.choice((0, 120, 255))))
        ImageDraw.Draw(plate).text((4, 2), words, font=face, fill=(*_colour(chance), chance.randint(120, 255)))
        plate = plate.rotate(chance.choice((0, 0, 0, 0, 5, -5, 30)), expand=True)
        at = (chance.randint(0, max(0, image.width - width)), chance.randint(0, max(0, image.height - height)))
        image.paste(plate, at, plate)
    return np.asarray(image)


def _colour(chance: random.Random) -> tuple[int, int, int]:
    return chance.randint(0, 255), chance.randint(0, 255), chance.randint(0, 255)


def collect(folders: list[Path], each: int, signs: int) -> list[Picture]:
    """Every picture with its name, shuffled; each fresh phrase is on one sign."""
    chance, paths = random.Random(SEED), []  # noqa: S311 (no secret)
    for folder in folders:
        own = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        paths += chance.sample(own, min(each, len(own)))
    grounds = [path for path in paths if path.suffix.lower() in (".jpg", ".jpeg")]
    pictures: list[Picture] = [(str(path), partial(read, path)) for path in paths]
    pictures += [(f"sign {number}", partial(sign, number, CONFUSABLE, grounds)) for number in range(signs)]
    pictures += [(f"near {number}", partial(sign, number, NEAR, grounds)) for number in range(signs // 10)]
    pictures += [
        (f"phrase {number}", partial(sign, number, (text,), grounds)) for number, text in enumerate(FRESH_PHRASES)
    ]
    chance.shuffle(pictures)
    return pictures


def accused_as_text(phrases: Sequence[str]) -> list[str]:
    """The phrases that count as a mark when every letter is read rightly."""
    (concept,) = shipped_pack().of_kind("ocr")
    words = ((text, Word(text=text, confidence=1.0, box=(0, 0, 10 * len(text), 20))) for text in phrases)
    return [text for text, word in words if find_brands([word], concept.words, concept.negatives)]


def answers(pictures: list[Picture], record: Path) -> Iterator[dict[str, object]]:
    """One line a picture, from the record as far as it goes; unreadable pictures have no score."""
    known = [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    yield from known
    done, screen = {one["picture"] for one in known}, VisibleMarks()
    with record.open("a") as file:
        for name, load in pictures:
            if name in done:
                continue
            try:
                reading = screen.score(load())
                one = {"picture": name, "score": max(reading.scores.values()), **reading.evidence.get("stock-mark", {})}
            except GuardrailsError as error:
                one = {"picture": name, "error": error.message}
            file.write(json.dumps(one) + "\n")
            file.flush()
            yield one


def main(folders: list[Path], each: int, signs: int, record: Path) -> None:
    """Print the table."""
    for title, phrases in (("confusable", CONFUSABLE), ("phrases", PHRASES), ("fresh phrases", FRESH_PHRASES)):
        accused = accused_as_text(phrases)
        print(f"as text, {title}: {len(accused)} of {len(phrases)} {accused}", flush=True)
    pictures = collect(folders, each, signs)
    threshold = min(rule.threshold for rule in load_policy("default").screen_rules if rule.screen == NAME)
    counts = {kind: [0, 0] for kind in (*map(str, folders), "sign", "phrase", "near", "all others")}
    for one in answers(pictures, record):
        if "score" not in one:
            continue
        held = float(str(one["score"])) >= threshold
        for kind, count in counts.items():
            name = str(one["picture"])
            if name.startswith(kind) or (kind == "all others" and not name.startswith(("near", "phrase"))):
                count[0] += held
                count[1] += 1
        if held:
            print(f"accused: {one}", flush=True)
    for kind, (hits, n) in counts.items():
        if n:
            print(f"{kind}: {hits} of {n} at {threshold} (at most {clopper_pearson_upper(hits, n):.2%})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Count pictures that are accused without reason.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--each", type=int, default=1000)
    parser.add_argument("--signs", type=int, default=800)
    parser.add_argument("--record", type=Path, required=True)
    options = parser.parse_args()
    main(options.folders, options.each, options.signs, options.record)
