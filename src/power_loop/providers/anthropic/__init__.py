"""Models behind a server of the Anthropic Messages protocol."""
