"""headrace: from logs of what was shown to policies whose worth is known before they go live."""

__version__ = "0.1.0"
