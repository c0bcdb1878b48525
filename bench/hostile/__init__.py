"""A proxy between hostile clients, hostile backends and well-behaved ones: `make hostile`."""
