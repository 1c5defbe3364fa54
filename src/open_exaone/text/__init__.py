"""Floor 2: tokenizer, chat formats with loss masks, splitting of replies. No torch here."""
