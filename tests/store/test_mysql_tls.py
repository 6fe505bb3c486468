"""TLS to MySQL and MariaDB: what the options ask for is kept, or nothing is sent."""

from __future__ import annotations

import shutil

import engines
import pytest
import servers_mysql
from certificates import ADDRESS, certificate
from cryptography import x509
from servers import NoServer, folder_for, user_to_run_as

from power_loop.contracts.errors import StoreUnavailable
from power_loop.store.dsn import parse_dsn
from power_loop.store.mysql import MysqlDatabase


@pytest.fixture(scope="module")
def papers():
    try:
        folder = folder_for(user_to_run_as("mysql"), "power-loop-tls-")
    except NoServer as error:
        pytest.skip(str(error))
    authority = certificate(folder, "ca")
    certificate(folder, "server", authority, ADDRESS)
    certificate(folder, "elsewhere", authority, x509.SubjectAlternativeName([x509.DNSName("db.example")]))
    certificate(folder, "client", authority)
    certificate(folder, "other_ca")
    for paper in folder.iterdir():
        paper.chmod(0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["mariadb", "mysql"])
def build(request):
    return engines.own(request.param).build


def server(build, papers, name):
    return servers_mysql.Mysql(build, ssl_ca=f"{papers}/ca.pem", ssl_cert=f"{papers}/{name}.pem", ssl_key=f"{papers}/{name}.key")


async def cipher(dsn):
    """What the connection is encrypted with; empty when it is not. Raises `StoreUnavailable`."""
    database = MysqlDatabase(parse_dsn(dsn))
    try:
        return dict(await database.read("SHOW STATUS LIKE 'Ssl_cipher'"))["Ssl_cipher"]
    finally:
        await database.close()


async def refused(dsn, said):
    with pytest.raises(StoreUnavailable, match=said):
        await cipher(dsn)


async def test_a_connection_is_encrypted_as_asked_and_the_server_is_who_it_says(build, papers):
    running = server(build, papers, "server")
    try:
        dsn = running.dsn("mysql")
        for options in (f"ssl_ca={papers}/ca.pem", f"ssl_ca={papers}/ca.pem&ssl_verify=ca", "ssl_verify=0"):
            assert await cipher(f"{dsn}?{options}")
        assert await cipher(dsn) == ""
        await refused(f"{dsn}?ssl_ca={papers}/other_ca.pem", "no encryption was agreed upon; see ssl_ca.*certificate verify failed")
        await refused(f"{dsn}?ssl_verify=1", "certificate verify failed")
        await refused(f"{dsn}?ssl_ca={papers}/gone.pem", "No such file")

        await running.run("CREATE USER 'known'@'127.0.0.1' REQUIRE X509", "GRANT SELECT ON mysql.* TO 'known'@'127.0.0.1'")
        known = dsn.replace("kernel@", "known@")
        assert await cipher(f"{known}?ssl_ca={papers}/ca.pem&ssl_cert={papers}/client.pem&ssl_key={papers}/client.key")
        await refused(f"{known}?ssl_ca={papers}/ca.pem", "it refused the user or the password")
    finally:
        running.stop()


async def test_a_certificate_for_another_name_is_refused_unless_only_the_chain_counts(papers):
    running = server(engines.own("mariadb").build, papers, "elsewhere")
    try:
        dsn = f"{running.dsn('mysql')}?ssl_ca={papers}/ca.pem"
        await refused(dsn, "IP address mismatch")
        assert await cipher(f"{dsn}&ssl_verify=ca")
    finally:
        running.stop()


async def test_a_server_without_tls_is_told_nothing_when_tls_was_asked_for(papers):
    dsn = engines.own("mariadb").dsn("mysql")
    for options in ("ssl_verify=0", f"ssl_ca={papers}/ca.pem"):
        await refused(f"{dsn}?{options}", "the server offers no TLS")
