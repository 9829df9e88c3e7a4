"""Tenants, keys, limits and accounts: who gets in, how far, and that it is written down."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from guardrails.cli import main
from guardrails.errors import KeyMaterialError, OptionError
from service.access.keys import ApiKeys
from service.access.limits import RateLimiter
from service.access.persons import Persons
from service.access.secrets import Secrets
from service.access.tenants import Tenants
from service.settings import Settings
from service.stores import Database, open_database
from service.testing import Running, start_service

PROMPT = "a red apple"
PASSWORD = "a long enough password"


@pytest.fixture
def keys(database_address: str, tmp_path: Path) -> ApiKeys:
    database = open_database(Settings(home=tmp_path, database=database_address))
    Tenants(database).add("acme")
    return ApiKeys(database, Secrets(b"pepper" * 8))


def moderate(client: Any) -> None:
    client.moderations.create(input="a fox", extra_body={"guardrails": {"depth": "rules"}})


# --- Keys --------------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_kept_as_a_digest(keys: ApiKeys) -> None:
    written, made = keys.create("acme", ("generate",))
    assert written.startswith(f"sk-{made.id}-")
    assert len(written) > 50
    found = keys.find(written)
    assert found is not None
    assert found.scopes == {"generate"}
    stored = str(keys._database.all("SELECT * FROM api_keys"))
    assert written not in stored
    assert written.rpartition("-")[2] not in stored


@pytest.mark.parametrize(
    "change", [lambda k: k[:-1], lambda k: k + "x", lambda k: k.upper(), lambda k: "", lambda k: "é"]
)
def test_a_key_that_is_almost_right_is_wrong(keys: ApiKeys, change: Any) -> None:
    written, _ = keys.create("acme", ("generate",))
    assert keys.find(change(written)) is None


def test_another_pepper_knows_no_key(keys: ApiKeys) -> None:
    written, _ = keys.create("acme", ("generate",))
    assert ApiKeys(keys._database, Secrets(b"other!" * 8)).find(written) is None


def test_keys_expire(keys: ApiKeys) -> None:
    written, made = keys.create("acme", ("generate",), days=1)
    assert keys.find(written) is not None
    keys.expire(made.id, time.time() - 1)
    assert keys.find(written) is None
    # A key that has ended cannot be given more time.
    keys.expire(made.id, time.time() + 1000)
    assert keys.find(written) is None


def test_rotation_keeps_the_old_key_for_a_while(keys: ApiKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=time.time())
    monkeypatch.setattr("service.access.keys.time", SimpleNamespace(time=lambda: clock.now))
    old, made = keys.create("acme", ("generate", "verify"), name="ci")
    new, other = keys.rotate(made.id, overlap=30)
    assert (other.scopes, other.name) == (made.scopes, "ci")
    clock.now += 29
    assert keys.find(old) is not None
    clock.now += 2
    assert keys.find(old) is None
    assert keys.find(new) is not None


def test_an_unknown_scope_is_no_scope(keys: ApiKeys) -> None:
    with pytest.raises(OptionError):
        keys.create("acme", ("everything",))


def test_the_pepper_is_made_once_and_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Secrets.load_or_create(tmp_path)
    assert Secrets.load_or_create(tmp_path).mac("x", "y") == first.mac("x", "y")
    assert first.mac("x", "y") != first.mac("z", "y")
    assert first.mac("x", "ab", "c") != first.mac("x", "a", "bc")
    (tmp_path / "pepper").chmod(0o644)
    with pytest.raises(KeyMaterialError):
        Secrets.load_or_create(tmp_path)
    monkeypatch.setenv("GUARDRAILS_SERVICE_PEPPER", "00" * 16)
    with pytest.raises(KeyMaterialError):
        Secrets.load_or_create(tmp_path)


# --- Limits ------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(database_address: str, tmp_path: Path) -> Database:
    return open_database(Settings(home=tmp_path, database=database_address))


def test_a_bucket_fills_again(database: Database) -> None:
    limiter = RateLimiter(database, Secrets(b"pepper" * 8))
    standings = [limiter.take("a", 600) for _ in range(601)]
    assert [standing.remaining for standing in standings[:2]] == [599, 598]
    time.sleep(0.25)
    assert limiter.take("a", 600).retry == 0
    assert limiter.take("b", 1).retry == 0
    assert limiter.take("b", 1).retry > 50


def test_two_processes_share_one_bucket(database: Database) -> None:
    limiters = [RateLimiter(database, Secrets(b"pepper" * 8)) for _ in range(2)]
    started, passed = time.monotonic(), 0
    for number in range(1000):
        passed += limiters[number % 2].take("a", 240).retry == 0
    filled = 4 * (time.monotonic() - started)
    # What a stalled machine leaves unspent for a second is lost, never given twice.
    assert 120 <= passed <= 240 + filled
    assert "a" not in {row["name"] for row in database.all("SELECT name FROM buckets")}


def test_who_is_refused_does_not_cost_the_database_a_write(database: Database) -> None:
    limiter = RateLimiter(database, Secrets(b"pepper" * 8))
    limiter.take("a", 1)
    limiter.take("a", 1)
    before = database.all("SELECT * FROM buckets")
    retries = [limiter.take("a", 1).retry for _ in range(100)]
    assert database.all("SELECT * FROM buckets") == before
    assert retries == sorted(retries, reverse=True)
    assert retries[-1] > 0


def test_full_buckets_are_forgotten(database: Database) -> None:
    limiter = RateLimiter(database, Secrets(b"pepper" * 8))
    limiter.take("a", 10)
    limiter.forget_full()
    assert len(database.all("SELECT * FROM buckets")) == 1
    with database.transaction() as transaction:
        transaction.run("UPDATE buckets SET at = at - 61")
    limiter.forget_full()
    assert database.all("SELECT * FROM buckets") == []


def test_a_bucket_that_is_forgotten_while_it_is_drawn_from(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, cleaning = (RateLimiter(database, Secrets(b"pepper" * 8)) for _ in range(2))
    limiter.take("a", 10)
    with database.transaction() as transaction:
        transaction.run("UPDATE buckets SET at = at - 61")
    run = type(transaction).run

    def forgotten_after(transaction: Any, query: str, *values: object) -> int:
        changed = run(transaction, query, *values)
        if query.startswith("INSERT INTO buckets"):
            # It may have to wait until the bucket is drawn from.
            thread = threading.Thread(target=cleaning.forget_full, daemon=True)
            thread.start()
            threads.append(thread)
            thread.join(1)
        return changed

    threads: list[threading.Thread] = []
    monkeypatch.setattr(type(transaction), "run", forgotten_after)
    assert RateLimiter(database, Secrets(b"pepper" * 8)).take("a", 10).retry == 0
    threads[0].join(60)
    assert len(database.all("SELECT * FROM buckets")) == 1


def test_a_limit_holds_over_two_api_processes(service: Running) -> None:
    other = start_service(service.home, role="api")
    try:
        key = service.add_key("two-doors", requests_per_minute=20)
        clients = [service.client(key, max_retries=0), other.client(key, max_retries=0)]
        started, passed = time.monotonic(), [0, 0]
        for number in range(50):
            with contextlib.suppress(openai.RateLimitError):
                moderate(clients[number % 2])
                passed[number % 2] += 1
        assert min(passed) >= 5
        assert 20 <= sum(passed) <= 20 + 1 + (time.monotonic() - started) * 20 / 60
    finally:
        other.stop()


def test_requests_per_minute(service: Running) -> None:
    client = service.client(service.add_key("slow", requests_per_minute=2), max_retries=0)
    raw = client.moderations.with_raw_response.create(input="a fox")
    assert raw.headers["x-ratelimit-limit-requests"] == "2"
    assert raw.headers["x-ratelimit-remaining-requests"] == "1"
    moderate(client)
    with pytest.raises(openai.RateLimitError) as refused:
        moderate(client)
    assert refused.value.code == "rate_limit_exceeded"
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 31
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_pictures_per_day(service: Running) -> None:
    client = service.client(service.add_key("poor", images_per_day=2), max_retries=0)
    client.images.generate(prompt=PROMPT, n=2)
    with pytest.raises(openai.RateLimitError) as refused:
        client.images.generate(prompt=PROMPT)
    assert refused.value.code == "quota_exceeded"


def test_a_suspended_tenant(service: Running) -> None:
    key = service.add_key("gone")
    service.admin.tenants.change("gone", suspended=True)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        moderate(service.client(key, max_retries=0))
    assert refused.value.code == "tenant_suspended"


def test_a_pinned_policy_that_has_changed_decides_nothing(service: Running) -> None:
    digest = service.admin.digest_of("")
    key = service.add_key("pinned", policy="default", policy_digest=digest)
    moderate(service.client(key, max_retries=0))
    other = service.add_key("stale", policy="default", policy_digest="0" * 64)
    with pytest.raises(openai.BadRequestError) as refused:
        service.client(other, max_retries=0).images.generate(prompt=PROMPT)
    assert refused.value.code == "invalid_option"


def test_a_bound_tenant_cannot_choose_another_policy(service: Running) -> None:
    client = service.client(service.add_key("bound", policy="default"), max_retries=0)
    answer = client.images.generate(prompt=PROMPT, extra_body={"guardrails": {"policy": "no-such-pack"}})
    assert answer.data[0].model_extra["guardrails"]["policy"].startswith("default@")
    with pytest.raises(openai.BadRequestError):
        service.client(max_retries=0).images.generate(
            prompt=PROMPT, extra_body={"guardrails": {"policy": "no-such-pack"}}
        )


# --- Visible labels ----------------------------------------------------------------------------------------------


def label_of(client: Any, **guardrails: Any) -> dict[str, Any] | None:
    answer = client.images.generate(prompt=PROMPT, extra_body={"guardrails": guardrails})
    told: dict[str, Any] = answer.data[0].model_extra["guardrails"]
    return told["label"]


def test_a_request_adds_to_its_tenants_labels_and_cannot_leave_them(service: Running) -> None:
    chinese = service.client(service.add_key("chinese", jurisdiction="CN"), max_retries=0)
    # Another jurisdiction is a place to add the rules of, no way around one's own.
    for guardrails in ({}, {"jurisdiction": "US"}, {"labels": []}):
        label = label_of(chinese, **guardrails)
        assert label is not None
        assert (label["text"], set(label["profiles"])) == ("AI生成", {"cn"})
        assert label["contrast"] >= 4.5
    both = label_of(chinese, labels=["eu"])
    assert both is not None
    assert (both["text"], set(both["profiles"])) == ("AI生成 AI GENERATED", {"cn", "eu"})

    publisher = service.client(service.add_key("publisher", labels=("eu",)), max_retries=0)
    assert (label_of(publisher) or {})["text"] == "AI GENERATED"
    assert label_of(service.client(max_retries=0)) is None
    assert (label_of(service.client(max_retries=0), jurisdiction="CN") or {})["text"] == "AI生成"


def test_everyone_on_this_machine_can_be_given_a_jurisdiction_too(home: Path) -> None:
    running = start_service(home, auth="none")
    try:
        client = running.client("any", max_retries=0)
        assert label_of(client) is None
        running.admin.tenants.add("local", jurisdiction="CN")
        assert (label_of(client) or {})["text"] == "AI生成"
    finally:
        running.stop()


def test_an_unknown_label_is_the_callers_mistake(service: Running) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        label_of(service.client(max_retries=0), labels=["atlantis"])
    assert (refused.value.code, refused.value.param) == ("invalid_value", "guardrails.labels")


@pytest.mark.parametrize("settings", [{"labels": ("atlantis",)}, {"jurisdiction": "cn"}])
def test_a_tenant_is_not_given_what_would_draw_no_label(
    database_address: str, tmp_path: Path, settings: dict[str, Any]
) -> None:
    tenants = Tenants(open_database(Settings(home=tmp_path, database=database_address)))
    tenants.add("acme", labels=("eu", "cn"), jurisdiction="US-CA")
    with pytest.raises(OptionError):
        tenants.change("acme", **settings)
    kept = tenants.get("acme")
    assert (kept.labels, kept.jurisdiction) == (("eu", "cn"), "US-CA")


# --- Accounts ----------------------------------------------------------------------------------------------------


def test_accounts(database_address: str, tmp_path: Path) -> None:
    database = open_database(Settings(home=tmp_path, database=database_address))
    persons = Persons(database, Secrets(b"pepper" * 8))
    persons.add("maria", PASSWORD, ("reviewer",))
    assert PASSWORD not in str(database.all("SELECT * FROM users"))
    assert persons.sign_in("maria", "wrong", 60) is None
    assert persons.sign_in("nobody", PASSWORD, 60) is None
    token = persons.sign_in("maria", PASSWORD, 60)
    assert token is not None
    assert token not in str(database.all("SELECT * FROM sessions"))
    session = persons.session(token)
    assert session is not None
    assert session.person.may("reviewer")
    assert not session.person.may("admin")
    persons.set_password("maria", "another long password")
    assert persons.session(token) is None
    expired = persons.sign_in("maria", "another long password", -1)
    assert expired is not None
    assert persons.session(expired) is None
    persons.disable("maria")
    assert persons.sign_in("maria", "another long password", 60) is None
    for name, password, roles in (("maria", PASSWORD, ("reviewer",)), ("a b", PASSWORD, ("reviewer",)),
                                  ("eve", "short", ("reviewer",)), ("eve", PASSWORD, ("king",))):  # fmt: skip
        with pytest.raises(OptionError):
            persons.add(name, password, roles)


# --- The command line --------------------------------------------------------------------------------------------


def call(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    status = main(["admin", *map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_administrators_act_by_command_and_every_act_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", tmp_path]
    (tmp_path / "password").write_text(PASSWORD + "\n")
    assert call(capsys, "tenant", "add", "demo", "--requests-per-minute", 60, *home)[1]["requests_per_minute"] == 60
    status, made = call(capsys, "key", "add", "demo", "--scope", "generate", *home)
    assert status == 0
    _, rotated = call(capsys, "key", "rotate", made["id"], *home)
    assert rotated["key"] != made["key"]
    assert call(capsys, "key", "revoke", rotated["id"], *home)[1]["expires_at"] <= time.time()
    _, account = call(
        capsys, "user", "add", "maria", "--role", "admin", "--password-file", tmp_path / "password", *home
    )
    assert account["roles"] == ["admin"]
    pinned = call(capsys, "tenant", "set", "demo", "--policy", "default", "--pin", *home)[1]
    assert len(pinned["policy_digest"]) == 64
    assert call(capsys, "tenant", "set", "demo", "--label", "cn", "--label", "eu", *home)[1]["labels"] == ["cn", "eu"]
    assert call(capsys, "tenant", "set", "demo", "--name", "Demo", *home)[1]["labels"] == ["cn", "eu"]
    assert call(capsys, "tenant", "set", "demo", "--label", "", *home)[1]["labels"] == []
    call(capsys, "user", "disable", "maria", *home)
    _, acts = call(capsys, "audit", *home)
    assert [act["action"] for act in reversed(acts)] == [
        "tenant.add", "key.add", "key.rotate", "key.revoke", "user.add", *["tenant.set"] * 4, "user.disable",
    ]  # fmt: skip
    assert all(act["actor"].startswith("cli:") for act in acts)
    kept = json.dumps(acts)
    assert PASSWORD not in kept
    assert made["key"] not in kept
    assert len(call(capsys, "key", "list", "demo", *home)[1]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["tenant", "add", "Not Plain"],
        ["tenant", "set", "nobody", "--name", "x"],
        ["tenant", "add", "demo", "--label", "atlantis"],
        ["tenant", "add", "demo", "--jurisdiction", "cn"],
        ["key", "add", "nobody", "--scope", "generate"],
        ["key", "revoke", "nothing"],
        ["tenant", "webhook", "nobody", "https://example.com/"],
    ],
)
def test_what_administrators_cannot_do(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, document = call(capsys, *words, "--home", tmp_path)
    assert (status, document["error"]["code"]) == (2, "invalid_option")
    assert document["error"]["hint"]
