"""Weight files and where they come from: bundled, cached or on the Hub; registry and model cards."""
