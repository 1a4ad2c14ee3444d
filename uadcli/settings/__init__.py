"""How settings are checked, read and written; what they are stands in `uadcli.config`."""
