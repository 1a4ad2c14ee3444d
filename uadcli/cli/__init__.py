"""The commands: Typer only, one file per group; a command parses, calls one function of the library, and prints."""
