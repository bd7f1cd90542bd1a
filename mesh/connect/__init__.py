"""Sources and sinks, one a file."""
