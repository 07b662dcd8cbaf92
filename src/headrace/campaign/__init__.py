"""Campaigns: spending a budget on channels and users."""
