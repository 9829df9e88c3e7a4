"""What people do is a record of the ledger before it takes effect: also when the machine dies in between."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from guardrails.cli.main import main
from guardrails.concurrency import together
from guardrails.domain.records import Record, RecordKind
from guardrails.errors import OptionError, StorageError
from guardrails.ledger import Ledger, export_bundle, opens
from service.access.persons import Persons
from service.administration import Administration
from service.api.context import Context
from service.app import clean, create_app
from service.jobs.model import Job, Status
from service.pages.site import cookie_name
from service.review import Decision
from service.settings import Settings
from service.standing import note_standing
from service.stores import open_ledger

RULE, CATEGORY = "prompt.swimwear", "suggestive"
WORDS = "The swimsuit is worn by a statue in Torquay."


@pytest.fixture
def settings(database_address: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database=database_address)


@pytest.fixture
def context(settings: Settings) -> Context:
    return Context.open(settings)


def records(settings: Settings, *kinds: RecordKind) -> list[Record]:
    with open_ledger(settings) as ledger:
        while ledger.merge():
            pass
        ledger.fsck()
        logged = [ledger.find_by_index(index) for index in range(len(ledger))]
    return [each.record for each in logged if each is not None and (not kinds or each.record.kind in kinds)]


def held(context: Context) -> str:
    """The id of a review of a request that a policy holds."""
    context.tenants.add("acme")
    job = Job(
        id=f"job_{uuid.uuid4().hex}",
        tenant="acme",
        api_key="key",
        kind="generation",
        request={"prompt": "a statue in a swimsuit", "format": "png"},
        ids=(str(uuid.uuid4()),),
        policy="default@sha256:0",
        created_at=time.time(),
    )
    context.table.submit(job)
    lease = context.table.claim("worker")
    assert lease is not None
    context.table.finish(lease, Status.HELD, {"images": [], "blocked": [], "error": None})
    id = str(uuid.uuid4())
    findings = json.dumps([{"rules": [RULE], "categories": [CATEGORY]}])
    with context.database.transaction() as transaction:
        transaction.run(
            "INSERT INTO reviews (id, tenant, job, image, created_at, status, stage, findings, evidence, prompt,"
            " claimed_by, claimed_until, decided_at) VALUES (?, 'acme', ?, ?, 0, 'open', 'prompt', ?, '', '', '', 0,"
            " NULL)",
            id, job.id, job.ids[0], findings,
        )  # fmt: skip
    return id


def decided(context: Context, kind: str = "refusal", id: str = "") -> str:
    """The id of a decision that the service has made."""
    id = id or str(uuid.uuid4())
    with context.database.transaction() as transaction:
        transaction.run(
            "INSERT INTO decisions (id, tenant, job, at, kind, stage, action, categories, rules, policy, prompt_mac,"
            " image_sha256, milliseconds, fault) VALUES (?, 'acme', 'job', 0, ?, '', '', '', ?, '', '', 'ab', 0, '')",
            id, kind, RULE,
        )  # fmt: skip
    return id


def decision(release: bool, reason: str = WORDS) -> Decision:
    return Decision(release=release, category=CATEGORY, rule=RULE, reason=reason)


# --- What is recorded --------------------------------------------------------------------------------------------


def test_both_reviewers_decisions_are_records_that_name_nobody(context: Context, settings: Settings) -> None:
    review = held(context)
    assert context.reviews.decide(review, "maria", decision(True)) == "open"
    assert context.reviews.decide(review, "otto", decision(True, "I agree with her.")) == "released"
    first, second = records(settings, RecordKind.REVIEW)
    assert first.facts == {
        "act": "review.release", "by": "person", "decision": review, "outcome": "open", "rule": RULE,
        "category": CATEGORY,
    }  # fmt: skip
    assert second.facts["outcome"] == "released"
    with open_ledger(settings) as ledger:
        private: Any = ledger.payload(second.id)
    assert (private["act"]["actor"], private["act"]["words"]) == ("person:otto", "I agree with her.")
    for name in ("actor", "subject", "words"):
        assert opens(name, private["act"][name], private["salts"][name], second.commitments[name])
    assert first.commitments["subject"] != second.commitments["subject"]


def test_what_its_client_cancelled_is_not_released_and_its_review_can_be_closed(
    context: Context, settings: Settings
) -> None:
    review = held(context)
    row = context.database.one("SELECT job FROM reviews WHERE id = ?", review)
    assert row is not None
    context.table.cancel(row["job"])
    context.reviews.decide(review, "maria", decision(True))
    with pytest.raises(OptionError, match="does not wait any more"):
        context.reviews.decide(review, "otto", decision(True))
    assert context.reviews.decide(review, "otto", decision(False)) == "refused"
    assert context.table.get(row["job"]).status is Status.CANCELLED
    assert [one.facts["act"] for one in records(settings, RecordKind.REVIEW)] == ["review.release", "review.refuse"]


def test_what_a_reviewer_writes_as_rule_or_category_stays_private(context: Context, settings: Settings) -> None:
    context.reviews.decide(held(context), "maria", Decision(release=False, category="Otto", rule="Otto", reason="No."))
    (record,) = records(settings, RecordKind.REVIEW)
    assert set(record.facts) == {"act", "by", "decision", "outcome"}


def test_appeals_and_every_reply_are_records(context: Context, settings: Settings) -> None:
    context.tenants.add("acme")
    refused = decided(context)
    appeal = context.appeals.open(refused, "acme", WORDS)["id"]
    context.appeals.reply(appeal, "person:maria", "Which statue?")
    context.appeals.reply(appeal, "tenant:acme", "The one in the park.", tenant="acme")
    context.appeals.answer(appeal, "maria", "overturned", "You are right.")
    found = records(settings, RecordKind.APPEAL)
    assert [(record.facts["act"], record.facts["by"]) for record in found] == [
        ("appeal.open", "tenant"), ("appeal.reply", "person"), ("appeal.reply", "tenant"),
        ("appeal.overturned", "person"),
    ]  # fmt: skip
    assert {record.facts["decision"] for record in found} == {refused}
    # The same words again are another act.
    context.appeals.reply(appeal, "tenant:acme", "Thanks.", tenant="acme")
    context.appeals.reply(appeal, "tenant:acme", "Thanks.", tenant="acme")
    assert len(records(settings, RecordKind.APPEAL)) == len(found) + 2


def test_what_is_refused_is_no_act(context: Context, settings: Settings) -> None:
    review = held(context)
    context.reviews.decide(review, "maria", decision(False))
    refused = decided(context)
    appeal = context.appeals.open(refused, "acme", WORDS)["id"]
    context.appeals.answer(appeal, "maria", "upheld", "No.")
    before = len(records(settings))
    for act in (
        lambda: context.reviews.decide(review, "otto", decision(True)),
        lambda: context.appeals.answer(appeal, "otto", "overturned", "Yes."),
        lambda: context.appeals.reply(appeal, "person:otto", " "),
        lambda: context.takedowns.take_down(str(uuid.uuid4()), "person:otto", "Because."),
    ):
        with pytest.raises(OptionError):
            act()
    assert len(records(settings)) == before


def test_administrators_acts_are_records_by_kind(settings: Settings) -> None:
    admin = Administration.open(settings, actor="cli:root")
    admin.tenants.add("acme", also=admin.noting("tenant.add", "acme"))
    bound = {"policy": "default", "policy_digest": admin.digest_of(""), "images_per_day": 7}
    admin.tenants.change("acme", also=admin.noting("tenant.set", "acme", bound), **bound)
    key, new = admin.keys.new_id(), admin.keys.new_id()
    admin.keys.create("acme", ("generate",), id=key, also=admin.noting("key.add", key, {"tenant": "acme"}))
    admin.keys.rotate(key, new_id=new, also=admin.noting("key.rotate", key, {"new_key": new}))
    admin.persons.add("maria", "a long password", ("reviewer",), also=admin.noting("user.add", "maria"))
    found = records(settings)
    assert [record.kind.value for record in found] == [
        "administration", "policy_change", "key_change", "key_change", "administration",
    ]  # fmt: skip
    assert found[1].facts == {
        "act": "tenant.set", "by": "cli", "policy": "default", "policy_digest": bound["policy_digest"]
    }  # fmt: skip
    assert found[3].facts["new_key"] == new
    text = " ".join(f"{record.facts}{record.commitments}" for record in found)
    assert "acme" not in text
    assert "maria" not in text
    assert all(len(row["details"]["record"]) == 36 for row in admin.audit.newest())


def test_a_record_tells_when_another_pack_decides_or_another_key_signs(context: Context, settings: Settings) -> None:
    parts = (context.database, context.reviews._acts, context.policies)
    for chain in (b"one", b"one", b"two", b"one"):
        note_standing(*parts, chain)
    found = records(settings)
    assert [record.facts["act"] for record in found] == ["policy.active", "key.active", "key.active", "key.active"]
    assert found[0].facts["policy_digest"] == context.policies.get().digest
    assert found[1].facts["certificates_sha256"] == found[3].facts["certificates_sha256"]


def test_processes_that_start_at_once_record_once_what_decides(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    contexts = [Context.open(settings) for _ in range(4)]
    starts = [
        lambda one=one: note_standing(one.database, one.reviews._acts, one.policies, b"chain") for one in contexts
    ]
    together(*starts)
    assert [record.facts["act"] for record in records(settings)] == ["policy.active", "key.active"]


# --- Crashes and races -------------------------------------------------------------------------------------------

# In a process of its own, which opens everything itself.
DYING = """
import os, signal, sys
from service import acts
from service.api.context import Context
from service.review import Decision
from service.settings import Settings

acts.add_row = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
context = Context.open(Settings.model_validate_json(sys.argv[1]))
"""
DECIDING = "context.reviews.decide({id!r}, 'maria', Decision(release=%s, category='', rule='', reason='Seen.'))"
ACTS = {
    "review.refuse": DECIDING % False,
    "review.release": DECIDING % True,
    "appeal.open": "context.appeals.open({id!r}, 'acme', 'Why?')",
    "takedown": "context.takedowns.take_down({id!r}, 'person:maria', 'A claim.')",
}
EFFECTS: dict[str, Callable[[Context, str], bool]] = {
    "review.refuse": lambda context, id: context.reviews.get(id)["status"] == "refused",
    "review.release": lambda context, id: len(context.reviews.get(id)["events"]) == 1,
    "appeal.open": lambda context, id: len(context.appeals.waiting()) == 1,
    "takedown": lambda context, id: context.takedowns.is_down(id),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_process_killed_between_the_record_and_the_effect(name: str, context: Context, settings: Settings) -> None:
    """The act is recorded and did not happen; done again, it happens, and there is one record of it."""
    id = held(context) if name.startswith("review") else decided(context, "generation", str(uuid.uuid4()))
    act = ACTS[name].format(id=id)
    command = [sys.executable, "-c", DYING + act, settings.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not EFFECTS[name](context, id)
    assert [record.facts["act"] for record in records(settings)] == [name]
    assert context.database.one("SELECT * FROM audit") is None
    eval(act, {"context": context, "Decision": Decision})
    assert EFFECTS[name](context, id)
    (record,) = records(settings)
    row = context.database.one("SELECT * FROM audit")
    assert row is not None
    assert json.loads(row["details"])["record"] == record.id


def test_without_a_ledger_nothing_takes_effect(
    context: Context, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    review = held(context)

    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full", hint="make room")

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", full)
        with pytest.raises(StorageError):
            context.reviews.decide(review, "maria", decision(False))
    assert context.reviews.get(review)["status"] == "open"
    assert context.reviews.get(review)["events"] == []
    context.reviews.decide(review, "maria", decision(False))
    assert len(records(settings, RecordKind.REVIEW)) == 1


def test_two_reviewers_at_once_are_two(context: Context, settings: Settings) -> None:
    review, begin, outcomes = held(context), threading.Barrier(2), []

    def decide(person: str) -> None:
        begin.wait()
        outcomes.append(context.reviews.decide(review, person, decision(True)))

    threads = [threading.Thread(target=decide, args=(person,)) for person in ("maria", "otto")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["open", "released"]
    assert len(records(settings, RecordKind.REVIEW)) == 2


# --- Takedowns ---------------------------------------------------------------------------------------------------


def test_a_picture_that_was_taken_down_is_given_out_no_more(context: Context, settings: Settings) -> None:
    image = decided(context, "generation")
    file = settings.assets / f"{image}.png"
    file.write_bytes(b"picture")
    name, expires = file.name, str(int(time.time()) + 60)
    address = f"/v1/assets/{name}?expires={expires}&signature={context.secrets.mac('asset', name, expires)}"
    with TestClient(create_app(settings, context)) as client:
        assert client.get(address).status_code == 200
        context.takedowns.take_down(image, "cli:root", "Claim of the rights holder.")
        assert not file.exists()
        # A release that was under way at the time may still put it there.
        file.write_bytes(b"picture")
        answer = client.get(address)
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "taken_down")
    clean(context)
    assert not file.exists()
    with pytest.raises(OptionError, match="already"):
        context.takedowns.take_down(image, "cli:root", "Again.")
    (record,) = records(settings, RecordKind.TAKEDOWN)
    assert record.facts["image"] == image


def test_the_answers_of_a_batch_give_it_out_no_more(context: Context, settings: Settings) -> None:
    down, kept = (decided(context, "generation") for _ in range(2))
    lines = [
        {"custom_id": id, "error": None, "response": {"status_code": 200, "body": {"data": [
            {"b64_json": "cGljdHVyZQ==", "guardrails": {"record_id": id}},
        ]}}}
        for id in (down, kept)
    ]  # fmt: skip
    lines.append({"custom_id": "moderation", "error": None, "response": {"status_code": 200, "body": {"results": []}}})
    id = f"file-{uuid.uuid4().hex}"
    context.files.path(id).parent.mkdir(parents=True, exist_ok=True)
    context.files.path(id).write_text("".join(json.dumps(line) + "\n" for line in lines))
    context.files.register(id, "local", name="answers.jsonl", purpose="batch_output", seconds=60)
    with TestClient(create_app(settings.model_copy(update={"auth": "none"}), context)) as client:
        context.settings = settings.model_copy(update={"auth": "none"})
        before = client.get(f"/v1/files/{id}/content").text.splitlines()
        context.takedowns.take_down(down, "cli:root", "Claim of the rights holder.")
        after = client.get(f"/v1/files/{id}/content").text.splitlines()
    assert [json.loads(line) for line in before] == lines
    withheld = json.loads(after[0])
    assert (withheld["custom_id"], withheld["response"]["status_code"]) == (down, 410)
    assert withheld["response"]["body"]["error"]["code"] == "taken_down"
    assert after[1:] == before[1:]


# --- Where it is seen --------------------------------------------------------------------------------------------


def test_auditors_find_acts_and_their_records(context: Context, settings: Settings) -> None:
    review = held(context)
    context.reviews.decide(review, "maria", decision(False))
    (record,) = records(settings, RecordKind.REVIEW)
    persons = Persons(context.database, context.secrets)
    persons.add("anna", "a long password", ("auditor",))
    token = persons.sign_in("anna", "a long password", 60)
    assert token is not None
    with TestClient(create_app(settings, context), cookies={cookie_name(context): token}) as client:
        for query in ("", "?kind=act", f"?id={review}", f"?id={record.id}", f"?rule={RULE}"):
            page = client.get(f"/audit{query}").text
            assert "review.refuse" in page, query
            assert f"/audit/{record.id}" in page, query
        assert "review.refuse" not in client.get("/audit?kind=refusal").text
        assert "review.refuse" not in client.get("/audit?day=2020-01-01").text
        page = client.get(f"/audit/{record.id}").text
    assert "Proven in the log" in page
    assert "person:maria" in page
    assert WORDS in page


def test_an_export_holds_acts_and_no_names(context: Context, settings: Settings, tmp_path: Path) -> None:
    context.reviews.decide(held(context), "maria", decision(False))
    count, out = len(records(settings)), tmp_path / "records.zip"
    where = ["--home", str(settings.home)]
    if settings.database:
        with open_ledger(settings) as ledger:
            export_bundle(ledger, out, 0, count)
    else:
        assert main(["ledger", "export", "--out", str(out), *where]) == 0
    with zipfile.ZipFile(out) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist())
    assert count == 1
    assert b"review.refuse" in text
    assert b"maria" not in text
    assert b"Torquay" not in text
    assert main(["ledger", "verify", str(out), *where]) == 0
