"""What a manifest would serve: document (pure: the plan and what differs), gather (connects)."""
