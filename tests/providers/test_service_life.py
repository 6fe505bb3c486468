"""One service, many callers: event loops, threads, the line at the gate, proxies, the end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from power_loop.contracts.gate import Gate
from power_loop.providers.clients import proxy_settings


async def test_a_service_answers_in_several_event_loops_at_once(wire: Any, h: Any) -> None:
    llm = wire.llm()

    def elsewhere() -> str:
        async def call_and_close() -> str:
            try:
                return (await llm.complete(h.ask())).text
            finally:
                await (await llm._clients.get()).close()

        return asyncio.run(call_and_close())

    assert (await llm.complete(h.ask())).text == "fine"
    assert await asyncio.gather(*(asyncio.to_thread(elsewhere) for _ in range(3))) == ["fine"] * 3
    assert (await llm.complete(h.ask())).text == "fine"


async def test_a_closed_service_opens_again_and_closes_twice(wire: Any, h: Any) -> None:
    llm = wire.llm()
    await llm.close()
    await llm.complete(h.ask())
    await llm.close()
    await llm.close()
    assert (await llm.complete(h.ask())).text == "fine"


async def test_one_connection_serves_one_call_after_another(wire: Any, server: Any, h: Any) -> None:
    llm = wire.llm()
    for _ in range(3):
        await llm.complete(h.ask())
    assert len(server.asked) == 3
    assert len(server._tasks) == 1


async def test_calls_side_by_side_do_not_mix(wire: Any, server: Any, h: Any) -> None:
    for word in ("a", "b", "c", "d"):
        reply = h.chat_stream({"content": word}) if wire.name == "openai" else h.messages_stream({"type": "text", "text": word})
        server.answers.append(h.Answer(reply))
    llm = wire.llm()
    replies = await asyncio.gather(*(llm.complete(h.ask(str(n))) for n in range(4)))
    assert sorted(reply.text for reply in replies) == ["a", "b", "c", "d"]


async def test_only_so_many_calls_are_in_flight(wire: Any, server: Any, h: Any) -> None:
    server.answers.append(h.Answer(b"", hold=True))
    llm = wire.llm(max_concurrency=1)
    first = asyncio.create_task(llm.complete(h.ask("first")))
    await server.held.wait()
    second = asyncio.create_task(llm.complete(h.ask("second")))
    await asyncio.sleep(0)
    assert len(server.asked) == 1
    first.cancel()
    assert (await second).text == "fine"
    assert len(server.asked) == 2


# --- the gate ---------------------------------------------------------------------------------------


async def test_the_line_is_first_come_first_served_and_survives_who_leaves() -> None:
    gate, order = Gate(1), list[int]()

    async def caller(number: int) -> None:
        async with gate:
            order.append(number)
            await asyncio.sleep(0)

    callers = [asyncio.create_task(caller(number)) for number in range(5)]
    await asyncio.sleep(0)
    callers[2].cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert order == [0, 1, 3, 4]
    await caller(9)


async def test_a_place_offered_to_someone_who_just_left_goes_to_the_next() -> None:
    gate = Gate(1)
    await gate.__aenter__()
    leaving, staying = asyncio.create_task(gate.__aenter__()), asyncio.create_task(gate.__aenter__())
    await asyncio.sleep(0)
    await gate.__aexit__(None, None, None)
    leaving.cancel()
    await staying


def test_the_line_reaches_over_threads() -> None:
    gate, inside, most = Gate(2), [0], [0]
    lock = threading.Lock()

    async def caller() -> None:
        async with gate:
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            await asyncio.sleep(0.001)
            with lock:
                inside[0] -= 1

    async def many() -> None:
        await asyncio.gather(*(caller() for _ in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == ([0], [2])


def test_a_gate_for_nobody_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="max_concurrency"):
        Gate(0)


# --- proxies ------------------------------------------------------------------------------------------


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def set_proxies(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_proxies


def test_socks_is_understood_as_socks5(proxies: Any) -> None:
    proxies(ALL_PROXY="socks://127.0.0.1:1080", NO_PROXY="inside.example")
    assert proxy_settings("https://api.example/v1") == {"proxy": "socks5://127.0.0.1:1080"}
    assert proxy_settings("https://inside.example/v1") == {"trust_env": False}


def test_proxies_that_clients_understand_are_left_to_them(proxies: Any) -> None:
    assert proxy_settings("https://api.example/v1") is None
    proxies(HTTPS_PROXY="http://127.0.0.1:3128")
    assert proxy_settings("https://api.example/v1") is None
    proxies(ALL_PROXY="socks://127.0.0.1:1080")
    assert proxy_settings("https://api.example/v1") == {"proxy": "http://127.0.0.1:3128"}


async def test_a_service_works_past_a_socks_proxy(proxies: Any, wire: Any, h: Any) -> None:
    proxies(ALL_PROXY="socks://127.0.0.1:9", NO_PROXY="127.0.0.1")
    assert (await wire.llm().complete(h.ask())).text == "fine"
