"""The command line: argument parsing and tables; no SQL, no arithmetic."""
