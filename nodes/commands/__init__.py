"""The subcommands of `mesh`, a file a group. They parse, call what does the work, and print."""
