"""`guardrails admin`: tenants, API keys and accounts of the service; every act is written down."""

from __future__ import annotations

import base64
import getpass
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import home_option, json_option, print_facts, print_heading, print_json, print_table
from guardrails.errors import OptionError

if TYPE_CHECKING:
    from service.administration import Administration

EPILOG = """\b
Examples
  guardrails admin tenant add demo --requests-per-minute 60
  guardrails admin key add demo --scope generate --scope moderate --scope verify
  guardrails admin user add maria --role reviewer --role auditor
  guardrails admin takedown 6f0c7b0e-5d0f-4c62-9d0a-0c9a3f6f2b11 --ground "claim of the rights holder"
  guardrails admin audit
"""
config_option = click.option(
    "--config", type=click.Path(path_type=Path), envvar="GUARDRAILS_SERVICE_CONFIG", help="TOML file of the service."
)


@click.group(name="admin", epilog=EPILOG)
def command() -> None:
    """Make tenants, API keys and accounts; take pictures down; read who changed what."""


@command.group()
def tenant() -> None:
    """Whoever is a customer of the service."""


def _limits(function: Any) -> Any:
    """The settings of a tenant as options."""
    options = [
        click.option("--name", help="For people."),
        click.option("--policy", help="Pack that it is bound to."),
        click.option("--pin", is_flag=True, help="Bind it to the pack's present digest too."),
        click.option("--jurisdiction", help="ISO 3166 code of where its pictures are asked for."),
        click.option(
            "--label", "labels", multiple=True, help='Visible label on all of its pictures: cn, eu or us; "" for none.'
        ),
        click.option("--requests-per-minute", type=click.IntRange(min=0), help="0 is no limit."),
        click.option("--images-per-day", type=click.IntRange(min=0), help="0 is no limit."),
        click.option("--concurrent-jobs", type=click.IntRange(min=0), help="0 is no limit."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@tenant.command("add")
@click.argument("id")
@_limits
@config_option
@home_option
@json_option
def tenant_add(id: str, pin: bool, config: Path | None, home: Path | None, as_json: bool, **settings: Any) -> int:
    """Add the tenant ID."""
    admin = _open(config, home)
    given = _given(admin, settings, pin)
    made = admin.tenants.add(id, also=admin.noting("tenant.add", id, given), **given)
    return _show("TENANT", made.id, made, as_json)


@tenant.command("set")
@click.argument("id")
@_limits
@click.option("--suspended/--active", default=None, help="A suspended tenant is refused everything.")
@config_option
@home_option
@json_option
def tenant_set(id: str, pin: bool, config: Path | None, home: Path | None, as_json: bool, **settings: Any) -> int:
    """Change the tenant ID."""
    admin = _open(config, home)
    given = _given(admin, settings, pin)
    if not given:
        raise OptionError("nothing to change was given", hint="see `guardrails admin tenant set --help`")
    changed = admin.tenants.change(id, also=admin.noting("tenant.set", id, given), **given)
    return _show("TENANT", changed.id, changed, as_json)


@tenant.command("webhook")
@click.argument("id")
@click.argument("url")
@config_option
@home_option
@json_option
def tenant_webhook(id: str, url: str, config: Path | None, home: Path | None, as_json: bool) -> int:
    """Send notices of the tenant ID to URL ("" for nowhere), signed with a new secret; the last one stays good."""
    from service.jobs.webhooks import check_address

    admin = _open(config, home)
    if url:
        check_address(url, admin.settings.webhook_hosts)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    kept = (secret, *admin.tenants.get(id).webhook_secrets[:1]) if url else ()
    noting = admin.noting("tenant.webhook", id, {"url": url})
    admin.tenants.change(id, also=noting, webhook_url=url, webhook_secrets=kept)
    if as_json:
        print_json({"tenant": id, "url": url, "secret": secret if url else None})
        return 0
    print_heading("WEBHOOK", id, style="green", explanation="The secret is shown this once.")
    print_facts([("url", url or "none"), ("secret", secret if url else "none")])
    return 0


@tenant.command("list")
@config_option
@home_option
@json_option
def tenant_list(config: Path | None, home: Path | None, as_json: bool) -> int:
    """All tenants."""
    admin, day = _open(config, home), datetime.now(UTC).date().isoformat()
    tenants = admin.tenants.all()
    if as_json:
        print_json([_without_secrets(one) | {"images_today": admin.tenants.images_on(one.id, day)} for one in tenants])
        return 0
    rows = [
        (one.id, "suspended" if one.suspended else "active", one.policy or "default", str(one.requests_per_minute),
         f"{admin.tenants.images_on(one.id, day)}/{one.images_per_day or '-'}")
        for one in tenants
    ]  # fmt: skip
    print_table(("tenant", "state", "policy", "requests/min", "images today"), rows)
    return 0


@command.group()
def key() -> None:
    """API keys: shown once, kept as a keyed digest."""


@key.command("add")
@click.argument("tenant")
@click.option("--scope", "scopes", multiple=True, required=True, help="What it may do; can be given several times.")
@click.option("--name", default="", help="For people.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="How long it is good.  [default: for ever]")
@config_option
@home_option
@json_option
def key_add(
    tenant: str, scopes: tuple[str, ...], name: str, days: float | None, config: Path | None, home: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """A new key for TENANT. Scopes: generate, moderate, verify, review, admin, report."""
    admin = _open(config, home)
    admin.tenants.get(tenant)
    id = admin.keys.new_id()
    noting = admin.noting("key.add", id, {"tenant": tenant, "scopes": sorted(scopes)})
    written, made = admin.keys.create(tenant, scopes, name=name, days=days, id=id, also=noting)
    return _show_key(written, made, as_json)


@key.command("rotate")
@click.argument("id")
@click.option("--overlap", type=click.FloatRange(min=0), default=24.0, show_default=True, help="Hours of the old one.")
@config_option
@home_option
@json_option
def key_rotate(id: str, overlap: float, config: Path | None, home: Path | None, as_json: bool) -> int:
    """A new key like the key ID, which stays good for a while."""
    admin = _open(config, home)
    new_id = admin.keys.new_id()
    noting = admin.noting("key.rotate", id, {"new_key": new_id, "overlap_hours": overlap})
    written, made = admin.keys.rotate(id, overlap * 3600, new_id=new_id, also=noting)
    return _show_key(written, made, as_json)


@key.command("revoke")
@click.argument("id")
@config_option
@home_option
@json_option
def key_revoke(id: str, config: Path | None, home: Path | None, as_json: bool) -> int:
    """End the key ID at once."""
    admin = _open(config, home)
    ended = admin.keys.expire(id, time.time(), also=admin.noting("key.revoke", id))
    return _show("REVOKED", id, ended, as_json)


@key.command("list")
@click.argument("tenant", default="")
@config_option
@home_option
@json_option
def key_list(tenant: str, config: Path | None, home: Path | None, as_json: bool) -> int:
    """All keys, or those of TENANT."""
    keys = _open(config, home).keys.all(tenant)
    if as_json:
        print_json([_plain(one) for one in keys])
        return 0
    rows = [
        (one.id, one.tenant, ",".join(sorted(one.scopes)), _time(one.expires_at, "never"), _time(one.last_used_at, "-"))
        for one in keys
    ]
    print_table(("key", "tenant", "scopes", "expires", "last used"), rows)
    return 0


@command.group()
def user() -> None:
    """People who sign in to the pages."""


@user.command("add")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help="playground, reviewer, auditor or admin.")
@click.option("--password-file", type=click.Path(path_type=Path), help="First line: the password.  [default: asked]")
@config_option
@home_option
@json_option
def user_add(
    name: str, roles: tuple[str, ...], password_file: Path | None, config: Path | None, home: Path | None, as_json: bool
) -> int:
    """An account for NAME."""
    admin = _open(config, home)
    noting = admin.noting("user.add", name, {"roles": sorted(roles)})
    made = admin.persons.add(name, _password(password_file), roles, also=noting)
    return _show("ACCOUNT", made.id, made, as_json)


@user.command("password")
@click.argument("name")
@click.option("--password-file", type=click.Path(path_type=Path), help="First line: the password.  [default: asked]")
@config_option
@home_option
@json_option
def user_password(name: str, password_file: Path | None, config: Path | None, home: Path | None, as_json: bool) -> int:
    """Give NAME a new password and end all its sessions."""
    admin = _open(config, home)
    admin.persons.set_password(name, _password(password_file), also=admin.noting("user.password", name))
    return _show("ACCOUNT", name, admin.persons.get(name), as_json)


@user.command("disable")
@click.argument("name")
@config_option
@home_option
@json_option
def user_disable(name: str, config: Path | None, home: Path | None, as_json: bool) -> int:
    """Lock NAME out."""
    admin = _open(config, home)
    admin.persons.disable(name, also=admin.noting("user.disable", name))
    return _show("ACCOUNT", name, admin.persons.get(name), as_json)


@user.command("list")
@config_option
@home_option
@json_option
def user_list(config: Path | None, home: Path | None, as_json: bool) -> int:
    """All accounts."""
    people = _open(config, home).persons.all()
    if as_json:
        print_json([_plain(one) for one in people])
        return 0
    rows = [(one.id, ",".join(sorted(one.roles)), "locked" if one.disabled else "active") for one in people]
    print_table(("account", "roles", "state"), rows)
    return 0


@command.command()
@click.argument("record")
@click.option("--ground", required=True, help="Why; kept in the erasable part of the takedown's record.")
@config_option
@home_option
@json_option
def takedown(record: str, ground: str, config: Path | None, home: Path | None, as_json: bool) -> int:
    """Give out the picture of RECORD no more."""
    admin = _open(config, home)
    admin.takedowns.take_down(record, admin.actor, ground)
    if as_json:
        print_json({"taken_down": record})
        return 0
    print_heading("TAKEN DOWN", record, style="green")
    return 0


@command.command()
@click.option("--count", type=click.IntRange(min=1), default=50, show_default=True, help="Newest acts to show.")
@config_option
@home_option
@json_option
def audit(count: int, config: Path | None, home: Path | None, as_json: bool) -> int:
    """Who changed what, the newest first."""
    rows = _open(config, home).audit.newest(count)
    if as_json:
        print_json(rows)
        return 0
    print_table(
        ("when", "who", "act", "on", "details"),
        [(_time(row["at"], ""), row["actor"], row["action"], row["subject"], str(row["details"])) for row in rows],
    )
    return 0


def _open(config: Path | None, home: Path | None) -> Administration:
    from service.administration import Administration
    from service.settings import load

    return Administration.open(load(config, home=home), actor=f"cli:{getpass.getuser()}")


def _given(admin: Administration, settings: dict[str, Any], pin: bool) -> dict[str, Any]:
    given = {name: value for name, value in settings.items() if value not in (None, ())}
    if "labels" in given:
        given["labels"] = tuple(filter(None, given["labels"]))
    if "policy" in given or pin:
        digest = admin.digest_of(given.get("policy", ""))
        given["policy"] = given.get("policy") or admin.settings.policy
        given["policy_digest"] = digest if pin else ""
    return given


def _password(file: Path | None) -> str:
    if file is None:
        return str(click.prompt("password", hide_input=True, confirmation_prompt=True))
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0]
    except OSError as error:
        raise OptionError(f"cannot read {file}: {error.strerror or error}", hint="name a readable file") from error


def _show_key(written: str, made: Any, as_json: bool) -> int:
    if as_json:
        print_json({"key": written, **_plain(made)})
        return 0
    print_heading("KEY", made.id, style="green", explanation="It is shown this once.")
    facts = [("key", written), ("scopes", ", ".join(sorted(made.scopes))), ("expires", _time(made.expires_at, "never"))]
    print_facts(facts)
    return 0


def _show(word: str, subject: str, value: Any, as_json: bool) -> int:
    if as_json:
        print_json(_without_secrets(value))
        return 0
    print_heading(word, subject, style="green")
    print_facts([(name, str(item)) for name, item in _without_secrets(value).items()])
    return 0


def _without_secrets(value: Any) -> dict[str, Any]:
    return {name: item for name, item in _plain(value).items() if name != "webhook_secrets"}


def _plain(value: Any) -> dict[str, Any]:
    items = ((name, getattr(value, name)) for name in value.__slots__)
    return {name: sorted(item) if isinstance(item, frozenset) else item for name, item in items}


def _time(at: float | None, otherwise: str) -> str:
    return otherwise if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
