"""Maps and their ground truth: figures per scan and group, their statistics, and the report of them."""
