"""The vocabulary and the ports. Standard library only; imports nothing else of ours."""
