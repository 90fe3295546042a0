"""The parts of aliasing_demo.py: readers, simulated counters, the picture."""
