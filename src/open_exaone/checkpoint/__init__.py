"""Floor 3: a model's folder in Hugging Face layout; joins `model` and `text`. safetensors only."""
