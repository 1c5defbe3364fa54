"""HTTP to endpoints: deadlines, retries, keys; and questions to a language model that judges."""
