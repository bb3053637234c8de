"""Speed and memory of top-down networks, everything as a ratio measured in one run."""
