"""Perform what the kernel decides, and write down what came of it. Knows ports, not engines."""
