"""The runner of all engines: rows through steps into committed shards. The names are offered by `intarsia.engines`."""
