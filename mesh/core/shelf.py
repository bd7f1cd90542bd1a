"""What a node has put into its store."""

WARM_BYTES = 256 << 20  # of states in memory
