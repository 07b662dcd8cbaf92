"""Channel methods: which channel next, and what it will bring. One method, one file."""
