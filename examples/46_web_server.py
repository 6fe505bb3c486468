"""A web server: an answer streamed as server-sent events, a session for each user, and a browser that leaves. Needs starlette.

Runs offline with a scripted model: ``python examples/46_web_server.py``. With uvicorn, ``uvicorn 46_web_server:app`` would serve it.
"""

import json
from contextlib import aclosing, asynccontextmanager

from power_loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, say

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient
except ImportError:
    raise SystemExit(print("This example needs starlette: pip install starlette")) from None


async def session_of(request: Request) -> str:
    session = f"user/{request.headers['x-user']}"  # from your login
    if not await request.app.state.loop.prewarm(session):
        await request.app.state.loop.new_session(session_id=session)
    return session


async def chat(request: Request) -> StreamingResponse:
    text, session = (await request.json())["text"], await session_of(request)

    async def frames():
        # Leaving the stream cancels the send: nobody pays on for a closed tab.
        async with aclosing(request.app.state.loop.stream(text, session)) as events:
            async for event in events:
                if event.delta:
                    yield f"data: {json.dumps(event.delta)}\n\n"

    return StreamingResponse(frames(), media_type="text/event-stream")


async def history(request: Request) -> JSONResponse:
    return JSONResponse(await request.app.state.loop.get_messages(await session_of(request)))


@asynccontextmanager
async def lifespan(app: Starlette):
    async with StatefulAgentLoop(llm=ScriptedLLM([say("Hello Ada."), say("Hello Bob.")]), dsn=":memory:") as app.state.loop:
        yield


app = Starlette(routes=[Route("/chat", chat, methods=["POST"]), Route("/history", history)], lifespan=lifespan)

with TestClient(app) as web:
    for user in ("ada", "bob"):
        print(user, web.post("/chat", json={"text": "Hello!"}, headers={"x-user": user}).text.split("\n\n")[:-1])
    print([row["content"] for row in web.get("/history", headers={"x-user": "ada"}).json()])
