"""The dataflow builder: what an application is, as a pure description. Nothing here reads, writes or waits."""
