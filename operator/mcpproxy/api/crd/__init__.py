"""The CustomResourceDefinition, generated from the models of `api.v1alpha1`."""
