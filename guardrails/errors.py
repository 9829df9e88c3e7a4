"""Every error that the toolkit raises on purpose.

::

    GuardrailsError
    ├── InputError               what the caller gave cannot be used
    │   ├── PromptError          not text, empty, too long, control characters
    │   ├── ImageError           bytes that cannot be decoded as one still picture
    │   │   └── ImageTooLarge    over the byte, pixel or frame limits: refused before pixels are touched
    │   ├── QualityError         the watermark does not survive the file quality that was asked for
    │   ├── PolicyError          a policy document that does not load; names file:line:column
    │   └── OptionError          an option or combination of options that makes no sense
    ├── UnavailableError         something optional is not there
    │   ├── ModelUnavailable     a model folder or hub id cannot be loaded
    │   ├── ScreenUnavailable    a screen has no weights
    │   └── DatasetUnavailable   a source package or data file cannot be had
    ├── EmbeddingError           an encoder or a head gave numbers that are not finite
    ├── GenerationError          the model ran and gave no usable picture, or there was not enough memory
    ├── KeyMaterialError         a signing or watermark key is missing, expired or unusable
    ├── SigningError             the manifest could not be made or did not verify
    │   ├── LaunderingError      a new manifest would have dropped the history that the file carries
    │   └── TimeStampError       a time-stamp authority did not answer, refused, or gave a token that does not verify
    ├── LabelError               a visible label has no room, or cannot be read in the final file
    ├── WatermarkError           the mark could not be embedded or read back
    ├── IndexFormatError         a similarity index is damaged or of another format
    ├── LedgerError              the record could not be written
    │   └── LedgerCorrupt        the log disagrees with its own hashes
    ├── RepositoryError          the repository of manifests is damaged, missing or busy
    └── StorageError             a folder cannot be written, a disk is full

Each carries a stable ``code``, a ``hint`` (the next step), an exit status for the command line and an HTTP status for
the service. What is not listed here is a bug and is not caught, except in ``pipeline/``, which turns it into a Refusal.
"""

from __future__ import annotations


class GuardrailsError(Exception):
    """Base of all errors.

    Args:
        message: one line that names what and where.
        hint: the next step, one line.
    """

    code = "error"
    exit_status = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, object]:
        """The error as the command line prints it with ``--json``."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class InputError(GuardrailsError):
    """What the caller gave cannot be used."""

    code, exit_status, http_status = "invalid_input", 2, 400


class PromptError(InputError):
    """Not text, empty, too long, or control characters."""

    code = "invalid_prompt"


class ImageError(InputError):
    """Bytes that cannot be decoded as one still picture."""

    code = "invalid_image"


class ImageTooLarge(ImageError):
    """Over the byte, pixel or frame limits."""

    code, http_status = "image_too_large", 413


class QualityError(InputError):
    """The watermark does not survive the file quality that was asked for."""

    code = "quality_too_low"


class PolicyError(InputError):
    """A policy document that does not load."""

    code = "invalid_policy"


class OptionError(InputError):
    """An option or combination of options that makes no sense."""

    code = "invalid_option"


class UnavailableError(GuardrailsError):
    """Something optional is not there."""

    code, exit_status, http_status = "unavailable", 5, 503


class ModelUnavailable(UnavailableError):
    """A model folder or hub id cannot be loaded."""

    code = "model_unavailable"


class ScreenUnavailable(UnavailableError):
    """A screen has no weights."""

    code = "screen_unavailable"


class DatasetUnavailable(UnavailableError):
    """A source package or data file cannot be had."""

    code = "dataset_unavailable"


class EmbeddingError(GuardrailsError):
    """An encoder or a head gave numbers that are not finite."""

    code = "embedding_failed"


class GenerationError(GuardrailsError):
    """The model ran and gave no usable picture, or there was not enough memory."""

    code, exit_status, http_status = "generation_failed", 6, 500


class KeyMaterialError(GuardrailsError):
    """A signing or watermark key is missing, expired or unusable."""

    code, exit_status, http_status = "key_unusable", 6, 503


class SigningError(GuardrailsError):
    """The manifest could not be made or did not verify."""

    code, exit_status, http_status = "signing_failed", 6, 503


class LaunderingError(SigningError):
    """A new manifest would have dropped the history that the file carries."""

    code = "history_refused"


class TimeStampError(SigningError):
    """A time-stamp authority did not answer, refused, or gave a token that does not verify."""

    code = "time_stamp_failed"


class LabelError(GuardrailsError):
    """A visible label has no room, or cannot be read in the final file."""

    code, exit_status, http_status = "label_failed", 6, 500


class WatermarkError(GuardrailsError):
    """The mark could not be embedded or read back."""

    code, exit_status, http_status = "watermark_failed", 6, 500


class IndexFormatError(GuardrailsError):
    """A similarity index is damaged or of another format."""

    code, exit_status, http_status = "index_damaged", 7, 500


class LedgerError(GuardrailsError):
    """The record could not be written."""

    code, exit_status, http_status = "ledger_failed", 7, 507


class LedgerCorrupt(LedgerError):
    """The log disagrees with its own hashes."""

    code, http_status = "ledger_corrupt", 500


class RepositoryError(GuardrailsError):
    """The repository of manifests is damaged, missing or busy."""

    code, exit_status, http_status = "repository_failed", 7, 500


class StorageError(GuardrailsError):
    """A folder cannot be written or a disk is full."""

    code, exit_status, http_status = "storage_failed", 7, 507
