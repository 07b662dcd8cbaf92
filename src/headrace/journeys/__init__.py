"""Journeys: log schema, readers, store, splits, views, Memory, leak audit, and the seams other rooms speak through."""
