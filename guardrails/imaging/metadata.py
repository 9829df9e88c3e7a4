"""XMP: the plain-text layer that says "made by a trained algorithm" to every metadata reader."""

from __future__ import annotations

import json
import re
from xml.sax.saxutils import escape

from guardrails.imaging.decoding import DEFAULT_LIMITS, Limits, open_guarded

# IPTC NewsCodes, digital source type: made by a model that was trained on sampled content; mixed with what was there
# before; made by a program that was not trained on anything.
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TRAINED_ALGORITHMIC_MEDIA = f"{_SOURCE_TYPES}trainedAlgorithmicMedia"
COMPOSITE_WITH_TRAINED = f"{_SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"
ALGORITHMIC_MEDIA = f"{_SOURCE_TYPES}algorithmicMedia"

# XML 1.0, section 2.2: characters that no document may contain, escaped or not.
_ILLEGAL_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The byte-order mark and the id are fixed by the XMP specification, part 1, section 7.3.2.
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
   <Iptc4xmpExt:AISystemUsed>{model}</Iptc4xmpExt:AISystemUsed>
   <dc:identifier>{urn}</dc:identifier>
   <xmpMM:DocumentID>{urn}</xmpMM:DocumentID>
   <xmp:CreatorTool>{generator}</xmp:CreatorTool>{aigc}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


# TC260-PG-20258A: one property of this namespace holds the JSON of GB 45438-2025, annex E.
_AIGC = """
   <TC260:AIGC xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/">{value}</TC260:AIGC>"""


def ai_generated_xmp(
    image_id_urn: str, generator: str, model: str, *, edited: bool = False, aigc_producer: str = ""
) -> bytes:
    """An XMP packet that declares a picture AI-made (IPTC Photo Metadata Standard 2025.1).

    Args:
        image_id_urn: the image id, also the manifest's label; becomes dc:identifier and xmpMM:DocumentID.
        generator: the software, for xmp:CreatorTool.
        model: the model's name, for Iptc4xmpExt:AISystemUsed.
        edited: whether the model changed a picture instead of making one.
        aigc_producer: name or code of the provider, for China's file label (GB 45438-2025, annex E); "" leaves it out.

    Returns:
        UTF-8 bytes, read-only packet (signed afterwards, so editing in place is not invited).
    """
    return _PACKET.format(
        source_type=COMPOSITE_WITH_TRAINED if edited else TRAINED_ALGORITHMIC_MEDIA,
        urn=_text(image_id_urn),
        generator=_text(generator),
        model=_text(model),
        aigc=_AIGC.format(value=_text(_aigc(aigc_producer, image_id_urn))) if aigc_producer else "",
    ).encode("utf-8")


def _aigc(producer: str, produce_id: str) -> str:
    """Label 1 is "made by AI". The propagator's fields are for whoever publishes the file; the reserved ones are for
    signatures of the provider's own, which the C2PA manifest has instead."""
    fields = {
        "Label": "1",
        "ContentProducer": producer,
        "ProduceID": produce_id,
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    return json.dumps(fields, ensure_ascii=False)


def read_xmp(data: bytes, limits: Limits = DEFAULT_LIMITS) -> bytes | None:
    """The XMP packet of an image file, unparsed, or None; pixels are not decoded.

    Raises:
        ImageError, ImageTooLarge: as `decoding.decode`.
    """
    with open_guarded(data, limits) as image:
        packet = image.info.get("xmp")
    return packet if isinstance(packet, bytes) else None


def _text(value: str) -> str:
    return escape(_ILLEGAL_IN_XML.sub("\ufffd", value))
