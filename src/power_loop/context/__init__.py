"""How the records are shown to a model. Pure: the same records give the same window."""
