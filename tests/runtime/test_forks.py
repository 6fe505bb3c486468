"""Who is told of forks: whoever asked for it and is still alive, in order, whatever another of them does."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from power_loop import StatefulAgentLoop, open_store
from power_loop.contracts import forks
from power_loop.testing import ScriptedLLM

IN_A_PROCESS = """
import logging, os
from power_loop.contracts.forks import mind_forks

logging.basicConfig()
told = []

class Subject:
    def __init__(self, name):
        self.name = name
        mind_forks(self, before=Subject.before, in_parent=Subject.in_parent, in_child=Subject.in_child)
    def before(self):
        told.append(f"before {self.name}")
        if self.name == "b":
            raise ValueError("this one fails")
    def in_parent(self):
        told.append(f"parent {self.name}")
    def in_child(self):
        told.append(f"child {self.name}")

a, b, c, gone = map(Subject, ["a", "b", "c", "gone"])
del gone
read, write = os.pipe()
pid = os.fork()
told = told if pid else ["in the child", *told]
os.write(write, (", ".join(told) + "; ").encode())
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
print(os.read(read, 1000).decode())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of POSIX")
def test_those_who_live_are_told_in_order_and_one_that_fails_keeps_it_from_no_other() -> None:
    ran = subprocess.run([sys.executable, "-c", IN_A_PROCESS], check=True, capture_output=True, text=True)
    parent, child = sorted(filter(None, map(str.strip, ran.stdout.split(";"))))
    assert parent == "before c, before b, before a, parent a, parent b, parent c"
    assert child == "in the child, before c, before b, before a, child a, child b, child c"
    assert "this one fails" in ran.stderr


async def test_a_loop_for_each_request_leaves_nothing_behind() -> None:
    store = await open_store()
    gc.collect()
    before = len(forks._minded)
    for _ in range(20):
        async with StatefulAgentLoop(llm=ScriptedLLM(["done"]), store=store) as loop:
            await loop.run("go")
    del loop
    gc.collect()
    assert len(forks._minded) <= before
    await store.close()


LATE = """
import os, threading
from power_loop.contracts.forks import mind_forks

told, begun, made = [], threading.Event(), threading.Event()

class Subject:
    def __init__(self, name, before):
        self.name, self.acts = name, before
        mind_forks(self, before=Subject.before, in_parent=Subject.in_parent)
    def before(self):
        self.acts()
    def in_parent(self):
        told.append(self.name)

def wait_for_another():
    begun.set()
    made.wait(30)

def make_another():
    global late
    begun.wait(30)
    late = Subject("late", print)
    made.set()

first = Subject("first", wait_for_another)
threading.Thread(target=make_another).start()
if not os.fork():
    os._exit(0)
os.wait()
print(told)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of POSIX")
def test_who_comes_between_a_fork_and_the_word_of_it_has_nothing_to_undo() -> None:
    ran = subprocess.run([sys.executable, "-c", LATE], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "['first']"
