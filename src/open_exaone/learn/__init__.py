"""Floor 3: losses, advantages and optimizers: pure functions of tensors, named as in the field."""
