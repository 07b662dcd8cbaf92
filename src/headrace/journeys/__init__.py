"""Journeys: schema, readers, store, splits, views, Memory, leak audit, and the seams the other rooms speak through."""
