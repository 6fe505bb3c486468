"""Models behind the port `contracts.model.LLMService`: two wires over HTTP, and models made of other models."""
