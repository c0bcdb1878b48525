"""Audit log: who called what, and how it ended. It knows neither HTTP nor sessions."""
