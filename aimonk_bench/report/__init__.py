"""The report page: one HTML file about finished work, which opens from disk and asks nothing of the network."""
