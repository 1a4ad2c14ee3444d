"""Checking, reading and writing settings; the settings themselves are in `uadcli.config`."""
