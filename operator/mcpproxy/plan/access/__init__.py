"""Access in plans: who could use what under the rules of a manifest."""
