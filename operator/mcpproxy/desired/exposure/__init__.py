"""Routes from outside the cluster to the Service, for `spec.expose`. Pure."""
