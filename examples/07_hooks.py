"""Hooks: a veto that the model reads, a secret that is never stored, and an answer that is not accepted yet.

Runs offline with a scripted model: ``python examples/07_hooks.py``.
"""

import asyncio
import tempfile
from pathlib import Path

from power_loop import AgentHooks, HookDirective, HookPoint, StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, say


def read_account(number: int) -> str:
    """The balance of an account."""
    return f"account {number}: 42 euros, PIN 1234"


def only_own_accounts(ctx):
    if ctx.tool_args["number"] != 7:
        ctx.output = "This is not your account."
        return HookDirective.SKIP
    return None


def no_pins(ctx):
    ctx.output = ctx.output.replace("PIN 1234", "PIN ****")


def politely(ctx):
    if "please" not in ctx.final_text:
        ctx.message = "Say it politely."
        return HookDirective.SKIP
    return None


async def main() -> None:
    hooks = AgentHooks()
    hooks.register(HookPoint.TOOL_BEFORE, only_own_accounts, name="own-accounts")
    hooks.register(HookPoint.TOOL_AFTER, no_pins)
    hooks.register(HookPoint.COMPLETE_DECIDE, politely)
    model = ScriptedLLM([call("read_account", number=8), call("read_account", number=7), say("42 euros."), say("42 euros, if you please.")])

    with tempfile.TemporaryDirectory() as folder:
        loop = StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "bank.db"), tools=[read_account], hooks=hooks)
        async with loop:
            session = await loop.new_session()
            result = await loop.send("What is on account 8, and on mine?", session)
            for message in await loop.get_messages(session):
                print(f"{message['role']:>9}: {message['content'] or '(calls a tool)'}")
    print(f"{result.rounds} rounds, {result.tool_calls} tool call, {result.status}")


if __name__ == "__main__":
    asyncio.run(main())
