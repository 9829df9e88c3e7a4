"""XMP: the plain-text layer that says "made by a trained algorithm" to every metadata reader."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from guardrails.imaging.decoding import DEFAULT_LIMITS, Limits, open_guarded

# IPTC NewsCodes, digital source type: made by a model that was trained on sampled content.
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

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
   <xmp:CreatorTool>{generator}</xmp:CreatorTool>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def ai_generated_xmp(image_id_urn: str, generator: str, model: str) -> bytes:
    """An XMP packet that declares a picture AI-made (IPTC Photo Metadata Standard 2025.1).

    Args:
        image_id_urn: the image id, also the manifest's label; becomes dc:identifier and xmpMM:DocumentID.
        generator: the software, for xmp:CreatorTool.
        model: the model's name, for Iptc4xmpExt:AISystemUsed.

    Returns:
        UTF-8 bytes, read-only packet (signed afterwards, so editing in place is not invited).
    """
    return _PACKET.format(
        source_type=TRAINED_ALGORITHMIC_MEDIA,
        urn=_text(image_id_urn),
        generator=_text(generator),
        model=_text(model),
    ).encode("utf-8")


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
