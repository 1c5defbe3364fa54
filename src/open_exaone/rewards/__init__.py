"""From a verdict to a number: the terms of a reward, their rubric, and their weighted sum."""
