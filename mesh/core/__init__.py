"""The machines of a node: pure state, events in, effects out. No clock, no socket, no thread, no disk in here."""
