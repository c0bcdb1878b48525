"""Authorization: decides who may use which components.

Pure: no clock, no I/O, no randomness. It knows neither HTTP nor backends.
"""
