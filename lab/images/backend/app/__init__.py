"""A stand-in for Integr8sCode's backend: the same contract with its surroundings, a small part of its functions."""
