"""Commands in a shell: how one is started, driven, bounded and ended, and what is refused before it starts.

The tools that a model calls stand in `tools.builtin`.
"""
