"""Databases that an older version made: they are brought up to date when they are opened, and keep their rows."""

from __future__ import annotations

from pathlib import Path

from service.settings import Settings
from service.stores import open_database
from service.stores.schema import ADDED

TENANT = "INSERT INTO tenants (id, name, created_at, suspended, policy, policy_digest, jurisdiction,"
TENANT += " requests_per_minute, images_per_day, concurrent_jobs, webhook_url, webhook_secrets)"
TENANT += " VALUES ('acme', 'Acme', 0, 0, '', '', '', 0, 0, 0, '', '[]')"


def test_columns_that_came_later_are_added(database_address: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database=database_address)
    made = open_database(settings)
    with made.transaction() as transaction:
        for table, column, _ in ADDED:
            transaction.run(f"ALTER TABLE {table} DROP COLUMN {column}")
        if database_address:
            transaction.run("DELETE FROM schema_made")
        transaction.run(TENANT)
    made.close()
    opened = open_database(settings)
    row = opened.one("SELECT name, labels FROM tenants WHERE id = 'acme'")
    assert row == {"name": "Acme", "labels": "[]"}
    assert opened.all("SELECT form, trace FROM jobs") == []
    opened.close()
    # A second time there is nothing to do.
    again = open_database(settings)
    assert again.one("SELECT labels FROM tenants WHERE id = 'acme'") == {"labels": "[]"}
    again.close()
