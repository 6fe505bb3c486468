"""Map and reduce over files, each in a process of its own: the leaf reads its file, and sees nothing of the parent's environment."""

import asyncio
import os
import tempfile
from pathlib import Path

from power_loop import StatefulAgentLoop
from power_loop.llm import EchoLLM
from power_loop.workflow import SubprocessExecutor, WorkerBootstrap, cleanup_run, create_workflow


def count(files: list[str]) -> dict:
    reader = {"name": "reader", "system_prompt": "Say what the file is about.", "tools": ["read_file"]}
    return {
        "name": "files",
        "root": {
            "type": "sequence",
            "steps": [
                {
                    "type": "foreach",
                    "id": "map",
                    "as": "file",
                    "items": files,
                    "max_concurrency": 2,
                    "on_error": "continue",
                    "body": {"type": "agent", "id": "read", "spec": reader, "input": "Read {{file}}.", "timeout_s": 60},
                },
                {"type": "agent", "id": "reduce", "spec": {"name": "sum", "system_prompt": "Sum up."}, "input": "In short:\n{{map}}"},
            ],
        },
    }


def write_files(folder: Path) -> None:
    for name in ("birds", "bees"):
        (folder / f"{name}.txt").write_text(f"All about {name}.")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        executor = SubprocessExecutor(
            bootstrap=WorkerBootstrap(llm_from_env=True, tool_preset="explore", workspace_dir=folder),
            runs_dir=Path(folder, ".runs"),
            env={"POWER_LOOP_PROVIDER": os.environ.get("POWER_LOOP_PROVIDER", "echo")},
        )
        async with StatefulAgentLoop(llm=EchoLLM(), dsn=":memory:") as loop:
            result = await create_workflow(count(sorted(os.listdir(folder))), parent_loop=loop, executor=executor).run()
            print(result.summary())
            for name, leaf in result.results.items():
                print(name, leaf.status, Path(leaf.db_path).name if leaf.db_path else "")
            print(result.final)
            cleanup_run(executor.runs_dir, result.run_id)


asyncio.run(main())
