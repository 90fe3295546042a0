"""Where readings come from: the thin files that touch hardware and /proc."""
