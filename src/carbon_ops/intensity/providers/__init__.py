"""Live providers of grid intensity; none is called unless configured."""
