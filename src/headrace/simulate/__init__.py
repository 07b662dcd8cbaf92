"""The world: a simulator in which a policy's true value is known."""
