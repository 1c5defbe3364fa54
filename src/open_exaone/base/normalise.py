"""Prompts as they are compared."""


def normalise_prompt(text: str) -> str:
    """A prompt without case and with single spaces: two prompts that are equal so are the same prompt."""
    return " ".join(text.casefold().split())
