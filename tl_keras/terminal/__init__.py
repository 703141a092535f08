"""What is shown in a terminal: progress, and results as tables and lines; `results` says which belong to a mode."""
