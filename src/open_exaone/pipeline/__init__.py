"""Floor 6: a recipe's stages, run one after the other, resumed, measured and reported."""
