"""Sub-agents: a child session is a tool call of its parent."""
