"""What lies under outputs/: writing a run, reading many. Only checkpoint.py needs torch."""
