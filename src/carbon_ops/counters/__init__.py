"""Pure arithmetic on counters: ticks, wraps, gaps, zones and the timeline."""
