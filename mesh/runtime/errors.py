"""Errors of a node's start and end, for the operator."""


class StartError(Exception):
    """A node cannot start: one sentence with the values, exit code 2. Nothing was changed."""


class AppFailed(Exception):
    """The author's source or sink raised what is no ConnectorError: one sentence that names it and the line."""
