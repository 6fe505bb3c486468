"""What a DSN may look like, and that a mistyped one is a ValueError and never a file."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from power_loop.contracts.errors import StoreUnavailable
from power_loop.store.dsn import Dsn, parse_dsn
from power_loop.store.open import open_database


@pytest.mark.parametrize(
    ("text", "dsn"),
    [
        ("app.db", Dsn("sqlite", "app.db")),
        ("./x", Dsn("sqlite", "./x")),
        ("/abs/app.db", Dsn("sqlite", "/abs/app.db")),
        (Path("folder") / "app.db", Dsn("sqlite", os.path.join("folder", "app.db"))),
        ("./sqlite:x", Dsn("sqlite", "./sqlite:x")),
        ("what?.db", Dsn("sqlite", "what?.db")),
        ("C:\\data\\app.db", Dsn("sqlite", "C:\\data\\app.db")),
        (":memory:", Dsn("memory")),
        ("sqlite://", Dsn("memory")),
        ("sqlite:///:memory:", Dsn("memory")),
        ("sqlite:///rel.db", Dsn("sqlite", "rel.db")),
        ("sqlite:////abs.db", Dsn("sqlite", "/abs.db")),
        ("sqlite:///a%20b%3F.db", Dsn("sqlite", "a b?.db")),
        ("sqlite:///C:/data/app.db", Dsn("sqlite", "C:/data/app.db")),
        ("SQLite+aiosqlite:///x.db", Dsn("sqlite", "x.db")),
        (
            "sqlite:///x.db?synchronous=normal&busy_timeout_ms=50",
            Dsn("sqlite", "x.db", options={"synchronous": "normal", "busy_timeout_ms": "50"}),
        ),
        ("postgres://h/d", Dsn("postgresql", host="h", database="d")),
        (
            "postgresql+asyncpg://me:p%40ss@h:6543/d?sslmode=require&pool_max=3",
            Dsn(
                "postgresql", host="h", port=6543, user="me", password="p@ss", database="d", options={"sslmode": "require", "pool_max": "3"}
            ),
        ),
        ("postgresql://me@[::1]:5432/d", Dsn("postgresql", host="[::1]", port=5432, user="me", database="d")),
        ("mysql://me:@h/d?charset=utf8mb4", Dsn("mysql", host="h", user="me", password="", database="d", options={"charset": "utf8mb4"})),
    ],
)
def test_a_dsn_is_read(text, dsn):
    assert parse_dsn(text) == dsn


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a\0b.db", "NUL"),
        ("mongodb://h/d", "mongodb"),
        ("http://h/app.db", "http"),
        ("file:app.db?mode=ro", "file:"),
        ("sqlite:app.db", "sqlite:"),
        ("sqlite:/app.db", "sqlite:"),
        ("postgres:me@h/d", "postgres:"),
        ("sqlite://app.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///x.db?sync=full", "busy_timeout_ms, synchronous"),
        ("sqlite:///x.db?synchronous=off", "'off'"),
        ("sqlite:///x.db?busy_timeout_ms=soon", "'soon'"),
        ("sqlite:///x.db?busy_timeout_ms=1&busy_timeout_ms=2", "twice"),
        ("app.db?synchronous=normal", "sqlite:///app.db"),
        ("mysql://h/d?sslmode=require", "ssl_ca"),
        ("mysql://h/d?pool_max=many", "'many'"),
        ("mysql://h/d?pool_max=0", "'0'"),
        ("postgresql://h/d?pool_max=0", "'0'"),
        ("postgresql://a:1,b:door,c:2/d", "port"),
        ("postgresql://h/d?pool_max=many", "'many'"),
        ("postgresql://h:door/d", "port"),
    ],
)
async def test_what_is_no_dsn_is_a_value_error_that_says_why_and_leaves_no_file(text, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(says)):
        await open_database(text)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("written", "means"),
    [("h", "h"), ("[::1]", "::1"), ("[::1]:5432", "::1"), ("%2Fvar%2Frun%2Fpostgresql", "/var/run/postgresql"), ("", "")],
)
def test_a_host_is_what_the_system_takes(written, means):
    dsn = parse_dsn(f"postgresql://me@{written}/d")
    assert dsn.server == means
    assert written in str(dsn)


@pytest.mark.parametrize("text", ["postgresql://me:tiger@h/d?sslpassword=tiger", "mysql://me:tiger@h:1/d"])
def test_a_dsn_never_shows_its_password(text):
    dsn = parse_dsn(text)
    assert "tiger" not in f"{dsn} {dsn!r} {dsn:}"
    assert "me" in str(dsn)
    assert dsn.password == "tiger"


@pytest.mark.parametrize("text", ["postgres2:me:tiger@h/d", "postgresql://me:tiger@h:door/d", "postgres:me:tiger@h/d"])
def test_an_error_about_a_dsn_never_shows_its_password(text):
    with pytest.raises(ValueError, match="DSN") as refused:
        parse_dsn(text)
    assert "tiger" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_server_where_nobody_answers_is_said_to_be_so_without_the_password(scheme):
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/d: nobody answers there") as refused:
        await open_database(f"{scheme}://me:tiger@127.0.0.1:1/d")
    assert "tiger" not in str(refused.value)
