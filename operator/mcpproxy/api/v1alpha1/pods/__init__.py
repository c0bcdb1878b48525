"""Models of the parts of the spec that concern pods alone. Import them from `api.v1alpha1`."""
