"""Access in plans: who could use what under the rules of a manifest, and how much of it."""
