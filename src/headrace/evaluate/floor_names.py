"""The names of the floors, from the simplest to the strongest; floors.py says what each one is."""

CLASS_FLOORS = (  # of the channel and of gains of classes
    *("uniform", "prior", "majority", "repeat-last", "past-frequencies", "markov"),
    *("look-up", "logged", "logistic", "trees", "lightgbm"),
)
GAIN_FLOORS = ("prior", "past-rate", "look-up", "logistic", "trees", "lightgbm")
FLOORS = (
    *("uniform", "prior", "majority", "repeat-last", "past-frequencies", "past-rate", "markov"),
    *("look-up", "logged", "logistic", "trees", "lightgbm"),
)
