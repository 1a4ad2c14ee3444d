"""The commands: Typer only, one file per group; a command parses, calls one function of `run/`, and prints."""
