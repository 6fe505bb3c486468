"""The tools that come along. Nothing is imported here: `tools.presets` loads a tool's module when its name is asked for.

A module of built-in tools offers two things, and stands in the table `TOOL_MODULES` of `tools.presets`:

- ``DEFINITIONS``: a tuple of `ToolDefinition`, complete and constant, the same for every registry;
- ``handlers(given)``: a function that takes a `given.Given` and returns ``{tool name: handler}``, one for each definition.

A handler is a plain or async function whose first parameter is annotated `ToolRun`, the rest are the schema's
properties by name. What it needs it gets from these two, when it is called and not before:

- ``given.env(run)``: the `RuntimeEnv` of this call (workspace, home, skills, shell backend, board); it may raise `RuntimeEnvError`;
- ``given.memory.of(run)``: what this process remembers of the call's session (stamps of files it read, roots that skills opened);
- ``run``: session, store, cancellation, progress, config.

It reports failure by `failed(text)` of `given`, a `ToolHandlerResult`; its text says what was wrong, where, and what to try, and
never names an absolute path outside of the allowed roots. State that must outlive the process goes to ``run.store``.
"""
