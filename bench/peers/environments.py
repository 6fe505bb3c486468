"""Which libraries are measured, and an environment of its own for each: made once, kept in a folder that git ignores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / "build" / "peers"


@dataclass(frozen=True)
class Environment:
    """One library, and where its Python is."""

    name: str
    packages: tuple[str, ...]
    shown: tuple[str, ...]
    """The distributions whose versions the table shows."""
    imports: str
    """What a program that uses it as here must import."""
    storage: str

    @property
    def program(self) -> Path:
        return HERE / f"with_{self.name.replace('-', '_')}.py"

    @property
    def python(self) -> Path:
        return CACHE / self.name / "bin" / "python"

    def make(self) -> None:
        """Make the environment, if it is not there. Our own is made anew each time, from this tree."""
        ours = self.packages == (str(ROOT),)
        if self.python.exists() and not ours:
            return
        uv = shutil.which("uv")
        quiet = ["--quiet"]
        if not self.python.exists():
            subprocess.run([uv, "venv", *quiet, "--python", sys.executable, str(self.python.parent.parent)] if uv
                           else [sys.executable, "-m", "venv", str(self.python.parent.parent)], check=True)  # fmt: skip
        install = [uv, "pip", "install", *quiet, "--python", str(self.python)] if uv else [str(self.python), "-m", "pip", "install", *quiet]
        subprocess.run([*install, *(["--reinstall-package", "power-loop"] if ours and uv else []), *self.packages], check=True)

    def versions(self) -> str:
        code = "import sys; from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in sys.argv[1:]), sep=', ')"
        return subprocess.run([self.python, "-c", code, *self.shown], capture_output=True, text=True, check=True).stdout.strip()


WAL = "SQLite, WAL, synchronous=FULL by SQLite's default"
ENVIRONMENTS = (
    Environment("power-loop", (str(ROOT),), ("power-loop",), "from power_loop import StatefulAgentLoop", "SQLite, WAL, synchronous=FULL"),
    Environment(
        "langgraph", ("langchain", "langgraph", "langgraph-checkpoint-sqlite"), ("langgraph", "langgraph-checkpoint-sqlite", "langchain"),
        "from langchain.agents import create_agent; from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver",
        f"{WAL}; `durability=\"sync\"`",
    ),
    Environment("openai-agents", ("openai-agents",), ("openai-agents",), "from agents import Agent, Runner, SQLiteSession", WAL),
    Environment(
        "pydantic-ai", ("pydantic-ai-slim", "dbos"), ("pydantic-ai-slim", "dbos"),
        "from pydantic_ai import Agent; from pydantic_ai.durable_exec.dbos import DBOSDurability; from dbos import DBOS",
        "DBOS on SQLite, its default journal, synchronous=FULL by SQLite's default; messages in a table of the program's own",
    ),
    Environment(
        "agno", ("agno", "sqlalchemy", "greenlet", "aiosqlite"), ("agno",),
        "from agno.agent import Agent; from agno.db.sqlite import SqliteDb", f"{WAL}; `checkpoint=\"tool-batch\"`",
    ),
    Environment(
        "google-adk", ("google-adk", "aiosqlite"), ("google-adk",),
        "from google.adk.agents import LlmAgent; from google.adk.runners import Runner; "
        "from google.adk.sessions.sqlite_session_service import SqliteSessionService",
        "SQLite, its default journal, synchronous=FULL by SQLite's default; resumable `App`",
    ),
)  # fmt: skip
