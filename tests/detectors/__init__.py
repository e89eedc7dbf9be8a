"""What the detectors find in recorded executions."""
