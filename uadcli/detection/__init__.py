"""One scan from its file to its map, findings, picture, page and sidecar."""
