"""Network parts that several methods share. B journeys, T steps, D width."""
