"""Memories that come along. The port is `contracts.memory`; asking and telling one is the business of `runtime.memory`."""
