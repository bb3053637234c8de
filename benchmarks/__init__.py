"""The paper's experiments: its bottom-up networks, training and figures."""
