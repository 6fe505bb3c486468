"""TLS to PostgreSQL: what the options ask for is kept, or nothing is sent."""

from __future__ import annotations

import shutil

import pytest
from certificates import ADDRESS, certificate
from servers import NoServer, folder_for, user_to_run_as
from servers_postgres import Postgres

from power_loop.contracts.errors import StoreUnavailable
from power_loop.store.dsn import parse_dsn
from power_loop.store.postgres import PostgresDatabase


@pytest.fixture(scope="module")
def papers():
    try:
        user = user_to_run_as("postgres")
    except NoServer as error:
        pytest.skip(str(error))
    folder = folder_for(user, "power-loop-tls-")
    authority = certificate(folder, "ca")
    certificate(folder, "server", authority, ADDRESS)
    certificate(folder, "other_ca")
    for paper in folder.iterdir():
        paper.chmod(0o600 if paper.suffix == ".key" else 0o644)
        if user is not None:
            shutil.chown(paper, user)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(papers):
    try:
        running = Postgres(ssl="on", ssl_cert_file=f"{papers}/server.pem", ssl_key_file=f"{papers}/server.key")
    except NoServer as error:
        pytest.skip(str(error))
    yield running
    running.stop()


async def is_encrypted(dsn):
    """Raises `StoreUnavailable`."""
    database = PostgresDatabase(parse_dsn(dsn))
    try:
        return (await database.read("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))[0][0]
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("options", "encrypted"),
    [
        ("", True),  # preferred, as everywhere
        ("?sslmode=disable", False),
        ("?sslmode=require", True),
        ("?sslmode=verify-ca&sslrootcert={}/ca.pem", True),
        ("?sslmode=verify-full&sslrootcert={}/ca.pem", True),
    ],
)
async def test_a_connection_is_encrypted_as_the_options_say(server, papers, options, encrypted):
    assert await is_encrypted(server.dsn("postgres") + options.format(papers)) is encrypted


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_a_server_that_cannot_prove_who_it_is_hears_nothing(server, papers, mode):
    with pytest.raises(StoreUnavailable, match="certificate"):
        await is_encrypted(f"{server.dsn('postgres')}?sslmode={mode}&sslrootcert={papers}/other_ca.pem")


async def test_a_server_of_another_name_is_refused_where_the_name_counts(server, papers):
    elsewhere = server.dsn("postgres").replace("127.0.0.1", "localhost")
    assert await is_encrypted(f"{elsewhere}?sslmode=verify-ca&sslrootcert={papers}/ca.pem")
    with pytest.raises(StoreUnavailable, match="certificate"):
        await is_encrypted(f"{elsewhere}?sslmode=verify-full&sslrootcert={papers}/ca.pem")
