"""A reward of one's own: `reward = "my_rewards.py:score"` in an `rl` stage, or a term among others with a weight."""


def score(sample: dict) -> float:
    """Right answers earn 1; a fifth of that is given for showing a product in the thought, right or wrong."""
    shows_work = " * 60 = " in sample["thought"]
    return 1.0 * (sample["verdict"] == "correct") + 0.2 * shows_work
