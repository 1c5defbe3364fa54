"""Whatever can answer: the local engine, vLLM in process, any OpenAI-compatible endpoint."""
