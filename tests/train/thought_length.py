"""A reward of one's own that tells the replies of a random model apart."""


def score(sample):
    return float(len(sample["thought"]) % 3)
