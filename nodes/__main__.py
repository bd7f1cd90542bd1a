"""`python -P -m nodes TOPOLOGY --name NAME` is `mesh node TOPOLOGY --name NAME`."""

import sys

from nodes.cli import exit_code
from nodes.commands.starting import node

if __name__ == "__main__":
    sys.exit(exit_code(node, name="python -m nodes"))
