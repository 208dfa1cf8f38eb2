"""Fitted and tabular methods: every update sees the whole log."""
