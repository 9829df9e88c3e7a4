"""Every setting of the service: read from a TOML file and from the environment, checked before anything starts."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from guardrails import home as homes
from guardrails.errors import OptionError

PREFIX = "GUARDRAILS_SERVICE_"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Unsafe = Literal["dev-keys", "no-auth", "no-tls"]


class Settings(BaseModel):
    """One installation of the service. Each field can stand in the file, and in the environment by its upper-case name.

    The environment wins over the file. Lists are separated by commas there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default_factory=homes.home, description="Folder of keys, ledger and the embedded database.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    public_url: str = Field(
        default="", description="Address by which clients reach the service; from host and port when empty."
    )
    database: str = Field(
        default="", description="postgresql://... for many machines; an SQLite file in `home` when empty."
    )
    auth: Literal["keys", "none"] = Field(default="keys", description="`none` lets everyone in as the tenant `local`.")
    allow_insecure: tuple[Unsafe, ...] = Field(
        default=(), description="What may be unsafe on an address that is not loopback: dev-keys, no-auth, no-tls."
    )
    behind_tls: bool = Field(
        default=False, description="A proxy in front speaks HTTPS: cookies are then sent by HTTPS only."
    )
    policy: str = Field(default="default", description="Pack (name or file) of tenants that pin none.")
    policies: tuple[str, ...] = Field(default=(), description="Further packs that a tenant may pin.")
    guard: str = Field(
        default="service.jobs.guards:installed",
        description="Factory `module:function` of the guarded pipeline, see the guide.",
    )
    signing_chain: str = Field(
        default="", description="PEM certificates, leaf first; development keys in `home` when empty."
    )
    signing_key: str = Field(
        default="", description="PEM private key of `signing_chain`; only the signer process reads it."
    )
    signing_anchors: str = Field(
        default="", description="PEM roots by which what is signed with it is verified; the API reads them too."
    )
    signing_socket: str = Field(
        default="", description="Unix socket of this machine's signer; `service/signer.sock` in `home` when empty."
    )
    screens: str = Field(
        default="guardrails.screens:default_screens",
        description="Factory of the screens that moderate incoming pictures; it is given the gallery of `home`.",
    )
    works: str = Field(
        default="guardrails.pipeline.embedded:shipped_index",
        description="Factory of the index of works that the explorer searches.",
    )
    banks: tuple[str, ...] = Field(
        default=(), description="Folders of further indexes of one hash that the explorer searches."
    )
    model: str = Field(default="pocket", description="pocket, a diffusers folder, or a hub id.")
    device: str = Field(default="", description="Torch device of the workers; chosen by itself when empty.")
    workers: int = Field(
        default=1, ge=0, le=64, description="Worker processes on this machine, or on Ray; one for each accelerator."
    )
    batch_pictures: int = Field(
        default=4, ge=1, le=64, description="Pictures that one call of the model draws, also of several requests."
    )
    batch_wait_ms: float = Field(
        default=10.0, ge=0, le=10_000, description="How long a request waits for others to be drawn with."
    )
    ray_gpus: float = Field(
        default=1.0, ge=0, le=64, description="Accelerators that Ray keeps for each worker (`--role ray`)."
    )
    lease_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="A worker that is silent for so long has lost its job."
    )
    max_attempts: int = Field(
        default=2, ge=1, le=10, description="A job that took so many workers with it is quarantined."
    )
    wait_seconds: float = Field(default=300.0, gt=0, le=3600, description="How long a request waits for its pictures.")
    drain_seconds: float = Field(
        default=30.0, ge=0, le=3600, description="How long running work may take after a stop signal."
    )
    queue_limit: int = Field(default=1000, ge=1, description="Jobs that may wait; further ones are answered with 503.")
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Of a JSON body without pictures.")
    max_upload_bytes: int = Field(default=50 << 20, ge=1024, description="Of a body with pictures.")
    asset_seconds: float = Field(default=86400.0, gt=0, description="How long finished pictures can be fetched again.")
    url_seconds: float = Field(
        default=600.0, gt=0, le=86400, description="How long a signed address of a picture is good."
    )
    idempotency_seconds: float = Field(default=86400.0, gt=0, description="How long an Idempotency-Key is remembered.")
    replay_seconds: float = Field(
        default=600.0, ge=0, description="How long a client's retry joins the job it repeats."
    )
    file_seconds: float = Field(
        default=7 * 86400.0, gt=0, description="How long files of batches, and ended batches, are kept."
    )
    file_bytes: int = Field(default=1 << 30, ge=0, description="Of all uploaded files of a tenant together.")
    batch_seconds: float = Field(default=86400.0, gt=0, description="After which the rest of a batch is given up.")
    batch_requests: int = Field(default=5000, ge=1, le=50_000, description="Lines of one batch.")
    batch_jobs: int = Field(default=8, ge=1, description="Jobs of one batch that may be open at once.")
    batches_open: int = Field(default=10, ge=1, description="Batches of a tenant that may be open at once.")
    webhook_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts that webhooks may be sent to; none by default."
    )
    webhook_private: bool = Field(
        default=False, description="Webhooks may also go to private addresses (of these hosts)."
    )
    session_minutes: float = Field(default=480.0, gt=0, description="How long a sign-in to the pages lasts.")
    public_verify: bool = Field(default=True, description="Anyone may ask whether a file came from here, rate-limited.")
    public_per_minute: int = Field(default=30, ge=1, description="Such questions for each address.")
    verify_depth: Literal["fast", "standard", "deep"] = Field(
        default="standard", description="How hard the watermark is looked for when a check does not say."
    )
    resolution: Literal["off", "keys", "public"] = Field(
        default="off",
        description="Who may look manifests up (C2PA Soft Binding Resolution): `off`, `keys` of the scope verify, or"
        " `public`, within `public_per_minute`.",
    )
    time_stamps: bool = Field(
        default=False,
        description="Answer time-stamp requests (RFC 3161) at `/tsa`; the API then reads the keys that"
        " `guardrails tsa init` made.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Of the log on standard error."
    )

    @model_validator(mode="after")
    def _poison_can_be_found(self) -> Settings:
        if self.max_attempts == 1 and self.batch_pictures > 1:
            raise ValueError("1 leaves no second try to find what stopped a batch: set batch_pictures to 1 as well")
        return self

    @property
    def folder(self) -> Path:
        """What the service keeps for itself."""
        return self.home / "service"

    @property
    def assets(self) -> Path:
        """Finished pictures, until they expire."""
        return self.folder / "assets"

    @property
    def uploads(self) -> Path:
        """Pictures that jobs start from, until the job is over."""
        return self.folder / "uploads"

    @property
    def files(self) -> Path:
        """Input and output files of batches, until they expire."""
        return self.folder / "files"

    @property
    def batches(self) -> Path:
        """Answers of batches that are at work, one file for each line."""
        return self.folder / "batches"

    @property
    def signer_socket(self) -> Path:
        """Of one machine: where machines share `home`, each names its own."""
        return Path(self.signing_socket) if self.signing_socket else self.folder / "signer.sock"

    @property
    def base_url(self) -> str:
        """Without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")

    @property
    def policy_names(self) -> tuple[str, ...]:
        """The default pack first."""
        return tuple(dict.fromkeys((self.policy, *self.policies)))


def load(file: Path | None = None, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from a TOML file, the environment and the command line; the later wins.

    Raises:
        OptionError: names the setting and what is wrong with it.
    """
    values: dict[str, Any] = {} if file is None else _read(file)
    variables = os.environ if environment is None else environment
    for name, field in Settings.model_fields.items():
        written = variables.get(PREFIX + name.upper())
        if written is not None:
            values[name] = _items(written) if str(field.annotation).startswith("tuple") else written
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise OptionError(f"setting {name}: {first['msg']}", hint="see docs/service.md, Settings") from error


def refuse_unsafe(settings: Settings, *, dev_keys: bool) -> None:
    """Defaults that are fine on one machine do not leave it unless they are named.

    Raises:
        OptionError: the address is not loopback, and something is unsafe that `allow_insecure` does not name.
    """
    if settings.host in LOOPBACK:
        return
    unsafe: dict[Unsafe, bool] = {
        "dev-keys": dev_keys,
        "no-auth": settings.auth == "none",
        "no-tls": not settings.behind_tls,
    }
    names = [name for name, holds in unsafe.items() if holds and name not in settings.allow_insecure]
    if names:
        raise OptionError(
            f"{settings.host} can be reached from elsewhere, and this is unsafe there: {', '.join(names)}",
            hint="mend it, listen on 127.0.0.1, or name it in `allow_insecure`",
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot read the settings in {file}: {error}", hint="write a TOML file") from error


def _items(written: str) -> tuple[str, ...]:
    return tuple(filter(None, (item.strip() for item in written.split(","))))
