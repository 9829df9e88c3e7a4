"""The tables, in the SQL that SQLite and PostgreSQL share. Times are seconds since 1970, JSON is text."""

from __future__ import annotations

from collections.abc import Mapping

SQLITE: Mapping[str, str] = {
    "@serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "@real": "REAL",
    "@int": "INTEGER",
}
POSTGRESQL: Mapping[str, str] = {
    "@serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "@real": "DOUBLE PRECISION",
    "@int": "BIGINT",
}

_TABLES = """
CREATE TABLE IF NOT EXISTS tenants (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at @real NOT NULL, suspended @int NOT NULL,
    policy TEXT NOT NULL, policy_digest TEXT NOT NULL, jurisdiction TEXT NOT NULL, labels TEXT NOT NULL,
    requests_per_minute @int NOT NULL, images_per_day @int NOT NULL, concurrent_jobs @int NOT NULL,
    webhook_url TEXT NOT NULL, webhook_secrets TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS api_keys (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL REFERENCES tenants (id), mac TEXT NOT NULL, name TEXT NOT NULL,
    scopes TEXT NOT NULL, created_at @real NOT NULL, expires_at @real, last_used_at @real);
CREATE TABLE IF NOT EXISTS usage (
    tenant TEXT NOT NULL, day TEXT NOT NULL, images @int NOT NULL, PRIMARY KEY (tenant, day));
CREATE TABLE IF NOT EXISTS audit (
    id @serial, at @real NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
    details TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, api_key TEXT NOT NULL, kind TEXT NOT NULL, request TEXT NOT NULL,
    ids TEXT NOT NULL, policy TEXT NOT NULL, status TEXT NOT NULL, stage TEXT NOT NULL, created_at @real NOT NULL,
    updated_at @real NOT NULL, finished_at @real, result TEXT, attempts @int NOT NULL, worker TEXT NOT NULL,
    lease_until @real NOT NULL, cancelled @int NOT NULL, idempotency_key TEXT, body_sha256 TEXT NOT NULL,
    request_id TEXT NOT NULL, form TEXT NOT NULL, trace TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, created_at);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_idempotency_key ON jobs (tenant, idempotency_key);
CREATE INDEX IF NOT EXISTS jobs_by_body ON jobs (tenant, body_sha256);
CREATE INDEX IF NOT EXISTS jobs_by_tenant ON jobs (tenant, created_at);
CREATE TABLE IF NOT EXISTS job_events (
    job TEXT NOT NULL, seq @int NOT NULL, at @real NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (job, seq));
CREATE TABLE IF NOT EXISTS decisions (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, job TEXT NOT NULL, at @real NOT NULL, kind TEXT NOT NULL,
    stage TEXT NOT NULL, action TEXT NOT NULL, categories TEXT NOT NULL, rules TEXT NOT NULL, policy TEXT NOT NULL,
    prompt_mac TEXT NOT NULL, image_sha256 TEXT NOT NULL, milliseconds @real NOT NULL, fault TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS decisions_by_time ON decisions (at);
CREATE INDEX IF NOT EXISTS decisions_by_job ON decisions (job);
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, password TEXT NOT NULL, roles TEXT NOT NULL, created_at @real NOT NULL,
    disabled @int NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, person TEXT NOT NULL REFERENCES users (id), created_at @real NOT NULL,
    expires_at @real NOT NULL);
CREATE TABLE IF NOT EXISTS reviews (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, job TEXT NOT NULL, image TEXT NOT NULL, created_at @real NOT NULL,
    status TEXT NOT NULL, stage TEXT NOT NULL, findings TEXT NOT NULL, evidence TEXT NOT NULL, prompt TEXT NOT NULL,
    claimed_by TEXT NOT NULL, claimed_until @real NOT NULL, decided_at @real);
CREATE INDEX IF NOT EXISTS reviews_by_status ON reviews (status, created_at);
CREATE TABLE IF NOT EXISTS review_events (
    id @serial, review TEXT NOT NULL, at @real NOT NULL, person TEXT NOT NULL, type TEXT NOT NULL,
    category TEXT NOT NULL, rule TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS appeals (
    id TEXT PRIMARY KEY, decision TEXT NOT NULL, tenant TEXT NOT NULL, created_at @real NOT NULL,
    deadline @real NOT NULL, status TEXT NOT NULL, answered_at @real, answered_by TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS appeals_by_decision ON appeals (decision);
CREATE TABLE IF NOT EXISTS appeal_messages (
    appeal TEXT NOT NULL, seq @int NOT NULL, at @real NOT NULL, author TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (appeal, seq));
CREATE TABLE IF NOT EXISTS takedowns (image TEXT PRIMARY KEY, at @real NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, url TEXT NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL,
    created_at @real NOT NULL, attempts @int NOT NULL, next_at @real NOT NULL, status TEXT NOT NULL,
    error TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS deliveries_by_time ON deliveries (status, next_at);
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, level @real NOT NULL, at @real NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL, bytes @int NOT NULL,
    created_at @real NOT NULL, expires_at @real NOT NULL);
CREATE INDEX IF NOT EXISTS files_by_tenant ON files (tenant, created_at);
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, api_key TEXT NOT NULL, endpoint TEXT NOT NULL,
    input_file TEXT NOT NULL, metadata TEXT, status TEXT NOT NULL, ending TEXT NOT NULL, errors TEXT NOT NULL,
    times TEXT NOT NULL, created_at @real NOT NULL, expires_at @real NOT NULL, ended_at @real,
    output_file TEXT, error_file TEXT, runner TEXT NOT NULL, lease_until @real NOT NULL);
CREATE INDEX IF NOT EXISTS batches_by_tenant ON batches (tenant, created_at);
CREATE INDEX IF NOT EXISTS batches_by_lease ON batches (ended_at, lease_until);
CREATE TABLE IF NOT EXISTS batch_lines (
    batch TEXT NOT NULL, line @int NOT NULL, start @int NOT NULL, length @int NOT NULL, state TEXT NOT NULL,
    job TEXT NOT NULL, PRIMARY KEY (batch, line))
"""

# Columns that a table has not had from the beginning, with what they hold in older rows: table, column, definition.
ADDED = (
    ("tenants", "labels", "TEXT NOT NULL DEFAULT '[]'"),
    ("jobs", "form", "TEXT NOT NULL DEFAULT ''"),
    ("jobs", "trace", "TEXT NOT NULL DEFAULT ''"),
)


def statements(dialect: Mapping[str, str]) -> list[str]:
    """The statements that make what is not there yet."""
    text = _TABLES
    for name, kind in dialect.items():
        text = text.replace(name, kind)
    return [statement.strip() for statement in text.split(";")]
