"""Without an event loop: the blocking twins `new_session_sync`, `send_sync`, `follow_up_sync` and `run_sync`."""

from power_loop import StatefulAgentLoop

loop = StatefulAgentLoop(llm="echo:", dsn="sync.db")
try:
    session = loop.new_session_sync(metadata={"from": "a script"})
    print(loop.send_sync("Hello.", session).final_text)
    print(loop.follow_up_sync("Still there?", session).final_text)  # nothing runs, so it is a send
    print(loop.run_sync("A session of its own, please.").session_id)  # made a new session
finally:
    loop.close()
