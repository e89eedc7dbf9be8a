"""See what AI agents spend, from the OpenTelemetry spans they already emit."""

__version__ = "0.1.0"
