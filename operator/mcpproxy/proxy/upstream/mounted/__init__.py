"""Values and certificates that the kubelet mounts and replaces."""
